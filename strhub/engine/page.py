"""The page of `strhub demo`: a picture, a model and a way of decoding in, a reading and what was seen out."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from math import ceil
from typing import Any

# Gradio and the hub's client read these when they are imported; nothing here needs the internet.
os.environ['GRADIO_ANALYTICS_ENABLED'] = 'False'
os.environ['HF_HUB_DISABLE_TELEMETRY'] = '1'

import gradio as gr
from PIL import Image

from strhub.data.picture import to_rgb
from strhub.engine.errors import is_known, sentence
from strhub.engine.trial import MOST_REFINEMENTS, Decoding, Models, picture, summary, table

MAX_FILE = '20mb'
CLEANING, KEPT = 3600, 86400  # seconds: uploads are looked through so often, and deleted when so old, or at the end
IN_TURN, AT_ONCE = 'character by character (AR)', 'all at once (NAR)'

HINT = 'A picture holds **one word**: drop or paste one, or take an example. Drag over it to crop it.'
CSS = """
.reading .text { font-size: 2.4rem; line-height: 1.2; overflow-wrap: anywhere }
.reading .facts, .remark, .characters th, .characters .others { opacity: .75 }
.characters { width: 100%; border-collapse: collapse; border: none !important; margin: 0 !important }
.characters tr, .characters th, .characters td { border: none !important; padding: .15rem .6rem .15rem 0 !important }
.characters th { text-align: left; font-weight: normal; font-size: .85rem }
.characters .char { font: 1.2rem ui-monospace, monospace } .characters .bar { width: 45% }
.characters .bar div { height: .6rem; min-width: 1px; border-radius: .2rem; background: #3182bd }
.characters .number { font-variant-numeric: tabular-nums; white-space: nowrap }
.characters .others span { margin-right: .7rem; white-space: nowrap } .sight { width: 100%; max-width: 640px }
#picture { position: relative }
#picture img { object-fit: contain; cursor: crosshair; touch-action: none; user-select: none }
.crop-box { position: absolute; pointer-events: none; border: 2px solid #e6550d; box-shadow: 0 0 0 1px #fff8 }
.gallery-item div, .gallery-item img { height: 2.4rem !important; width: auto !important; max-width: none !important }
@media (max-width: 640px) { .gallery { flex-wrap: nowrap !important; overflow-x: auto } .gallery-item { flex: none } }
"""


def make_page(models: Models, examples: Sequence[str]) -> gr.Blocks:
    """The page; the first of the models is chosen."""

    def read(image: Image.Image | None, crop: str, name: str, way: str, refinements: int) -> tuple[str, str, str]:
        if image is None:
            return '', '', ''
        with told():
            decoding = Decoding(way == IN_TURN, int(refinements)) if models.decoding(name) else None
            trial = models.read(name, cropped(to_rgb(image), crop), decoding)
        return summary(trial), table(trial.reading), picture(trial.drawing, trial.reading.text)

    def read_another(image: Image.Image | None, *how: Any) -> tuple[str, ...]:
        return '', *read(image, '', *how)

    def choose(name: str) -> tuple[Any, Any]:
        with told():
            way, refinements, is_free = way_of(models, name)
        return gr.update(value=way, visible=is_free), gr.update(value=refinements, visible=is_free)

    first = models.names[0]
    start, steps, is_free = way_of(models, first)
    with gr.Blocks(title='strhub', analytics_enabled=False, delete_cache=(CLEANING, KEPT)) as page:
        gr.Markdown('# strhub\n' + HINT)
        given = gr.Image(
            type='pil',
            image_mode=None,
            label='picture',
            sources=['upload', 'clipboard'],
            buttons=[],
            height=260,
            elem_id='picture',
            render=False,
        )
        gr.Examples([[example] for example in examples], [given], label='examples', examples_per_page=len(examples))
        with gr.Row():
            with gr.Column():
                given.render()
                crop = gr.Textbox('', visible='hidden', elem_id='crop', label='crop')
                name = gr.Dropdown(
                    models.names, value=first, label='model', visible=len(models.names) > 1, elem_id='model'
                )
                way = gr.Radio([IN_TURN, AT_ONCE], value=start, label='decoding', visible=is_free, elem_id='way')
                refinements = gr.Slider(
                    0, MOST_REFINEMENTS, value=steps, step=1, label='refinement steps', visible=is_free
                )
            with gr.Column():
                shown = [gr.HTML(elem_id='text'), gr.HTML(elem_id='characters'), gr.HTML(elem_id='sight')]
        how: dict[str, Any] = {'trigger_mode': 'always_last', 'concurrency_limit': 1}
        given.change(read_another, [given, name, way, refinements], [crop, *shown], api_visibility='private', **how)
        name.change(choose, [name], [way, refinements], api_visibility='private')
        again = [crop.change, name.change, way.change, refinements.release]
        gr.on(again, read, [given, crop, name, way, refinements], shown, api_name='read', **how)
        page.load(None, js=files('strhub.engine').joinpath('crop.js').read_text(encoding='utf-8'))
    return page


@contextmanager
def told() -> Iterator[None]:
    """Shows a known error on the page, e.g. of a model that is loaded when it is first chosen, in one sentence."""
    try:
        yield
    except Exception as error:
        if not is_known(error):
            raise
        raise gr.Error(sentence(error), print_exception=False) from None


def way_of(models: Models, name: str) -> tuple[str, int, bool]:
    """How a model reads unless it is told otherwise, and whether it can be told."""
    decoding = models.decoding(name)
    if decoding is None:
        return IN_TURN, 0, False
    return (IN_TURN if decoding.autoregressive else AT_ONCE), decoding.refinements, True


def cropped(image: Image.Image, crop: str) -> Image.Image:
    """The part of a picture that the page names, by four shares of it; all of it where it names none."""
    if not crop:
        return image
    try:
        left, top, right, bottom = (min(1.0, max(0.0, float(share))) for share in crop.split())
    except ValueError:
        raise ValueError(f'crop is {crop[:50]!r}: give left, top, right and bottom as shares of the picture') from None
    box = int(left * image.width), int(top * image.height), ceil(right * image.width), ceil(bottom * image.height)
    if box[0] >= box[2] or box[1] >= box[3]:
        raise ValueError('nothing is left of the picture: crop less of it')
    return image.crop(box)


def launch(page: gr.Blocks, *, host: str, port: int | None) -> str:
    """Serves a page, on this machine alone unless `host` says otherwise, and returns its address; does not wait.

    Raises:
        ValueError: it cannot listen there.
    """
    try:
        _, address, _ = page.launch(
            server_name=host,
            server_port=port,
            share=False,
            quiet=True,
            show_error=True,
            prevent_thread_lock=True,
            footer_links=[],
            max_file_size=MAX_FILE,
            ssr_mode=False,
            enable_monitoring=False,
            run_history=False,
            mcp_server=False,
            pwa=False,
            theme=gr.themes.Default(font=['system-ui', 'sans-serif'], font_mono=['ui-monospace', 'monospace']),
            css=CSS,
        )
    except (OSError, OverflowError):  # taken; no such port
        where = f'{host}, port {port}' if port else host
        raise ValueError(f'cannot listen on {where}: give another --host or --port') from None
    return address
