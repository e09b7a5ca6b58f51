"""Scores of whole sets of images: FID (Heusel et al. 2017), KID (Binkowski et al. 2018), IS (Salimans et al. 2016).

All run torch-fidelity's statistics in float64 on what is given, arrays or tensors: features [N, D] with D at least 2
(2048 of Inception's last pooling, `lib.metrics.extractors.inception_features`, or any judge's), or class logits [N, C].
FID is biased at small N and its covariances are singular below N = D + 1; on an editing set report KID, or neither.
The Inception Score asks for clear and varied classes and knows nothing of the edit: for old tables only. Wrong shapes
and numbers raise InputError. `SETS` is their table, as `lib.metrics.tables.TABLE` is that of scores of single images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, nan
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from lib.core.errors import InputError

KID_SUBSETS, KID_SUBSET_SIZE = 100, 1000
IS_SPLITS = 10
LEAST_LOGIT = -700.0  # under the largest: e to it is above 0, so that no class has the probability 0


class Kid(NamedTuple):
    """Mean over subsets of the unbiased estimate (it may be negative), and the deviation between them: no interval."""

    mean: float
    deviation: float


class InceptionScore(NamedTuple):
    """Mean over the splits, and the deviation between them (that of a population, as torch-fidelity has it)."""

    mean: float
    deviation: float


@dataclass(frozen=True)
class SetRow:
    """One score of a set: how to read it, what must be given for it, and when it is NaN."""

    name: str
    range: tuple[float, float]
    unit: str
    direction: str  # "higher" or "lower" is better
    needs: tuple[str, ...]  # arguments of `score_sets`
    missing: str  # when it is NaN
    compute: Callable[..., tuple[float, float]]  # of what it needs: the score and its deviation, NaN where it has none


def fid(features: ArrayLike | Tensor, reference: ArrayLike | Tensor) -> float:
    """Frechet distance of the two Gaussians fitted: |m - n|^2 + tr(S + T - 2 (S T)^(1/2)), 0 for equal sets."""
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric

    first, second = checked(features, reference, at_least=2)
    statistics = (fid_features_to_statistics(first), fid_features_to_statistics(second))
    return fid_statistics_to_metric(*statistics, verbose=False)[KEY_METRIC_FID]


def kid(
    features: ArrayLike | Tensor,
    reference: ArrayLike | Tensor,
    *,
    subsets: int = KID_SUBSETS,
    subset_size: int = KID_SUBSET_SIZE,
    seed: int = 0,
) -> Kid:
    """Unbiased squared MMD under the kernel (x . y / D + 1)^3 over random subsets, drawn by a generator of its own.

    InputError if either set has fewer than `subset_size` samples.
    """
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric

    if subsets < 1 or subset_size < 2:
        raise InputError("KID", found=f"{subsets} subsets of {subset_size}", expected="at least 1 of at least 2")
    first, second = checked(features, reference, at_least=subset_size)
    found = kid_features_to_metric(
        first,
        second,
        kid_subsets=subsets,
        kid_subset_size=subset_size,
        kid_kernel="poly",
        kid_kernel_poly_degree=3,
        kid_kernel_poly_gamma=None,
        kid_kernel_poly_coef0=1,
        rng_seed=seed,
        verbose=False,
    )
    return Kid(found[KEY_METRIC_KID_MEAN], found[KEY_METRIC_KID_STD])


def inception_score(logits: ArrayLike | Tensor, *, splits: int = IS_SPLITS, seed: int | None = 0) -> InceptionScore:
    """exp of the mean over images of KL(p(class | image) || p(class)), in [1, number of classes], for each split.

    Images are dealt to the splits in an order drawn by `seed`, or as they come if it is None.
    InputError if there are fewer images than splits.
    """
    from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, KEY_METRIC_ISC_STD, isc_features_to_metric

    values = _float64(logits, "logits")
    if not 1 <= splits <= len(values):
        raise InputError(
            "Inception Score", found=f"{splits} splits of {len(values)} images", expected="1 image in each"
        )
    values = (values - values.amax(dim=1, keepdim=True)).clamp(min=LEAST_LOGIT)
    found = isc_features_to_metric(values, splits=splits, shuffle=seed is not None, rng_seed=seed)
    return InceptionScore(found[KEY_METRIC_ISC_MEAN], found[KEY_METRIC_ISC_STD])


def _all_kid(features: Tensor, reference: Tensor) -> Kid:
    return kid(features, reference, subset_size=min(KID_SUBSET_SIZE, len(features), len(reference)))


TOO_FEW = "fewer than two images in a set"
# fmt: off
SETS: dict[str, SetRow] = {row.name: row for row in (
    SetRow("set/fid", (0, inf), "", "lower", ("features", "reference"), TOO_FEW, lambda x, y: (fid(x, y), nan)),
    SetRow("set/kid", (-inf, inf), "", "lower", ("features", "reference"), TOO_FEW, _all_kid),
    SetRow("set/inception_score", (1, inf), "", "higher", ("logits",), TOO_FEW,
        lambda x: inception_score(x, splits=min(IS_SPLITS, len(x)))),
)}
# fmt: on


def score_sets(
    *,
    features: Tensor | None = None,
    reference: Tensor | None = None,
    logits: Tensor | None = None,
    arm: str,
    extractor: str,
) -> list[dict[str, Any]]:
    """Rows {arm, metric, value, deviation, n, extractor} of one arm's images, in the order of SETS.

    `features` [N, D] of the edited images, `reference` [M, D] of the right answers or the sources, `logits` [N, C] of
    the edited ones. A score whose inputs are not given has no row; of fewer than two images it is NaN. KID takes
    subsets of all images where there are fewer than 1000, the Inception Score as many splits as images below 10.
    """
    given = {"features": features, "reference": reference, "logits": logits}
    rows = []
    for row in SETS.values():
        inputs = [given[need] for need in row.needs]
        if any(one is None for one in inputs):
            continue
        enough = min(len(one) for one in inputs) > 1
        value, deviation = row.compute(*inputs) if enough else (nan, nan)
        told = {"arm": arm, "metric": row.name, "value": value, "deviation": deviation}
        rows.append(told | {"n": len(inputs[0]), "extractor": extractor})
    return rows


def checked(features: ArrayLike | Tensor, reference: ArrayLike | Tensor, *, at_least: int) -> tuple[Tensor, Tensor]:
    first, second = _float64(features, "features"), _float64(reference, "reference features")
    if first.shape[1] != second.shape[1]:
        raise InputError("features", found=f"{first.shape[1]} and {second.shape[1]} wide", expected="equal widths")
    if min(len(first), len(second)) < at_least:
        found = f"{len(first)} and {len(second)} samples"
        raise InputError("features", found=found, expected=f"at least {at_least} in each set")
    return first, second


def _float64(features: ArrayLike | Tensor, name: str) -> Tensor:
    array = features.detach().cpu().numpy() if isinstance(features, Tensor) else np.asarray(features)
    if array.ndim != 2 or array.shape[1] < 2:
        raise InputError(name, found=f"shape {list(array.shape)}", expected="[N, D], D at least 2")
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        raise InputError(name, found="values that are not finite", expected="finite numbers")
    return torch.from_numpy(array)
