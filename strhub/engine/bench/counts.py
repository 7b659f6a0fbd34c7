"""What a model computes for one picture: parameters, multiply-adds and activations, counted by fvcore on a trace.

A multiply-add is one flop. Activations are what matrix products and convolutions put out. fvcore does not know fused
attention nor LSTMs; here they count as the products that they consist of.
"""

from __future__ import annotations

import copy
import logging
import math
import warnings
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

if TYPE_CHECKING:
    from fvcore.nn import FlopCountAnalysis

logger = logging.getLogger(__name__)

# Which of them a trace holds depends on the device and on torch.
FUSED_ATTENTION = tuple(
    f'aten::{name}'
    for name in (
        'scaled_dot_product_attention',
        '_scaled_dot_product_attention_math',
        '_scaled_dot_product_attention_math_for_mps',
        '_scaled_dot_product_flash_attention',
        '_scaled_dot_product_flash_attention_for_cpu',
        '_scaled_dot_product_efficient_attention',
        '_scaled_dot_product_cudnn_attention',
        '_scaled_dot_product_fused_attention_overrideable',
    )
)
IN_PLACE_LOGIC = '__ior__', '__iand__', '__ixor__'
# Operators of which fvcore counts nothing and there is nothing to count: element by element, moving, picking, pooling.
# A trailing _ marks the variant in place.
UNCOUNTED = (
    'abs add addcmul all alias any arange argmax argsort avg_pool2d bernoulli bitwise_and bitwise_not bitwise_or '
    'cat ceil chunk clamp clamp_max clamp_min clone concat contiguous copy cos cumsum detach div dropout embedding '
    'empty empty_like eq exp expand expand_as eye fill flatten flip floor floor_divide full full_like gather ge '
    'gelu gt hardtanh index index_copy index_fill index_put index_select isfinite le leaky_relu linspace log '
    'log_softmax logical_and logical_not logical_or lt mT masked_fill masked_select max max_pool2d maximum mean '
    'min minimum movedim mul narrow ne neg new_empty new_full new_ones new_zeros nonzero numpy_T one_hot ones '
    'ones_like pad permute pow reciprocal relu remainder repeat repeat_interleave reshape roll rsqrt rsub scatter '
    'select sigmoid sign silu sin slice softmax sort split split_with_sizes sqrt square squeeze stack sub sum '
    'swapaxes swapdims t take_along_dim tanh tensor_split tile to topk transpose tril triu type_as unbind '
    'unflatten unfold unsafe_chunk unsqueeze view view_as where zeros zeros_like '
    '__and__ __iand__ __ior__ __ixor__ __or__ __xor__ _log_softmax _softmax _unsafe_view'
)


@dataclass(frozen=True)
class Counts:
    """Of one picture; `table` has them module by module."""

    parameters: int
    flops: int
    activations: int
    table: str


class Reader(nn.Module):
    """A network that is asked for words of at most `max_length`: a trace takes no argument but tensors."""

    def __init__(self, network: nn.Module, max_length: int | None) -> None:
        super().__init__()
        self.network = network
        self.max_length = max_length

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images, self.max_length)


class Traceable(TorchFunctionMode):
    """Puts a tensor in place of the bool in `tensor |= bool`, which torch computes and its tracer has no name for."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, '__name__', '') in IN_PLACE_LOGIC and len(args) == 2 and isinstance(args[1], bool):
            args = args[0], torch.tensor(args[1], device=args[0].device)
        return func(*args, **(kwargs or {}))


def count(network: nn.Module, images: Tensor, *, max_length: int | None = None, depth: int = 2) -> Counts:
    """Counts what `network` does with images (1, 3, H, W), on the CPU.

    Args:
        depth: levels of modules that the table goes down.
    """
    network = copy.deepcopy(network).cpu().float().eval()
    images = images.cpu().float()
    reader = Reader(network, max_length)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of what fvcore uses of torch
        from fvcore.nn import ActivationCountAnalysis, FlopCountAnalysis, flop_count_table

        flops = FlopCountAnalysis(reader, images)
        activations = ActivationCountAnalysis(reader, images)
        for name in FUSED_ATTENTION:
            flops.set_op_handle(name, attention_flops)
            activations.set_op_handle(name, attention_activations)
        flops.set_op_handle('aten::matmul', matmul_flops)  # fvcore's own fails for a vector
        flops.set_op_handle('aten::lstm', lstm_flops)
        activations.set_op_handle('aten::lstm', lstm_activations)
        for analysis in (flops, activations):
            analysis.tracer_warnings('none')
            analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        with torch.no_grad(), Traceable():
            total = int(flops.total())
            report_unknown(flops)
            table = flop_count_table(flops, max_depth=depth, activations=activations, show_param_shapes=False)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return Counts(parameters, total, int(activations.total()), table)


def report_unknown(flops: FlopCountAnalysis) -> None:
    """Says which operators the count lacks, if they might compute something."""
    uncounted = {f'aten::{name}' for name in UNCOUNTED.split()}
    unknown = {name: times for name, times in flops.unsupported_ops().items() if plain(name) not in uncounted}
    if unknown:
        named = ', '.join(f'{name} ({times} times)' for name, times in sorted(unknown.items()))
        logger.warning('the flops are without those of %s', named)


def plain(name: str) -> str:
    """The name of an operator without the mark of its variant in place."""
    return name if name.endswith('__') else name.removesuffix('_')


def shape(value: Any) -> list[int]:
    """Of a value of a traced graph."""
    return list(value.type().sizes())


def matmul_flops(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    return Counter({'matmul': math.prod(shape(outputs[0])) * shape(inputs[0])[-1]})


def attention_sizes(inputs: list[Any]) -> tuple[int, int, int, int, int]:
    """Heads of all pictures, queries, keys, width of a key, width of a value."""
    *heads, num_queries, key_width = shape(inputs[0])
    return math.prod(heads), num_queries, shape(inputs[1])[-2], key_width, shape(inputs[2])[-1]


def attention_flops(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """Every query meets every key, and takes from every value: two products of matrices."""
    heads, num_queries, num_keys, key_width, value_width = attention_sizes(inputs)
    return Counter({'attention': heads * num_queries * num_keys * (key_width + value_width)})


def attention_activations(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """What both products put out, though a fused kernel keeps the first to itself."""
    heads, num_queries, num_keys, _, value_width = attention_sizes(inputs)
    return Counter({'attention': heads * num_queries * (num_keys + value_width)})


def lstm_sizes(inputs: list[Any]) -> tuple[int, list[list[int]]]:
    """Steps of all pictures, and the weights that each of them is multiplied with."""
    *steps, _ = shape(inputs[0])
    weights = [shape(value) for value in inputs[2].node().inputs()]
    return math.prod(steps), [size for size in weights if len(size) == 2]  # biases have one dimension


def lstm_flops(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    steps, weights = lstm_sizes(inputs)
    return Counter({'lstm': steps * sum(rows * columns for rows, columns in weights)})


def lstm_activations(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    steps, weights = lstm_sizes(inputs)
    return Counter({'lstm': steps * sum(rows for rows, _ in weights)})
