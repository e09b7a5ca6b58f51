"""FlowEdit (Kulikov et al., arXiv 2412.08629): follow the difference of two velocities, without inversion.

Algorithm 1 of the paper, in noise levels t instead of step numbers: `start` is t of n_max, `tail` is t of n_min.
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
class FlowEdit(Settings):
    """The paper's settings for FLUX.1-dev. Noise levels are t: 1 is noise, 0 is the image."""

    steps: int = 28  # T of the paper's FLUX settings, as all below
    start: float = 0.95  # n_max = 24 of 28, which is the noise level 0.950 at 1024 x 1024
    source_guidance: float = 1.5
    target_guidance: float = 5.5  # its plots also show 3.5 and 4.5
    n_avg: int = 1
    tail: float = 0.0  # n_min = 0; 14 of 28 for style edits (table S7)


def flowedit(
    backbone: Backbone, batch: Batch, settings: FlowEdit, *, noise: NoiseStream, callback: Callback | None = None
) -> EditResult:
    """Images [B, 3, H, W] edited from the source to the target prompt. The callback sees z, which starts as the source.

    The two velocities are two calls of one batch shape: equal prompts and guidance then differ by exactly 0.
    """
    source_latents = backbone.encode(batch.image)
    source = backbone.embed(batch.source_prompt, settings.source_guidance)
    target = backbone.embed(batch.target_prompt, settings.target_guidance)
    times = backbone.times(settings.steps, settings.start, like=source_latents)
    coupled, tail = split(times, settings.tail)
    z = source_latents
    for i, (t, t_next) in enumerate(pairwise(coupled)):
        difference = 0
        for k in range(settings.n_avg):  # fresh noise for each draw of each step
            x = (1 - t) * source_latents + t * noise.draw(i * settings.n_avg + k, source_latents)
            y = x + (z - source_latents)  # added in this order, y is x to the bit while z is the source
            difference = difference + (backbone.velocity(y, t, target) - backbone.velocity(x, t, source))
        z = z + (t_next - t) * difference / settings.n_avg
        notify(callback, t_next, z)
    if len(tail) > 1:  # n_min plain steps of the target's flow, from one fresh noise
        t = tail[0]
        x = (1 - t) * source_latents + t * noise.draw((len(coupled) - 1) * settings.n_avg, source_latents)
        z = x + (z - source_latents)
        for t, t_next in pairwise(tail):
            z = z + (t_next - t) * backbone.velocity(z, t, target)
            notify(callback, t_next, z)
    return EditResult(backbone.decode(z), latents=z)


def split(times: Tensor, tail: float) -> tuple[Tensor, Tensor]:
    """Cut the levels [n + 1] at the first one not above `tail`, which ends the first part and begins the other."""
    cut = int((times > tail + 1e-6).sum())
    return times[: cut + 1], times[cut:]


def flowedit_nfe(backbone: Backbone, settings: FlowEdit, latents: Tensor) -> float:
    """Transformer evaluations per image: source and target for each draw of a coupled step, the target in the tail."""
    coupled, tail = split(backbone.times(settings.steps, settings.start, like=latents), settings.tail)
    per_source = rows_per_call(backbone, settings.source_guidance)
    per_target = rows_per_call(backbone, settings.target_guidance)
    return (len(coupled) - 1) * settings.n_avg * (per_source + per_target) + (len(tail) - 1) * per_target
