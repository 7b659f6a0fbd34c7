"""The orders in which PARSeq learns to read a word, and what each of them hides (Bautista and Atienza, ECCV 2022).

Positions of a word of L characters: 0 is [B], 1 … L the characters, L + 1 is [E].
"""

from __future__ import annotations

import math
from itertools import permutations

import torch
from torch import Tensor

# Up to here all orders can be listed, and are drawn without repetition; from 5 characters (120 orders) on repetitions
# are rare and harmless.
MAX_LISTED = 4


def check_permutations(perm_num: int, *, mirrored: bool) -> None:
    """Raises ValueError for a number of permutations that cannot be drawn."""
    if perm_num < 1:
        raise ValueError(f'perm_num is {perm_num}: give at least 1')
    if mirrored and perm_num % 2:
        raise ValueError(
            f'perm_num is {perm_num}, but perm_mirrored draws pairs: give an even number, or perm_mirrored=false'
        )


def sample_permutations(
    num_chars: int, num: int, *, forward: bool = True, mirrored: bool = True, generator: torch.Generator | None = None
) -> Tensor:
    """Draws reading orders.

    Args:
        num_chars: L, characters of the longest word of the batch.
        num: K; fewer are drawn where L characters have fewer orders.
        forward: the first order is left to right; else it is drawn as well.
        mirrored: the orders come in pairs, the second of which reads the characters of the first backwards.
        generator: source of the randomness; the default is torch's global one.

    Returns:
        (K, L + 2) long; row k lists positions in the order they are read. [B] is always first. [E] is last, except in
        row 1, which is right to left: [E], L, …, 1.
    """
    check_permutations(num, mirrored=mirrored)
    if num_chars < 2:
        return torch.arange(num_chars + 2).unsqueeze(0)
    num = min(num, math.factorial(num_chars))
    if mirrored:
        chars = _draw_orders(num_chars, num // 2, forward=forward, mirrored=True, generator=generator)
        chars = torch.stack([chars, chars.flip(-1)], 1).flatten(0, 1)  # each followed by its mirror image
    else:
        chars = _draw_orders(num_chars, num - (num > 1), forward=forward, mirrored=False, generator=generator)
        if num > 1:
            chars = torch.cat([chars[:1], chars])  # makes room for row 1
    rows = torch.cat([torch.zeros(num, 1).long(), chars, torch.full((num, 1), num_chars + 1)], 1)
    if num > 1:
        rows[1, 1:] = torch.arange(num_chars + 1, 0, -1)
    return rows


def _draw_orders(
    num_chars: int, num: int, *, forward: bool, mirrored: bool, generator: torch.Generator | None
) -> Tensor:
    """(num, num_chars) orders of the characters; of a mirrored pair only one."""
    if num_chars > MAX_LISTED:
        orders = torch.rand(num, num_chars, generator=generator).argsort() + 1
        if forward:
            orders[0] = torch.arange(1, num_chars + 1)
        return orders
    orders = torch.tensor(list(permutations(range(1, num_chars + 1))))  # sorted: right to left is last
    if mirrored:
        orders = orders[orders[:, 0] < orders[:, -1]]
        if not forward and torch.rand((), generator=generator) < 0.5:
            orders = orders.flip(-1)  # the first of a pair may be either of the two
    elif len(orders) > num:
        orders = orders[:-1]  # right to left has row 1 for itself
    drawn = torch.randperm(len(orders), generator=generator)
    if forward:
        drawn = torch.cat([drawn.new_zeros(1), drawn[drawn > 0]])
    return orders[drawn[:num]]


def attention_masks(orders: Tensor) -> tuple[Tensor, Tensor]:
    """What an order hides: a position sees what is read before it, and a query does not see what it asks for.

    Args:
        orders: (K, L + 2) as `sample_permutations` returns them.

    Returns:
        Two (K, L + 1, L + 1) masks, True = hidden, over the context [B], 1 … L. `content`: row i is what position i
        sees, itself included. `query`: row i is what the query for position i + 1 sees.
    """
    rank = orders.argsort(-1)  # when a position is read
    context = rank[:, None, :-1]
    content = context > rank[:, :-1, None]
    query = context >= rank[:, 1:, None]
    return content, query
