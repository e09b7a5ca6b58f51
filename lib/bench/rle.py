"""PIE-Bench's masks: a flat list start, length, start, length, … over the rows of the 512 x 512 picture.

Starts count from 0 along the rows (row-major) and name the pixels that are to be edited. COCO's run lengths are another
thing: they alternate between off and on and go down the columns.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lib.core.errors import InputError

SIDE = 512  # pixels of a side of every PIE-Bench picture
PIXELS = SIDE * SIDE


def decode(runs: Sequence[int], *, ring: bool = False, name: str = "mask") -> Tensor:
    """The mask bool [1, 512, 512] of these runs, True = may change; runs may overlap, no run means that nothing may.

    A run that goes on beyond the last pixel ends there, as the official scorer has it. `ring` forces the outermost rows
    and columns to True, as that scorer does before it measures.

    Raises:
        InputError: `name` is no list of whole numbers, is of odd length, holds a negative number or a start beyond the
            last pixel.
    """
    if not isinstance(runs, list | tuple):
        raise InputError(name, found=f"a {type(runs).__name__}", expected="a list start, length, start, length, …")
    if len(runs) % 2:
        raise InputError(name, found=f"{len(runs)} numbers", expected="an even number: start and length of each run")
    mask = torch.zeros(PIXELS, dtype=torch.bool)
    for place, (start, length) in enumerate(zip(runs[::2], runs[1::2], strict=True)):
        if type(start) is not int or type(length) is not int:  # a bool is an int, and none of these
            found = f"{start!r:.40}, {length!r:.40} as run {place}"
            raise InputError(name, found=found, expected="whole numbers start and length")
        if not 0 <= start < PIXELS or length < 0:
            found = f"start {_short(start)}, length {_short(length)} as run {place}"
            raise InputError(name, found=found, expected=f"a start from 0 to {PIXELS - 1} and a length of 0 or more")
        mask[start : min(start + length, PIXELS)] = True
    mask = mask.view(1, SIDE, SIDE)
    return with_ring(mask) if ring else mask


def encode(mask: Tensor) -> list[int]:
    """The fewest runs of a mask bool [1, 512, 512], in rising order; `decode` gives the mask back.

    Raises:
        InputError: the mask is of another type or shape.
    """
    if mask.dtype != torch.bool or mask.shape != (1, SIDE, SIDE):
        found = f"{mask.dtype} {list(mask.shape)}"
        raise InputError("mask to encode", found=found, expected=f"torch.bool {[1, SIDE, SIDE]}")
    edges = torch.diff(mask.flatten().int(), prepend=torch.zeros(1).int(), append=torch.zeros(1).int())
    starts, ends = (edges == 1).nonzero()[:, 0], (edges == -1).nonzero()[:, 0]
    return torch.stack([starts, ends - starts], dim=1).flatten().tolist()


def with_ring(mask: Tensor) -> Tensor:
    """A copy of the mask bool [..., H, W] whose outermost rows and columns are True: what the official scorer uses."""
    mask = mask.clone()
    mask[..., [0, -1], :] = True
    mask[..., :, [0, -1]] = True
    return mask


def _short(number: int) -> str:
    """A damaged file may hold a number of more digits than Python prints."""
    return str(number) if abs(number) < 10**20 else "a number of over 20 digits"
