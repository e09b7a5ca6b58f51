"""FireFlow (Deng et al., arXiv 2412.07517): RF-Solver-Edit at half the price, by reusing the velocity before.

On the way up only the very first velocity is not a midpoint one, and it lies at the image. So the first evaluation of
the edit finds no values to share, and with one shared interval exactly one evaluation gets them, as in the release.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from lib.backbones.attention import SHARED, token_mask
from lib.bench.cases import Batch
from lib.core.noise import NoiseStream
from lib.editors.base import Callback, EditResult, Settings, rows_per_call
from lib.editors.rf_solver import share_values
from lib.editors.solvers import check_choices, check_inject, check_ranges, evaluations, fireflow, follow

if TYPE_CHECKING:
    from lib.backbones.base import Backbone


@dataclass(frozen=True)
class FireFlow(Settings):
    """The author's settings for PIE-Bench on FLUX.1-dev; also steps 15 with inject 2."""

    steps: int = 8
    start: float = 1.0
    inject: int = 1  # intervals that share, from the noise down
    source_guidance: float = 1.0
    target_guidance: float = 2.0
    values: str = "all"  # none, all, image or masked
    value_from: float = 20 / 38  # single blocks 20 to 37 of 38, the release's default; its README's recipes take 0
    value_to: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_inject(self)
        check_choices(self, values=SHARED)
        check_ranges(self, value_from=(0, self.value_to), value_to=(0, 1))


def fireflow_edit(
    backbone: Backbone, batch: Batch, settings: FireFlow, *, noise: NoiseStream, callback: Callback | None = None
) -> EditResult:
    """Images [B, 3, H, W] edited from the source to the target prompt. Deterministic: `noise` is not drawn.

    InputError if values are to be shared on another model than FLUX, or with true classifier-free guidance.
    """
    x = backbone.encode(batch.image)
    source = backbone.embed(batch.source_prompt, settings.source_guidance)
    target = backbone.embed(batch.target_prompt, settings.target_guidance)
    times = backbone.times(settings.steps, settings.start, like=x)
    mask = token_mask(backbone, batch.mask, x) if settings.values == "masked" and batch.mask is not None else None
    shared = share_values(backbone, settings, mask, late=True)
    x = fireflow(follow(backbone, source, shared.up), x, times.flip(0), callback)
    x = fireflow(follow(backbone, target, shared.down), x, times, callback)
    return EditResult(backbone.decode(x), latents=x)


def fireflow_edit_nfe(backbone: Backbone, settings: FireFlow, latents: Tensor) -> float:
    """Transformer evaluations per image: one per step and one more, each way."""
    n = len(backbone.times(settings.steps, settings.start, like=latents)) - 1
    guidances = settings.source_guidance, settings.target_guidance
    return evaluations("fireflow", n) * sum(rows_per_call(backbone, guidance) for guidance in guidances)
