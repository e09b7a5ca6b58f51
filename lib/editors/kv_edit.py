"""KV-Edit (Zhu et al., arXiv 2502.17363): given the mask, generate its inside anew and keep the background exactly.

The paper runs only the image tokens inside the mask through the network and lets them attend to the keys and values of
the background, cached while inverting. Here all tokens run, and in every layer the background's keys and values are
replaced by the cached ones: the tokens inside the mask then see the same. The background's latents come from the
inversion at every level, so at 0 they are the source's.

Which evaluation's cache the release reads is not known here: ours is that of the same noise level, and `late_values` is
RF-Solver's way. The options to noise the mask anew or to cut its attention are left out.
`share = "latents"` is plain masked blending with the inversion's trajectory, which any model can do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lib.backbones.attention import Sharing, attention_layers, latent_mask, one_row_per_image, token_mask
from lib.bench.cases import Batch
from lib.core.noise import NoiseStream
from lib.editors.base import Callback, EditResult, Settings, notify, rows_per_call
from lib.editors.solvers import SOLVERS, check_choices, evaluations, follow

if TYPE_CHECKING:
    from lib.backbones.base import Backbone


@dataclass(frozen=True)
class KVEdit(Settings):
    """The authors' settings for FLUX.1-dev."""

    steps: int = 28
    start: float = 0.95  # 4 of 28 steps are skipped, which is noise level 0.950 at 1024 x 1024
    source_guidance: float = 1.5
    target_guidance: float = 5.5
    share: str = "kv"  # keys, values and latents of the background; or "latents" alone
    solver: str = "euler"
    late_values: bool = False  # see `lib.backbones.attention.Sharing`

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choices(self, share=("kv", "latents"), solver=tuple(SOLVERS))


def kv_edit(
    backbone: Backbone, batch: Batch, settings: KVEdit, *, noise: NoiseStream, callback: Callback | None = None
) -> EditResult:
    """Images [B, 3, H, W] edited inside their masks. Deterministic: `noise` is not drawn.

    InputError for an empty or full mask; with "kv", also on another model than FLUX or with true classifier-free
    guidance.
    """
    x = backbone.encode(batch.image)
    source = backbone.embed(batch.source_prompt, settings.source_guidance)
    target = backbone.embed(batch.target_prompt, settings.target_guidance)
    times = backbone.times(settings.steps, settings.start, like=x)
    tokens = token_mask(backbone, batch.mask, x)
    inside = latent_mask(backbone, tokens, x) > 0
    layers: range = range(0)
    if settings.share == "kv":
        one_row_per_image(backbone, settings.source_guidance, settings.target_guidance)
        layers = range(len(attention_layers(backbone)))
    shared = Sharing(
        backbone,
        layers,
        intervals=len(times) - 1 if settings.share == "kv" else 0,
        mode="masked",
        mask=tokens,
        keys=True,
        late=settings.late_values,
    )
    solve = SOLVERS[settings.solver]
    background = [x]  # the inversion at each level, from 0 up

    def keep(t: float, y: Tensor) -> None:
        background.append(y)
        notify(callback, t, y)

    x = solve(follow(backbone, source, shared.up), x, times.flip(0), keep)
    shared.complete(x, times[0], source)

    def settle(x: Tensor, interval: int) -> Tensor:  # interval i ends n - 1 - i levels above 0
        return torch.where(inside, x, background[len(times) - 2 - interval])

    x = solve(follow(backbone, target, shared.down), x, times, callback, settle)
    return EditResult(backbone.decode(x), latents=x)


def kv_edit_nfe(backbone: Backbone, settings: KVEdit, latents: Tensor) -> float:
    """Transformer evaluations per image: those of the solver each way, and one more where "kv" is not shared late."""
    n = len(backbone.times(settings.steps, settings.start, like=latents)) - 1
    per_source = rows_per_call(backbone, settings.source_guidance)
    per_target = rows_per_call(backbone, settings.target_guidance)
    extra = settings.share == "kv" and not settings.late_values
    return evaluations(settings.solver, n) * (per_source + per_target) + extra * per_source
