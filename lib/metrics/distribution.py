"""Distances between two sets of images by their features: FID (Heusel et al. 2017) and KID (Binkowski et al. 2018).

Both run torch-fidelity's statistics in float64 on features that are given: arrays or tensors [N, D], D at least 2 (2048
of Inception's last pooling, `lib.metrics.extractors.inception_features`). FID is biased at small N and its covariances
are singular below N = D + 1; on an editing set report KID, or neither. Wrong shapes and numbers raise InputError.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from lib.core.errors import InputError

KID_SUBSETS, KID_SUBSET_SIZE = 100, 1000


class Kid(NamedTuple):
    """Mean over subsets of the unbiased estimate (it may be negative), and the deviation between them: no interval."""

    mean: float
    deviation: float


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
