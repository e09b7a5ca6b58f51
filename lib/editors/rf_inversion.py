"""RF-Inversion (Rout et al., arXiv 2410.10792): up towards a typical noise, down towards the source for a while.

Both ways take Euler steps on one grid. The diffusers port does not: its way up asks the model at evenly spaced t but
steps by differences of the shifted schedule, so that small steps come first; that is not reproduced.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from torch import Tensor

from lib.bench.cases import Batch
from lib.core.noise import NoiseStream
from lib.editors.base import Callback, EditResult, Settings, notify, rows_per_call
from lib.editors.solvers import check_choices, check_ranges

if TYPE_CHECKING:
    from lib.backbones.base import Backbone


@dataclass(frozen=True)
class RFInversion(Settings):
    """The authors' settings for FLUX.1-dev.

    The controller acts from `eta_start` to `eta_stop`. As shares they are i / steps, counted from the noise: step i is
    controlled if eta_start <= i / steps < eta_stop. As levels they are t: controlled if eta_start >= t > eta_stop.
    """

    steps: int = 28  # the authors' README, as all below
    gamma: float = 0.5  # pull towards the drawn noise on the way up
    eta: float = 0.9  # pull towards the source on the way down; diffusers' default is 1.0
    eta_start: float = 0.0
    eta_stop: float = 0.25  # 7 of 28; their demo uses 4 to 8 of 28
    eta_unit: str = "share"  # or "level"
    eta_decay: float = 0.0  # diffusers' option: eta (1 - i / steps) ** eta_decay
    source_guidance: float = 0.0  # of the null prompt; the authors advise 0
    target_guidance: float = 3.5
    sde: bool = False  # the stochastic way down

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choices(self, eta_unit=("share", "level"))
        check_ranges(self, gamma=(0, 1), eta=(0, 1), eta_start=(0, 1), eta_stop=(0, 1), eta_decay=(0, float("inf")))


def rf_inversion(
    backbone: Backbone, batch: Batch, settings: RFInversion, *, noise: NoiseStream, callback: Callback | None = None
) -> EditResult:
    """Images [B, 3, H, W] edited towards the target prompt; needs no source prompt.

    Draws noise of step 0 (y1), and of steps 1 to `steps` on the stochastic way down.
    """
    x0 = backbone.encode(batch.image)
    null = backbone.embed([""] * len(batch), settings.source_guidance)
    target = backbone.embed(batch.target_prompt, settings.target_guidance)
    times = backbone.times(settings.steps, like=x0)
    y, y1 = x0, noise.draw(0, x0)
    for t, t_next in pairwise(times.flip(0)):  # up, eq. 8: dY = [u + gamma (u(Y | y1) - u)] dt
        u = backbone.velocity(y, t, null)
        y = y + (t_next - t) * (u + settings.gamma * ((y1 - y) / (1 - t) - u))
        notify(callback, t_next, y)
    x = y
    for i, (t, t_next) in enumerate(pairwise(times)):  # down, eq. 15: dX = [v + eta (v(X | x0) - v)] dt
        v = backbone.velocity(x, t, target)
        eta = strength(settings, i, float(t))
        v = v + eta * ((x - x0) / t - v)
        x = x + (t_next - t) * v
        if settings.sde:
            x = stir(x, v, t, t_next, eta, noise.draw(i + 1, x0))
        notify(callback, t_next, x)
    return EditResult(backbone.decode(x), latents=x)


def strength(settings: RFInversion, i: int, t: float) -> float:
    """eta of step i, which starts at noise level t."""
    share = i / settings.steps
    if settings.eta_unit == "share":
        controlled = settings.eta_start <= share < settings.eta_stop
    else:
        controlled = settings.eta_start >= t > settings.eta_stop
    return settings.eta * (1 - share) ** settings.eta_decay if controlled else 0.0


def stir(x: Tensor, v: Tensor, t: Tensor, s: Tensor, eta: float, z: Tensor) -> Tensor:
    """Turn the Euler step from t down to s, which gave x, into a step of the stochastic process of equal marginals.

    The paper's reverse SDE has the diffusion g² = 2 (1 - eta) t / (1 - t), which is infinite at t = 1. This is the
    step that has it as its limit and no such pole: the posterior of x_s given x_t and the predicted image (DDPM's), of
    variance (1 - eta) s² (t² - a² s²) / t² with a = (1 - t) / (1 - s). The part of x that is noise, s eps, shrinks to
    make room for the fresh z. With eta = 1 nothing changes, and nothing at s = 0.
    """
    a = (1 - t) / (1 - s)
    variance = (1 - eta) * s**2 * (t**2 - a**2 * s**2) / t**2
    eps = x + (1 - s) * v  # the Euler step keeps both ends of its line: x_s = (1 - s) x0 + s eps
    return x + ((s**2 - variance).clamp(min=0).sqrt() - s) * eps + variance.sqrt() * z


def rf_inversion_nfe(backbone: Backbone, settings: RFInversion, latents: Tensor) -> float:
    """Transformer evaluations per image: one of the null prompt and one of the target per step."""
    n = len(backbone.times(settings.steps, like=latents)) - 1
    guidances = settings.source_guidance, settings.target_guidance
    return n * sum(rows_per_call(backbone, guidance) for guidance in guidances)
