#!/usr/bin/env python3
"""How fast TRBA, ABINet, ViTSTR and CRNN compute, beside their plain definitions over the same weights.

  python benchmarks/models.py
  python benchmarks/models.py --models trba crnn --batch-sizes 1 8 --rounds 9

The two take turns, round by round; figures are medians of the processor's time. Before that their logits are compared.
A `head` is what follows the picture's features: TRBA's attention, ABINet's iterations.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from strhub.models.base import BaseSystem
from strhub.models.vit import VisionTransformer
from strhub.models.zoo import create_model

Run = Callable[[], object]
LENGTH = 25
WORDS = ('recognition', 'of', 'scene', 'text', 'a', 'photograph', '2024', 'street')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--models', nargs='+', choices=PLAIN, default=list(PLAIN), metavar='NAME')
    parser.add_argument('--batch-sizes', nargs='+', type=int, default=[1, 32], metavar='N', help='the last one trains')
    parser.add_argument('--rounds', type=int, default=5, metavar='N', help='default: 5')
    parser.add_argument('--threads', type=int, default=1, metavar='N', help='default: 1')
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.filterwarnings('ignore', message='You are trying to `self.log')
    print('| model | what | batch | plain, ms | ours, ms | ratio |\n|---|---|---:|---:|---:|---:|')
    for name in args.models:
        torch.manual_seed(0)
        system = create_model(name)
        for batch_size in args.batch_sizes:
            with torch.inference_mode():
                reading(name, system.eval(), batch_size, args.rounds)
        training(name, system.train(), args.batch_sizes[-1], args.rounds)


def reading(name: str, system: BaseSystem, batch_size: int, rounds: int) -> None:
    network = system.model
    images = torch.rand(batch_size, 3, 32, 128) * 2 - 1
    runs = partial(PLAIN[name], network, images), partial(network, images, LENGTH)
    compare(f'{name} | reading', batch_size, *runs, rounds=rounds, is_same=True)
    if name == 'trba':
        memory = network.encode(images)
        heads = partial(trba_head, network.Prediction, memory), partial(network.Prediction, memory, LENGTH + 1)
        compare(f'{name} | head', batch_size, *heads, rounds=rounds, is_same=True)


def training(name: str, system: BaseSystem, batch_size: int, rounds: int) -> None:
    """A step of both; ABINet's trains all parts together."""
    images = torch.rand(batch_size, 3, 32, 128) * 2 - 1
    labels = [WORDS[i % len(WORDS)] for i in range(batch_size)]

    def plain() -> None:
        loss = plain_loss(name, system, images, labels)
        loss.backward()
        system.zero_grad()

    def ours() -> None:
        if name == 'abinet':
            loss = system.total_loss(system.losses(images, labels, apart=False))
        else:
            loss = system.training_step((images, labels), 0)
        loss.backward()
        system.zero_grad()

    compare(f'{name} | training', batch_size, plain, ours, rounds=rounds, is_same=False)


def compare(title: str, batch_size: int, plain: Run, ours: Run, *, rounds: int, is_same: bool) -> None:
    found, expected = ours(), plain()
    if is_same:
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    times = [(spent(plain), spent(ours)) for _ in range(rounds)]
    before, after = (1e3 * statistics.median(column) for column in zip(*times, strict=True))
    ratio = statistics.median(a / b for a, b in times)
    print(f'| {title} | {batch_size} | {before:.1f} | {after:.1f} | {ratio:.2f} |', flush=True)


def spent(run: Run) -> float:
    began = time.process_time()
    run()
    return time.process_time() - began


# The plain definitions


def plain_loss(name: str, system: BaseSystem, images: Tensor, labels: Sequence[str]) -> Tensor:
    network = system.model
    if name == 'crnn':
        logits = crnn(network, images).log_softmax(-1).transpose(0, 1)
        lengths = torch.full((len(images),), len(logits)), torch.tensor([len(label) for label in labels])
        targets = system.tokenizer.encode(labels, images.device)
        return F.ctc_loss(logits, targets, *lengths, blank=system.tokenizer.blank_id, zero_infinity=True)
    ids = system.encode(labels)
    targets = ids[:, 1:]
    if name == 'trba':
        return system.cross_entropy(trba(network, images, ids[:, :-1]), targets)
    if name == 'vitstr':
        return system.cross_entropy(vitstr(network, images)[:, : targets.shape[1]], targets)
    iterations = abinet_iterations(network, images)
    width = targets.shape[1]
    parts = zip(*[[system.cross_entropy(x[:, :width], targets) for x in three] for three in iterations], strict=True)
    return sum(torch.stack(part).mean() for part in parts)


def trba(network: nn.Module, images: Tensor, inputs: Tensor | None = None) -> Tensor:
    fiducials = sequential(network.Transformation.LocalizationNetwork.conv, images).flatten(1)
    location = network.Transformation.LocalizationNetwork
    fiducials = location.localization_fc2(location.localization_fc1(fiducials)).unflatten(1, (-1, 2))
    grid = network.Transformation.GridGenerator(fiducials)
    x = F.grid_sample(images, grid, padding_mode='border', align_corners=True)
    net = network.FeatureExtraction.ConvNet
    for part in ('0_1', '0_2', 'pool1', 'layer1', '1', 'pool2', 'layer2', '2', 'pool3', 'layer3', '3', 'layer4'):
        x = trba_part(net, part, x)
    x = trba_part(net, '4_2', trba_part(net, '4_1', x))
    return trba_head(network.Prediction, network.SequenceModeling(x.mean(2).transpose(1, 2)), inputs)


def trba_part(net: nn.Module, part: str, x: Tensor) -> Tensor:
    if part.startswith('pool'):
        return net.get_submodule(f'max{part}')(x)
    if not part.startswith('layer'):
        return net.get_submodule(f'bn{part}')(net.get_submodule(f'conv{part}')(x)).relu()
    for block in net.get_submodule(part):
        shortcut = x if block.downsample is None else block.downsample(x)
        x = (block.bn2(block.conv2(block.bn1(block.conv1(x)).relu())) + shortcut).relu()
    return x


def trba_head(head: nn.Module, memory: Tensor, inputs: Tensor | None = None) -> Tensor:
    """One-hot characters, and everything anew in each step."""
    cell, outputs = head.attention_cell, []
    state = carried = memory.new_zeros(len(memory), head.hidden_size)
    previous = torch.full((len(memory),), head.bos_id)
    for i in range(LENGTH + 1 if inputs is None else inputs.shape[1]):
        if inputs is not None:
            previous = inputs[:, i]
        energy = cell.score((cell.i2h(memory) + cell.h2h(state)[:, None]).tanh())
        context = (energy.softmax(1).transpose(1, 2) @ memory).squeeze(1)
        known = F.one_hot(previous, head.generator.out_features).float() @ head.char_embeddings.weight
        state, carried = cell.rnn(torch.cat([context, known], 1), (state, carried))
        outputs.append(head.generator(state))
        previous = outputs[-1][:, : head.bos_id].argmax(1)
    return torch.stack(outputs, 1)


def sequential(layers: nn.Module, x: Tensor) -> Tensor:
    for layer in layers:
        x = x.relu() if isinstance(layer, nn.ReLU) else layer(x)
    return x


def abinet_iterations(network: nn.Module, images: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Logits of vision, language and alignment for each iteration; queries, masks and all heads anew in each."""
    backbone, language = network.vision.backbone, network.language
    net, x = backbone.resnet, images
    x = net.bn1(net.conv1(x)).relu()
    for i in range(1, 6):
        for block in net.get_submodule(f'layer{i}'):
            shortcut = x if block.downsample is None else block.downsample(x)
            x = (block.bn2(block.conv2(block.bn1(block.conv1(x)).relu())) + shortcut).relu()
    tokens = backbone.transformer(backbone.pos_encoder(x.flatten(2).transpose(1, 2)))
    seen = network.vision.attention(tokens.transpose(1, 2).unflatten(-1, x.shape[-2:]))
    vision = belief = network.vision.cls(seen)
    opinions = []
    for _ in range(network.iter_size):
        is_end = belief.argmax(-1) == 0
        lengths = torch.where(is_end.any(-1), is_end.int().argmax(-1) + 1, is_end.shape[1])
        positions = torch.arange(belief.shape[1])
        padding = positions >= lengths.clamp(min=2)[:, None, None]
        memory = language.token_encoder(language.proj(belief.softmax(-1).detach()))
        x = language.pos_encoder(torch.zeros_like(memory))
        thought = language.model(x, memory, hidden=padding | (positions == positions[:, None]), padding=padding)
        gate = network.alignment.w_att(torch.cat([thought, seen], -1)).sigmoid()
        belief = network.alignment.cls(gate * seen + (1 - gate) * thought)
        opinions.append((vision, language.cls(thought), belief))
    return opinions


def abinet(network: nn.Module, images: Tensor) -> Tensor:
    return abinet_iterations(network, images)[-1][-1]


def vitstr(network: nn.Module, images: Tensor) -> Tensor:
    """All tokens through all blocks."""
    return network.head(VisionTransformer.forward(network, images))[:, 1 : LENGTH + 2]


def crnn(network: nn.Module, images: Tensor) -> Tensor:
    """Planes of channels one after the other."""
    net, x = network.cnn, images
    for i in range(7):
        x = net.get_submodule(f'conv{i}')(x)
        x = (net.get_submodule(f'batchnorm{i}')(x) if net.has_norm[i] else x).relu()
        if i in (0, 1):
            x = F.max_pool2d(x, 2)
        elif i in (3, 5):
            x = F.max_pool2d(x, 2, stride=(2, 1), padding=(0, 1))
    return network.rnn(x.squeeze(2).transpose(1, 2))


PLAIN: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    'trba': trba,
    'abinet': abinet,
    'vitstr': vitstr,
    'crnn': crnn,
}

if __name__ == '__main__':
    main()
