"""A network as an ONNX file, with any metadata."""

import io
import warnings
from pathlib import Path

import pytest
import torch

from strhub.models.base import BaseSystem
from strhub.runtime.description import INPUT, OUTPUT


def export(system: BaseSystem, path: Path, metadata: dict[str, str]) -> Path:
    onnx = pytest.importorskip('onnx')
    pytest.importorskip('onnxruntime')
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        torch.onnx.export(
            system.model,
            (torch.zeros(2, 3, *system.hparams['img_size']),),
            content,
            dynamo=False,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={INPUT: {0: 'N'}, OUTPUT: {0: 'N'}},
        )
    model = onnx.load_from_string(content.getvalue())
    onnx.helper.set_model_props(model, metadata)
    onnx.save(model, path)
    return path
