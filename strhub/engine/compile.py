"""The switch for torch.compile: it fuses what a network does one operation at a time, and says so where it cannot."""

from __future__ import annotations

import logging

import torch

from strhub.engine.errors import sentence
from strhub.models.reader import Recogniser

log = logging.getLogger(__name__)


def compile_parts(system: Recogniser, device: torch.device, *, only_reads: bool = False) -> bool:
    """Has the parts of the network that gain by it compiled when they are first used, for `device`.

    Where torch finds no compiler, a sentence is logged, nothing is changed, and False returned. Copies of the system,
    as averaging makes them, are not compiled; names of parameters stay the same.

    Args:
        system: whose parts.
        device: where it computes.
        only_reads: it is not trained. A GPU is then given all kernels of a part at once, as a CUDA graph that is
            recorded for each size of batch; what a part returns, its next call overwrites.
    """
    try:
        torch.compile(torch.neg)(torch.zeros(1, device=device))
    except Exception as error:  # what is missing is told by many kinds of them
        log.warning('compile=true: torch cannot compile here (%s); going on without', sentence(error))
        return False
    # A training step's batches are large: their kernels take longer than it takes to start them one by one.
    mode = 'reduce-overhead' if only_reads and device.type == 'cuda' else None
    for part in system.compilable():
        part.compile(mode=mode)
    return True
