"""Many tests at once."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from lib.core.errors import InputError
from lib.stats.bootstrap import Array


def holm(p: ArrayLike | Sequence[float]) -> Array:
    """Holm's adjusted p values, in the order given: sorted, p~_(i) = max over j <= i of min(1, (m - j + 1) p_(j)).

    Rejecting p~ <= alpha keeps the chance of any false rejection at alpha. NaN counts as 1: a test that was planned
    and gave no p stays in the family. InputError for a p outside [0, 1].
    """
    p = np.asarray(p, dtype=float)
    if p.ndim != 1:
        raise InputError("p values", found=f"shape {p.shape}", expected="a list of numbers")
    p = np.where(np.isnan(p), 1.0, p)
    if ((p < 0) | (p > 1)).any():
        raise InputError("p values", found=f"{p.min():g} to {p.max():g}", expected="numbers in [0, 1]")
    order = np.argsort(p, kind="stable")
    steps = np.minimum(1.0, (len(p) - np.arange(len(p))) * p[order])
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(steps)
    return adjusted
