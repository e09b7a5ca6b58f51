"""ODE inversion: the source up the flow of its own prompt, then down the flow of the target prompt.

The baseline that FlowEdit (Kulikov et al., arXiv 2412.08629) starts from; with two models it is DDIB (2203.08382).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from torch import Tensor

from lib.bench.cases import Batch
from lib.core.noise import NoiseStream
from lib.editors.base import Callback, EditResult, Settings, notify, rows_per_call

if TYPE_CHECKING:
    from lib.backbones.base import Backbone


@dataclass(frozen=True)
class ODEInversion(Settings):
    """Noise levels are t: 1 is noise, 0 is the image."""

    steps: int = 28  # FlowEdit's comparison on FLUX.1-dev: T as FlowEdit's
    start: float = 0.95  # n_max = 24 of 28 (and 20), the noise level 0.950 at 1024 x 1024
    source_guidance: float = 1.5  # FlowEdit's for the source
    target_guidance: float = 5.5  # and for the target


def ode_inversion(
    backbone: Backbone, batch: Batch, settings: ODEInversion, *, noise: NoiseStream, callback: Callback | None = None
) -> EditResult:
    """Images [B, 3, H, W] edited from the source to the target prompt. Deterministic: `noise` is not drawn."""
    x = backbone.encode(batch.image)  # x0
    source = backbone.embed(batch.source_prompt, settings.source_guidance)
    target = backbone.embed(batch.target_prompt, settings.target_guidance)
    times = backbone.times(settings.steps, settings.start, like=x)
    for t, t_next in pairwise(times.flip(0)):  # up: 0 -> start, Euler
        x = x + (t_next - t) * backbone.velocity(x, t, source)
        notify(callback, t_next, x)
    for t, t_next in pairwise(times):  # down: start -> 0, along the same levels
        x = x + (t_next - t) * backbone.velocity(x, t, target)
        notify(callback, t_next, x)
    return EditResult(backbone.decode(x), latents=x)


def ode_inversion_nfe(backbone: Backbone, settings: ODEInversion, latents: Tensor) -> float:
    """Transformer evaluations per image: one source and one target velocity per step."""
    times = backbone.times(settings.steps, settings.start, like=latents)
    guidances = settings.source_guidance, settings.target_guidance
    return (len(times) - 1) * sum(rows_per_call(backbone, guidance) for guidance in guidances)
