"""sync-SDE (Zhang et al., arXiv 2509.24223): source and target follow one reverse SDE under the same Brownian motion.

The SDE of the rectified flow with g^2 = 2 t / (1 - t) has a forward drift without a network in it: the source's path is
X_t = (1 - t) (x0 + B_t), with B a Brownian motion on the clock a_t^2, a_t = t / (1 - t). It costs nothing and is exact.
The target Y = X + D obeys the same SDE under its own prompt; the noise cancels from the difference:

    dD/dt = 2 [v(X + D, t, target) - v(X, t, source)] + D / (1 - t),   D = 0 at the start, and x0 + D(0) is the edit.

In x0-predictions this is d(D / (1 - t)) / d ln a^2 = D / (1 - t) - dx0, and each step solves it with dx0 held: finite
from t = 1 on, where the Euler step of the released code divides by 0. `lib.editors.difference_flow` has that one.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lib.bench.cases import Batch
from lib.core.noise import NoiseStream
from lib.editors.base import Callback, EditResult, Settings, notify, rows_per_call

if TYPE_CHECKING:
    from lib.backbones.base import Backbone


@dataclass(frozen=True)
class SyncSDE(Settings):
    """The defaults of the released code for FLUX.1-dev. Noise levels are t: 1 is noise, 0 is the image."""

    steps: int = 28  # demo and pipeline: N = 28
    start: float = 0.95  # the demo's starting index 4 of 28, which is the noise level 0.950 at 1024 x 1024
    source_guidance: float = 1.0  # demo and pipeline: 1.0 for the source
    target_guidance: float = 1.0  # and 1.0 for the target


def sync_sde(
    backbone: Backbone, batch: Batch, settings: SyncSDE, *, noise: NoiseStream, callback: Callback | None = None
) -> EditResult:
    """Images [B, 3, H, W] edited from the source to the target prompt. The callback sees x0 + D, at first the source.

    The two velocities are two calls of one batch shape: equal prompts and guidance then differ by exactly 0.
    """
    x0 = backbone.encode(batch.image)
    source = backbone.embed(batch.source_prompt, settings.source_guidance)
    target = backbone.embed(batch.target_prompt, settings.target_guidance)
    times = backbone.times(settings.steps, settings.start, like=x0)
    path = brownian(x0, times, noise)
    z = x0
    for x, (t, t_next) in zip(path, pairwise(times), strict=True):
        d = z - x0
        dv = backbone.velocity(x + d, t, target) - backbone.velocity(x, t, source)
        dx = d - t * dv  # difference of the two x0-predictions, (x + d - t v) - (x - t v)
        r = (t_next * (1 - t) / (t * (1 - t_next))) ** 2  # (a_next / a)^2: 0 at t = 1 and at t_next = 0
        scaled = d / (1 - t) if t < 1 else d  # d is still 0 at t = 1
        z = x0 + (1 - t_next) * (dx + r * (scaled - dx))
        notify(callback, t_next, z)
    return EditResult(backbone.decode(z), latents=z)


def brownian(x0: Tensor, times: Tensor, noise: NoiseStream) -> list[Tensor]:
    """One path X [B, C, h, w] of the forward SDE from x0, at the levels times[:-1]; pure noise where that is 1.

    B_i = B_{i+1} + z_i sqrt(a_i^2 - a_{i+1}^2), from B = 0 at t = 0, is kept as (1 - t_i) B_i: a is infinite at t = 1.
    Draws z_i as step i of `noise`.
    """
    path, scaled = [], torch.zeros_like(x0)
    for i, (t, t_next) in reversed(list(enumerate(pairwise(times)))):
        kept = (1 - t) / (1 - t_next)
        scaled = kept * scaled + (t**2 - (kept * t_next) ** 2).sqrt() * noise.draw(i, x0)
        path.append((1 - t) * x0 + scaled)
    return path[::-1]


def sync_sde_nfe(backbone: Backbone, settings: SyncSDE, latents: Tensor) -> float:
    """Transformer evaluations per image: one source and one target velocity per step."""
    times = backbone.times(settings.steps, settings.start, like=latents)
    guidances = settings.source_guidance, settings.target_guidance
    return (len(times) - 1) * sum(rows_per_call(backbone, guidance) for guidance in guidances)
