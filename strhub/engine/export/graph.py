"""A network as an ONNX graph."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from strhub.engine.export.loop import compose
from strhub.engine.export.networks import EXAMPLES, AtOnce, example, examples, exportable, quietly
from strhub.models.reader import Recogniser
from strhub.runtime.description import INPUT, OUTPUT

OPSET = 18  # the least that torch's exporter writes


def to_onnx(system: Recogniser) -> onnx.ModelProto:
    """Images (N, 3, H, W) -> logits (N, L, C), of any N."""
    network, images = exportable(system), example(system)
    sizes = {'N': torch.export.Dim('N', min=EXAMPLES)}
    batch = {0: sizes['N']}
    with torch.no_grad(), quietly():
        if isinstance(network, AtOnce):
            return _exported(network, (images,), [batch], [INPUT], [OUTPUT])
        look, step, finish = examples(network, images)
        seen, known = (
            [{axis: sizes[name] for axis, name in axes.items()}] * 2 for axes in (network.seen_axes, network.known_axes)
        )
        names = ['seen', 'also_seen'], ['known', 'also_known']
        parts = [
            _exported(network.look, look, [batch], [INPUT], [*names[0], *names[1]]),
            _exported(
                network.step,
                step,
                [batch, {}, *seen, *known],
                ['tokens', 'place', *names[0], *names[1]],
                ['answer', 'tokens_then', 'known_then', 'also_known_then'],
            ),
        ]
        if network.finish:
            parts.append(_exported(network.finish, finish, [batch, *seen], ['read', *names[0]], ['finished']))
    return compose(*parts, begin=network.begin, end=network.end, num_positions=network.num_positions)


def _exported(
    network: nn.Module, given: tuple[Tensor, ...], axes: Sequence[Any], inputs: list[str], outputs: list[str]
) -> onnx.ModelProto:
    with redirect_stdout(StringIO()):  # the exporter tells of its steps there
        traced = torch.export.export(network, given, dynamic_shapes=tuple(axes), strict=False)
        program = torch.onnx.export(
            traced, dynamo=True, input_names=inputs, output_names=outputs, opset_version=OPSET, verbose=False
        )
    assert program is not None
    return program.model_proto


def quantised(model: onnx.ModelProto) -> onnx.ModelProto:
    from onnxruntime.quantization import quantize_dynamic

    with TemporaryDirectory() as folder, quietly():
        quantize_dynamic(
            model,
            target := Path(folder) / 'model.onnx',
            per_channel=True,
            extra_options={'EnableSubgraph': True, 'MatMulConstBOnly': True},
        )
        return onnx.load(target)
