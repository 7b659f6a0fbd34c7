"""Reading character by character in ONNX: the parts of a network put together around a Loop."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

NUM_SEEN = 2  # of what `look` gives, it stays the same


def compose(
    look: ModelProto, step: ModelProto, finish: ModelProto | None = None, *, begin: int, end: int, num_positions: int
) -> ModelProto:
    """The exported parts of an `InTurn` -> images to logits (N, L, C).

    After the step in which the last word of the batch ends, logits are zeros, which read as the end.
    """
    first, turn = _named(look.graph, 'look_'), _named(step.graph, 'step_')
    looked = [output.name for output in first.output]
    seen, carried = looked[:NUM_SEEN], ['first_tokens', 'none_ended', *looked[NUM_SEEN:]]
    constants = {
        'zero': np.array([0]),
        'one': np.array([1]),
        'no': np.array(False),
        'yes': np.array(True),
        'begin': np.array(begin),
        'end': np.array(end),
        'max_turns': np.array(num_positions),
        'num_positions': np.array([num_positions]),
        'no_padding': np.zeros(4, np.int64),
    }
    weights = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    nodes = [
        *first.node,
        helper.make_node('Shape', ['images'], ['count'], start=0, end=1),
        helper.make_node('Expand', ['begin', 'count'], ['first_tokens']),
        helper.make_node('Expand', ['no', 'count'], ['none_ended']),
        helper.make_node(
            'Loop',
            ['max_turns', 'yes', *carried],
            [*(f'last_{name}' for name in carried), 'answers'],
            name='read_in_turn',
            body=_body(turn, seen),
        ),
        helper.make_node('Transpose', ['answers'], ['some_logits'], perm=[1, 0, 2]),
        helper.make_node('Shape', ['answers'], ['num_answers'], start=0, end=1),
        helper.make_node('Sub', ['num_positions', 'num_answers'], ['num_missing']),
        helper.make_node('Concat', ['no_padding', 'num_missing', 'zero'], ['padding'], axis=0),
        helper.make_node('Pad', ['some_logits', 'padding'], ['read_logits']),
    ]
    weights += [*first.initializer, *turn.initializer]
    output = 'read_logits'
    if finish is not None:
        last = _named(finish.graph, 'finish_', dict(zip(_inputs(finish.graph), [output, *seen], strict=False)))
        nodes += last.node
        weights += last.initializer
        output = last.output[0].name
    nodes.append(helper.make_node('Identity', [output], ['logits']))
    logits = helper.make_tensor_value_info('logits', TensorProto.FLOAT, ['N', num_positions, _classes(turn)])
    graph = helper.make_graph(nodes, 'strhub', [first.input[0]], [logits], weights)
    _share(graph)
    return helper.make_model(graph, opset_imports=look.opset_import, ir_version=look.ir_version)


def _classes(step: GraphProto) -> int:
    return step.output[0].type.tensor_type.shape.dim[-1].dim_value


def _body(step: GraphProto, seen: Sequence[str]) -> GraphProto:
    """One turn of the Loop: (turn, going, token, ended, known…) -> (going, token, ended, known…, logits)."""
    token, place, *others = _inputs(step)
    known = others[len(seen) :]
    logits, next_token, *known_then = [output.name for output in step.output]
    nodes = [
        helper.make_node('Reshape', ['turn', 'one'], [place]),
        *(helper.make_node('Identity', [outer], [inner]) for outer, inner in zip(seen, others, strict=False)),
        *step.node,
        helper.make_node('Equal', [next_token, 'end'], ['is_end']),
        helper.make_node('Or', ['ended', 'is_end'], ['ended_then']),
        helper.make_node('Not', ['ended_then'], ['goes_on']),
        helper.make_node('Cast', ['goes_on'], ['goes_on_number'], to=TensorProto.INT32),
        helper.make_node('ReduceMax', ['goes_on_number'], ['any_number'], keepdims=0),
        helper.make_node('Cast', ['any_number'], ['going_then'], to=TensorProto.BOOL),
    ]
    types = {value.name: value for value in [*step.input, *step.output]}

    def boolean(name: str, like: str | None = None) -> onnx.ValueInfoProto:
        shape = [] if like is None else [d.dim_param or d.dim_value for d in types[like].type.tensor_type.shape.dim]
        return helper.make_tensor_value_info(name, TensorProto.BOOL, shape)

    return helper.make_graph(
        nodes,
        'turn',
        [
            helper.make_tensor_value_info('turn', TensorProto.INT64, []),
            boolean('going'),
            types[token],
            boolean('ended', token),
            *(types[name] for name in known),
        ],
        [
            boolean('going_then'),
            types[next_token],
            boolean('ended_then', token),
            *(types[name] for name in known_then),
            types[logits],
        ],
    )


def _inputs(graph: GraphProto) -> list[str]:
    return [value.name for value in graph.input]


def _named(graph: GraphProto, prefix: str, names: dict[str, str] | None = None) -> GraphProto:
    """A copy whose values have names of their own, but the images; `names` are those that others gave."""
    copy = GraphProto()
    copy.CopyFrom(graph)
    known = {'images': 'images', '': '', **(names or {})}

    def name(old: str) -> str:
        return known.get(old, prefix + old)

    for tensor in copy.initializer:
        tensor.name = name(tensor.name)
    for value in [*copy.input, *copy.output, *copy.value_info]:
        value.name = name(value.name)
    for node in copy.node:
        node.name = prefix + node.name
        node.input[:] = map(name, node.input)
        node.output[:] = map(name, node.output)
        if any(attribute.type == AttributeProto.GRAPH for attribute in node.attribute):
            raise ValueError(f'{node.op_type} holds a graph of its own, which cannot be renamed yet')
    return copy


def _share(graph: GraphProto) -> None:
    """Leaves one of each weight: the parts have those of the decoder in common."""
    first: dict[tuple[object, ...], str] = {}
    renamed: dict[str, str] = {}
    kept: list[TensorProto] = []
    for tensor in graph.initializer:
        key = tensor.data_type, tuple(tensor.dims), numpy_helper.to_array(tensor).tobytes()
        if key in first:
            renamed[tensor.name] = first[key]
        else:
            first[key] = tensor.name
            kept.append(tensor)
    del graph.initializer[:]
    graph.initializer.extend(kept)
    _rename_inputs(graph.node, renamed)


def _rename_inputs(nodes: Sequence[NodeProto], renamed: dict[str, str]) -> None:
    for node in nodes:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                _rename_inputs(attribute.g.node, renamed)
