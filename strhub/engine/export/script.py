"""A network as one program of TorchScript, with the loop over characters in it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from strhub.engine.export.networks import AtOnce, InTurn, example, examples, exportable, quietly
from strhub.models.reader import Recogniser


def to_torchscript(system: Recogniser) -> torch.jit.ScriptModule:
    """As `to_onnx`."""
    network, images = exportable(system), example(system)
    with torch.no_grad(), quietly():
        if isinstance(network, AtOnce):
            return torch.jit.trace(network, (images,), check_trace=False)
        look, step, finish = examples(network, images)
        program = Loop(
            torch.jit.trace(network.look, look, check_trace=False),
            torch.jit.trace(network.step, step, check_trace=False),
            torch.jit.trace(network.finish or Finished(), finish, check_trace=False),
            network,
        )
        return torch.jit.script(program.eval())


class Loop(nn.Module):
    """`InTurn` as one module, for torch.jit.script: it stops when all words of the batch have ended."""

    def __init__(self, look: nn.Module, step: nn.Module, finish: nn.Module, parts: InTurn) -> None:
        super().__init__()
        self.look, self.step, self.finish = look, step, finish
        self.begin, self.end, self.num_positions = parts.begin, parts.end, parts.num_positions

    def forward(self, images: Tensor) -> Tensor:
        seen, also_seen, known, also_known = self.look(images)
        tokens = torch.full([images.size(0)], self.begin, dtype=torch.long, device=images.device)
        ended = torch.zeros_like(tokens, dtype=torch.bool)
        place = torch.zeros([1], dtype=torch.long, device=images.device)
        answers: list[Tensor] = []
        while len(answers) < self.num_positions and not bool(ended.all()):
            answer, tokens, known, also_known = self.step(tokens, place, seen, also_seen, known, also_known)
            answers.append(answer)
            ended = ended | (tokens == self.end)
            place = place + 1
        nothing = torch.zeros_like(answers[0])  # reads as the end
        for _ in range(self.num_positions - len(answers)):
            answers.append(nothing)
        return self.finish(torch.stack(answers, 1), seen, also_seen)


class Finished(nn.Module):
    """In the place of a `finish`."""

    def forward(self, logits: Tensor, seen: Tensor, also_seen: Tensor) -> Tensor:
        return logits
