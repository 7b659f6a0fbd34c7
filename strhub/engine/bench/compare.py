"""A picture of models side by side: how long each takes against how large it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from strhub.engine.bench.counts import Counts
from strhub.engine.bench.options import Case
from strhub.engine.bench.timing import Timing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

WIDE = 10  # times the fastest from which on the scale is logarithmic
MAX_PANELS = 4
OFFSETS = ((8, 0), (-8, 0), (0, 9), (0, -9), (7, 7), (-7, 7), (7, -7), (-7, -7), (0, 18), (0, -18))  # in points


def plot(path: Path, counts: Mapping[str, Counts], timings: Mapping[str, Sequence[Timing]], *, title: str) -> None:
    """Draws one panel for each case, the first MAX_PANELS of them."""
    import matplotlib

    matplotlib.use('Agg')  # files only, on machines without a screen
    from matplotlib import pyplot

    cases = [timing.case for timing in next(iter(timings.values()))][:MAX_PANELS]
    figure, panels = pyplot.subplots(
        1, len(cases), figsize=(1 + 5 * len(cases), 4.5), sharey=True, squeeze=False, layout='constrained'
    )
    sizes = {name: count.parameters / 1e6 for name, count in counts.items()}
    for number, (panel, case) in enumerate(zip(panels[0], cases, strict=True)):
        times = {name: 1000 * timing[number].median for name, timing in timings.items()}
        panel.scatter(times.values(), sizes.values(), s=36, c=[f'C{index % 10}' for index in range(len(times))])
        panel.set_title(describe(case), fontsize=10)
        panel.set_xlabel('ms a batch' if case.batch_size > 1 else 'ms a picture')
        panel.set_ylim(-0.06 * max(sizes.values()), 1.12 * max(sizes.values()))
        set_scale(panel, list(times.values()))
        panel.grid(alpha=0.3)
    panels[0][0].set_ylabel('million parameters')
    figure.suptitle(title, fontsize=11)
    figure.canvas.draw()  # which settles where everything is
    for number, panel in enumerate(panels[0]):
        place_names(panel, {name: (1000 * timings[name][number].median, sizes[name]) for name in counts})
    figure.savefig(path, dpi=150, format=path.suffix[1:] or 'png')
    pyplot.close(figure)


def describe(case: Case) -> str:
    pictures = f'{case.batch_size} pictures' if case.batch_size > 1 else '1 picture'
    return f'{pictures} at once, {case.threads} thread{"s" if case.threads > 1 else ""}'


def set_scale(panel: Axes, times: Sequence[float]) -> None:
    """From zero, or by powers where the slowest takes many times as long as the fastest."""
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

    if max(times) < WIDE * min(times):
        panel.set_xlim(0, 1.25 * max(times))
        return
    panel.set_xscale('log')
    panel.set_xlim(min(times) / 1.5, max(times) * 1.8)
    panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.xaxis.set_major_formatter(FormatStrFormatter('%g'))
    panel.xaxis.set_minor_formatter(NullFormatter())


def place_names(panel: Axes, points: Mapping[str, tuple[float, float]]) -> None:
    """Writes the names beside the points, each where it covers as little as possible of points and other names."""
    from matplotlib.transforms import Bbox

    renderer = panel.figure.canvas.get_renderer()  # type: ignore[attr-defined]
    marks = [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in map(panel.transData.transform, points.values())]
    taken = list(marks)
    for (name, point), mark in zip(points.items(), marks, strict=True):
        label = panel.annotate(name, point, (0, 0), textcoords='offset points', fontsize=8)

        def cost(offset: tuple[float, float], label: Annotation = label, own: Bbox = mark) -> float:
            box = move(label, *offset).get_window_extent(renderer)
            covered = sum(overlap(box, other) for other in taken if other is not own)
            return covered + outside(box, panel.get_window_extent(renderer))

        move(label, *min(OFFSETS, key=cost))
        taken.append(label.get_window_extent(renderer))


def move(label: Annotation, x: float, y: float) -> Annotation:
    """Puts a label so many points off what it names, on that side of it."""
    label.set_position((x, y))
    label.set_horizontalalignment('left' if x > 0 else 'right' if x < 0 else 'center')
    label.set_verticalalignment('bottom' if y > 0 else 'top' if y < 0 else 'center')
    return label


def overlap(a: Bbox, b: Bbox) -> float:
    """Square pixels that two boxes share."""
    width = min(a.x1, b.x1) - max(a.x0, b.x0)
    height = min(a.y1, b.y1) - max(a.y0, b.y0)
    return width * height if min(width, height) > 0 else 0


def outside(box: Bbox, frame: Bbox) -> float:
    """Square pixels of a box beyond a frame."""
    return box.width * box.height - overlap(box, frame)
