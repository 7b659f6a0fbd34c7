"""A network -> a file of another runtime; and that file -> what that runtime computes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from strhub.engine.export.networks import halve, quietly
from strhub.engine.export.script import to_torchscript
from strhub.models.reader import Recogniser
from strhub.runtime.description import KEY
from strhub.runtime.session import Session
from strhub.runtime.trained import describe

SUFFIXES = {'onnx': '.onnx', 'torchscript': '.pt', 'openvino': '.xml'}

Run = Callable[[Tensor], Tensor]  # images (N, 3, H, W) -> logits (N, L, C)


def write(system: Recogniser, path: Path, kind: str, *, fp16: bool = False, int8: bool = False) -> None:
    """Writes a network as one of SUFFIXES; OpenVINO keeps the weights in a second file, .bin.

    Args:
        system: `fp16` rounds its weights.
        path: with the suffix of the kind.
        kind: one of SUFFIXES.
        fp16: compute in float16; of OpenVINO, keep the weights in it.
        int8: ONNX with weights of 8 bits, and what they are multiplied by rounded to 8 bits while it runs.
    """
    description = describe(system).to_json()
    if fp16 and kind != 'openvino':
        halve(system.model)
    if kind == 'torchscript':
        program = to_torchscript(system)
        with quietly():
            torch.jit.save(program, path, _extra_files={KEY: description})
        return
    import onnx

    from strhub.engine.export.graph import quantised, to_onnx

    model = to_onnx(system)
    if int8:
        model = quantised(model)
    onnx.helper.set_model_props(model, {KEY: description})
    if kind == 'onnx':
        onnx.save(model, path)
        return
    import openvino

    with TemporaryDirectory() as folder:
        onnx.save(model, source := Path(folder) / 'model.onnx')
        converted = openvino.convert_model(source)
        converted.set_rt_info(description, KEY)
        openvino.save_model(converted, path, compress_to_fp16=fp16)


def load(path: Path, kind: str, *, threads: int | None = None) -> Run:
    """What a file computes on the processor."""
    if kind == 'onnx':
        session = Session(path, device='cpu', threads=threads)
        return lambda images: torch.from_numpy(session.logits(images.numpy()))
    if kind == 'torchscript':
        with quietly():
            program = torch.jit.load(path, 'cpu')

        def run(images: Tensor) -> Tensor:
            with torch.inference_mode():
                return program(images)

        return run
    import openvino

    # It would compute in bfloat16 where the processor does
    options: dict[str, Any] = {'INFERENCE_PRECISION_HINT': 'f32'}
    if threads:
        options['INFERENCE_NUM_THREADS'] = threads
    compiled = openvino.Core().compile_model(path, 'CPU', options)
    return lambda images: torch.from_numpy(compiled(images.numpy())[0].copy())
