"""Whether an edited image still shows the same thing: identity score, with the two numbers it must be read between.

Embeddings are floats [N, D] of any identity network (faces, or crops of objects), one row per image; it should be none
that an editor was trained with. A row that is NaN (no face found) or zero scores NaN, which the tables drop and count.
The score of an image alone says little: strangers score well above 0 and two photos of one person below 1, hence
`impostor_baseline` and `same_identity_ceiling`.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import combinations
from math import nan

import numpy as np
import torch
from torch import Tensor

from lib.core.errors import InputError
from lib.metrics.clip import cosine


def identity_score(edited: Tensor, reference: Tensor) -> Tensor:
    """cos in [-1, 1], float64 [N], of each edited image and its reference: the source, or the target."""
    return cosine(edited, reference)


def derangement(n: int, seed: int = 0) -> list[int]:
    """A random order of range(n) in which nothing keeps its place: a uniformly drawn cycle (Sattolo 1986).

    InputError if n < 2: one element has no other place.
    """
    if n < 2:
        raise InputError("derangement", found=f"{n} elements", expected="at least 2")
    generator = np.random.default_rng(seed)
    order = list(range(n))
    for last in range(n - 1, 0, -1):
        other = int(generator.integers(0, last))
        order[last], order[other] = order[other], order[last]
    return order


def impostor_baseline(
    edited: Tensor, reference: Tensor, identities: Sequence[Hashable] | None = None, *, seed: int = 0
) -> float:
    """Mean cos in [-1, 1] over random wrong pairs: each edited image with another one's reference, by a derangement.

    Pairs that happen to be of one identity (where `identities` names them) and NaN are left out; NaN if none is left.
    """
    _check_identities(identities, edited)
    order = derangement(len(edited), seed)
    values = cosine(edited, reference[order])
    if identities is not None:
        same = torch.tensor([identities[i] == identities[j] for i, j in enumerate(order)])
        values = values[~same]
    return values.nanmean().item()


def same_identity_ceiling(embeddings: Tensor, identities: Sequence[Hashable]) -> float:
    """Mean cos in [-1, 1] over all pairs of different images of one identity; NaN if no identity has two images."""
    _check_identities(identities, embeddings)
    pairs = [(i, j) for i, j in combinations(range(len(identities)), 2) if identities[i] == identities[j]]
    if not pairs:
        return nan
    first, second = zip(*pairs, strict=True)
    return cosine(embeddings[list(first)], embeddings[list(second)]).nanmean().item()


def _check_identities(identities: Sequence[Hashable] | None, embeddings: Tensor) -> None:
    if identities is not None and len(identities) != len(embeddings):
        found = f"{len(identities)} for {len(embeddings)} images"
        raise InputError("identities", found=found, expected="one for each image")
