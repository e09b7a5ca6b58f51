"""SDEdit (Meng et al., arXiv 2108.01073): noise the source, denoise it with the target prompt."""

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
class SDEdit(Settings):
    """Noise levels are t: 1 is noise, 0 is the image."""

    steps: int = 28  # FlowEdit (2412.08629), table S6: T = 28 on FLUX.1-dev
    start: float = 0.905  # strength 0.75 (0.5 too): 21 of 28 steps, the noise level 0.905 at 1024 x 1024
    guidance: float = 5.5  # same table


def sdedit(
    backbone: Backbone, batch: Batch, settings: SDEdit, *, noise: NoiseStream, callback: Callback | None = None
) -> EditResult:
    """Images [B, 3, H, W] edited towards the target prompt; needs no source prompt. Draws noise of step 0."""
    source = backbone.encode(batch.image)  # x0
    target = backbone.embed(batch.target_prompt, settings.guidance)
    times = backbone.times(settings.steps, settings.start, like=source)
    x = (1 - times[0]) * source + times[0] * noise.draw(0, source)
    for t, t_next in pairwise(times):
        x = x + (t_next - t) * backbone.velocity(x, t, target)  # Euler step of dx = v dt
        notify(callback, t_next, x)
    return EditResult(backbone.decode(x), latents=x)


def sdedit_nfe(backbone: Backbone, settings: SDEdit, latents: Tensor) -> float:
    """Transformer evaluations per image: one velocity per step."""
    times = backbone.times(settings.steps, settings.start, like=latents)
    return (len(times) - 1) * rows_per_call(backbone, settings.guidance)
