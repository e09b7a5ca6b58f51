"""Which arms are on the front of several metrics, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from lib.core.errors import InputError
from lib.stats.bootstrap import Array, draw_counts, groups_of
from lib.stats.tidy import units


def on_front(points: Array) -> np.ndarray:
    """True for points [..., arms, metrics] (higher is better) that no other dominates: as good in all, better in one.

    Equal points are all on the front.
    """
    one, other = points[..., :, None, :], points[..., None, :, :]
    return ~((other >= one).all(axis=-1) & (other > one).any(axis=-1)).any(axis=-1)


def membership(
    table: pd.DataFrame, arms: Sequence[str], metrics: Mapping[str, str], *, stratum: str | None = None,
    image: str | None = None, resamples: int = 2000, seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """Columns arm, on_front, probability, n, then the mean of each metric; `metrics` says "higher" or "lower" of each.

    The probability is the share of bootstrap samples of units (within strata) in which the arm is on the front.
    """
    wrong = {name: way for name, way in metrics.items() if way not in ("higher", "lower")}
    if wrong or not metrics:
        raise InputError("metrics", found=f"{wrong or dict(metrics)}", expected="name: higher or lower")
    kept = units(table, [(arm, metric) for arm in arms for metric in metrics], stratum=stratum, image=image)
    n, shape = len(kept.values), (len(arms), len(metrics))
    if n == 0:
        raise InputError("cases", found="none with all metrics in all arms", expected="one at least")
    sign = np.array([1.0 if way == "higher" else -1.0 for way in metrics.values()])
    groups = groups_of(kept.strata, n, np.ones(n, dtype=bool))
    means = draw_counts(groups, n, resamples, seed) @ kept.values / n
    own = kept.values.mean(axis=0).reshape(shape)
    found = pd.DataFrame({"arm": list(arms), "on_front": on_front(own * sign)})
    found["probability"] = on_front(means.reshape(resamples, *shape) * sign).mean(axis=0)
    found["n"] = n
    return found.assign(**dict(zip(metrics, own.T, strict=True)))
