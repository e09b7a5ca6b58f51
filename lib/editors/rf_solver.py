"""RF-Solver-Edit (Wang et al., arXiv 2411.04746): inversion by the midpoint rule, then an edit that shares values.

"RF-Edit" is `values = "all"`. The other ways to share are LORE's; "masked" is the variant that is given the mask.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from lib.backbones.attention import SHARED, Sharing, one_row_per_image, resolve_layers, token_mask
from lib.bench.cases import Batch
from lib.core.noise import NoiseStream
from lib.editors.base import Callback, EditResult, Settings, rows_per_call
from lib.editors.solvers import check_choices, check_inject, check_ranges, evaluations, follow, midpoint

if TYPE_CHECKING:
    from lib.backbones.base import Backbone


@dataclass(frozen=True)
class RFSolverEdit(Settings):
    """The release's recipes for FLUX.1-dev; its argument parser has others (25 steps, 20 shared, guidance 5)."""

    steps: int = 15  # add and replace; 25 for style
    start: float = 1.0
    inject: int = 2  # intervals that share, from the noise down: 2 to 5 in the recipes
    source_guidance: float = 1.0
    target_guidance: float = 2.0
    values: str = "all"  # none, all, image or masked (see `lib.backbones.attention.Sharing`)
    value_from: float = 20 / 38  # single blocks 20 to 37 of 38, as shares of their number
    value_to: float = 1.0
    late_values: bool = True  # as released: see `Sharing`

    def __post_init__(self) -> None:
        super().__post_init__()
        check_inject(self)
        check_choices(self, values=SHARED)
        check_ranges(self, value_from=(0, self.value_to), value_to=(0, 1))


def rf_solver_edit(
    backbone: Backbone, batch: Batch, settings: RFSolverEdit, *, noise: NoiseStream, callback: Callback | None = None
) -> EditResult:
    """Images [B, 3, H, W] edited from the source to the target prompt. Deterministic: `noise` is not drawn.

    InputError if values are to be shared on another model than FLUX, or with true classifier-free guidance.
    """
    x = backbone.encode(batch.image)
    source = backbone.embed(batch.source_prompt, settings.source_guidance)
    target = backbone.embed(batch.target_prompt, settings.target_guidance)
    times = backbone.times(settings.steps, settings.start, like=x)
    mask = token_mask(backbone, batch.mask, x) if settings.values == "masked" and batch.mask is not None else None
    shared = share_values(backbone, settings, mask, late=settings.late_values)
    x = midpoint(follow(backbone, source, shared.up), x, times.flip(0), callback)
    shared.complete(x, times[0], source)
    x = midpoint(follow(backbone, target, shared.down), x, times, callback)
    return EditResult(backbone.decode(x), latents=x)


def share_values(backbone: Backbone, settings: Any, mask: Tensor | None, *, late: bool) -> Sharing:
    """Values of single blocks shared as `inject`, `values`, `value_from` and `value_to` say; `mask` [B, N] or None."""
    layers: tuple[int, ...] = ()
    if settings.inject and settings.values != "none":
        one_row_per_image(backbone, settings.source_guidance, settings.target_guidance)
        layers = resolve_layers(backbone, settings.value_from, settings.value_to, "single")
    return Sharing(backbone, layers, intervals=settings.inject, mode=settings.values, mask=mask, late=late)


def rf_solver_edit_nfe(backbone: Backbone, settings: RFSolverEdit, latents: Tensor) -> float:
    """Transformer evaluations per image: two per step each way, and one more where values are shared but not late."""
    n = len(backbone.times(settings.steps, settings.start, like=latents)) - 1
    per_source = rows_per_call(backbone, settings.source_guidance)
    per_target = rows_per_call(backbone, settings.target_guidance)
    extra = not settings.late_values and settings.inject > 0 and settings.values != "none"
    return evaluations("midpoint", n) * (per_source + per_target) + extra * per_source
