"""An exported network on ONNX Runtime: what reads where torch is not installed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from strhub.cores import cores
from strhub.runtime.decode import softmax
from strhub.runtime.description import INPUT, KEY, OUTPUT, Description

SUFFIX = '.onnx'
# TF32 would round the factors of each product to ten bits, and its logits would not be those of the checkpoint.
CUDA, CUDA_OPTIONS = 'CUDAExecutionProvider', {'use_tf32': '0'}
CPU = 'CPUExecutionProvider'
FATAL = 3  # the least severe of ONNX Runtime's messages that is shown: what it raises it would print as well

EXPORT = f'`strhub export CHECKPOINT --format onnx --out FILE{SUFFIX}` makes one'


def is_exported(source: str | Path) -> bool:
    """Whether this is the name of an ONNX file, which has no signature to know it by."""
    return Path(source).suffix.lower() == SUFFIX


class Session:
    """An ONNX file that `strhub export` made, ready to run in any number of threads.

    Args:
        path: of the file.
        device: cpu or cuda (cuda:1 …); auto is CUDA where this ONNX Runtime has it.
        threads: of the processor, for one step (default: all cores).
        overrides: of hyper-parameters, of which only charset_test can still be changed.

    Attributes:
        description: what the file says of itself.
        device: where it runs.

    Raises:
        FileNotFoundError: there is no such file.
        ModuleNotFoundError: ONNX Runtime is not installed.
        ValueError: the file is damaged, or is none that strhub exported; the device is not there.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        device: str = 'auto',
        threads: int | None = None,
        overrides: Mapping[str, Any] | None = None,
    ) -> None:
        overrides = dict(overrides or {})
        charset_test = overrides.pop('charset_test', None)
        if overrides:
            raise ValueError(
                f'{path} takes no {", ".join(overrides)}: the network was fixed when it was exported; '
                'give the checkpoint, or export it again with these parameters'
            )
        self.path = Path(path)
        self._session, self.device = _open(self.path, device, threads or cores())
        try:
            self.description = _describe(self._session)
        except ValueError as error:
            raise ValueError(f'{path} cannot be read with: {error}') from None
        if charset_test is not None:
            self.description = replace(self.description, charset_test=charset_test)

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Logits (N, L, C) float32 of images (N, 3, H, W) float32 in [-1, 1]."""
        try:
            (logits,) = self._session.run([OUTPUT], {INPUT: images})
        except Exception as error:  # each of ONNX Runtime's has a class of its own, below Exception
            if 'allocate memory' in str(error) or 'bad allocation' in str(error):
                raise MemoryError(f'{self.path}: {_reason(error)}') from None
            raise ValueError(f'{self.path} failed on pictures of shape {images.shape} ({_reason(error)})') from None
        return logits

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """What reading gives to each class, (N, L, C) float32."""
        return softmax(self.logits(images))


def _open(path: Path, device: str, threads: int) -> tuple[Any, str]:
    """The session of ONNX Runtime, and where it runs."""
    if not path.is_file():
        raise FileNotFoundError(f'there is no file {path}: {EXPORT}')
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        # The name lets a door give its own words.
        raise ModuleNotFoundError(
            f'{path} needs the package onnxruntime, which is not installed: pip install onnxruntime', name=error.name
        ) from None
    there = {'cpu': CPU, **({'cuda': CUDA} if CUDA in onnxruntime.get_available_providers() else {})}
    kind, _, index = device.partition(':')
    if kind == 'auto':
        kind = 'cuda' if 'cuda' in there else 'cpu'
    if kind not in there or not (index.isdecimal() or not index) or (index and kind == 'cpu'):
        raise ValueError(
            f'device {device} is not there for {path}: this ONNX Runtime has {", ".join(there)}; '
            'the package onnxruntime-gpu has cuda, a checkpoint runs on all that torch has'
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = FATAL
    gpu = [(CUDA, {'device_id': index or '0', **CUDA_OPTIONS})] if kind == 'cuda' else []
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=[*gpu, CPU])
    except Exception as error:
        raise ValueError(f'{path} is damaged or no ONNX model ({_reason(error)}); {EXPORT}') from None
    if session.get_providers()[0] == CPU and kind == 'cuda':  # its libraries are missing
        if device != 'auto':
            raise ValueError(f'device {device} cannot be used: ONNX Runtime did not find what it needs of CUDA')
        kind = 'cpu'
    return session, f'{kind}:{index}' if index else kind


def _describe(session: Any) -> Description:
    """The description, if the network takes and gives what it says."""
    text = session.get_modelmeta().custom_metadata_map.get(KEY)
    if text is None:
        raise ValueError(f'strhub did not export it, for its metadata have no {KEY}; {EXPORT}')
    description = Description.from_json(text)
    inputs = {one.name: (one.type, list(one.shape)) for one in session.get_inputs()}
    outputs = [one.name for one in session.get_outputs()]
    if list(inputs) != [INPUT] or OUTPUT not in outputs:
        raise ValueError(
            f'it takes {", ".join(inputs) or "nothing"} and gives {", ".join(outputs)}, where {INPUT} and {OUTPUT} are '
            f'expected; {EXPORT}'
        )
    kind, shape = inputs[INPUT]
    if kind != 'tensor(float)' or shape[1:] != [3, *description.img_size]:
        raise ValueError(
            f'its {INPUT} are {kind} {shape}, where float32 [N, 3, {description.img_size[0]}, '
            f'{description.img_size[1]}] is expected; {EXPORT}'
        )
    return description


def _reason(error: Exception) -> str:
    """ONNX Runtime's own words, shortened: `[ONNXRuntimeError] : 7 : INVALID_PROTOBUF : …`."""
    return ' '.join(str(error).rpartition(' : ')[2].split())[:150] or type(error).__name__
