"""Ranks of arms, unit by unit: how often each comes first, and whether the order is more than chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import chdtrc
from scipy.stats import rankdata

from lib.core.errors import InputError
from lib.stats.bootstrap import mean_interval
from lib.stats.tidy import units


@dataclass(frozen=True, eq=False)
class Ranking:
    """`units` [unit × arm]: ranks, 1 is best, ties averaged; `means`: columns arm, rank, low, high, n, best first.

    `p` is Friedman's: the chance of mean ranks so far apart if all orders were equally likely.
    """

    units: pd.DataFrame
    means: pd.DataFrame
    p: float


def rank(
    table: pd.DataFrame, arms: Sequence[str], metric: str, *, better: str = "higher", stratum: str | None = None,
    image: str | None = None, level: float = 0.95, resamples: int = 2000, seed: int = 0,
) -> Ranking:  # fmt: skip
    """Rank the arms in a metric on each case (each image, if that column is named) that all of them have."""
    if better not in ("higher", "lower"):
        raise InputError("better", found=repr(better), expected="higher or lower")
    if len(set(arms)) != len(arms) or len(arms) < 2:
        raise InputError("arms", found=f"{list(arms)}", expected="two or more, each once")
    kept = units(table, [(arm, metric) for arm in arms], stratum=stratum, image=image)
    ranks = rankdata(-kept.values if better == "higher" else kept.values, axis=1)
    rows = [
        {"arm": arm, "rank": found.value, "low": found.low, "high": found.high, "n": found.n}
        for arm, column in zip(arms, ranks.T, strict=True)
        for found in [mean_interval(column, kept.strata, level=level, resamples=resamples, seed=seed)]
    ]
    means = pd.DataFrame(rows).sort_values("rank", kind="stable", ignore_index=True)
    return Ranking(pd.DataFrame(ranks, index=kept.names, columns=list(arms)), means, friedman(ranks))


def friedman(ranks: np.ndarray) -> float:
    """p of Friedman's test with its correction for ties, from ranks [n, k]; 1 where all arms tie everywhere."""
    n, k = ranks.shape
    between = np.sum((ranks.sum(axis=0) - n * (k + 1) / 2) ** 2)
    within = np.sum((ranks - (k + 1) / 2) ** 2)  # n k (k + 1)(k - 1) / 12 without ties
    return 1.0 if within == 0 else float(chdtrc(k - 1, (k - 1) * between / within))
