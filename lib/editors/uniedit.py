"""UniEdit-Flow (Jiao et al., arXiv 2504.13109): Uni-Inv corrects its own prediction, Uni-Edit fuses two velocities.

This follows the update rule of the release for FLUX. Two things were open: over which channels the mask's mean runs
(here those of one transformer token, which are what packed latents have) and whether its minmax is per image (here it
is).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor

from lib.bench.cases import Batch
from lib.core.noise import NoiseStream
from lib.editors.base import Callback, EditResult, Settings, notify, rows_per_call
from lib.editors.solvers import Evaluate, check_ranges, follow, intervals

if TYPE_CHECKING:
    from lib.backbones.base import Backbone


@dataclass(frozen=True)
class UniEdit(Settings):
    """The released settings for FLUX.1-dev."""

    steps: int = 15
    alpha: float = 0.6  # share of the steps, from the image up, that are inverted and edited
    omega: float = 5.0  # strength of the correction
    source_guidance: float = 1.0
    target_guidance: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, alpha=(0, 1), omega=(0, float("inf")))


def uniedit(
    backbone: Backbone, batch: Batch, settings: UniEdit, *, noise: NoiseStream, callback: Callback | None = None
) -> EditResult:
    """Images [B, 3, H, W] edited from the source to the target prompt. Deterministic: `noise` is not drawn."""
    x = backbone.encode(batch.image)
    source = backbone.embed(batch.source_prompt, settings.source_guidance)
    target = backbone.embed(batch.target_prompt, settings.target_guidance)
    times = lower_levels(backbone, settings, x)
    x = uni_inversion(follow(backbone, source), x, times.flip(0), callback)
    for t, t_next in pairwise(times):
        v_source, v_target = backbone.velocity(x, t, source), backbone.velocity(x, t, target)
        d = v_target - v_source
        g = where_they_differ(d, backbone.patch)
        v = g * v_target + (1 - g) * v_source + (1 + g) * settings.omega * d
        x = x + (t_next - t) * v
        notify(callback, t_next, x)
    return EditResult(backbone.decode(x), latents=x)


def uni_inversion(evaluate: Evaluate, x: Tensor, times: Tensor, callback: Callback | None = None) -> Tensor:
    """Uni-Inv: predict with the last velocity, evaluate there, and step from where it stood with what was found.

    n + 1 evaluations for n intervals. Exact where the velocity found is that of the point arrived at.
    """
    v = None
    for t, t_next, i in intervals(times):
        h = t_next - t
        if v is None:
            v = evaluate(x, t, i, "first")
        v = evaluate(x + h * v, t_next, i, "last")
        x = x + h * v
        notify(callback, t_next, x)
    return x


def where_they_differ(d: Tensor, patch: int) -> Tensor:
    """The mask g [B, 1, h, w] in [0, 1]: the mean |d| of each token, stretched to 0...1 in each image (0 if d is 0)."""
    size = F.avg_pool2d(d.abs().mean(1, keepdim=True), patch)
    low, high = size.amin((2, 3), keepdim=True), size.amax((2, 3), keepdim=True)
    g = (size - low) / (high - low).clamp(min=1e-12)
    return g.repeat_interleave(patch, 2).repeat_interleave(patch, 3)


def lower_levels(backbone: Backbone, settings: UniEdit, latents: Tensor) -> Tensor:
    """The round(alpha steps) lowest intervals of the schedule, at least one, descending to 0."""
    times = backbone.times(settings.steps, like=latents)
    kept = max(round(settings.alpha * settings.steps), 1)
    return times[-(kept + 1) :]


def uniedit_nfe(backbone: Backbone, settings: UniEdit, latents: Tensor) -> float:
    """Transformer evaluations per image: n + 1 of the source up, n of both prompts down."""
    n = len(lower_levels(backbone, settings, latents)) - 1
    per_source = rows_per_call(backbone, settings.source_guidance)
    per_target = rows_per_call(backbone, settings.target_guidance)
    return (n + 1) * per_source + n * (per_source + per_target)
