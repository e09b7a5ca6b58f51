"""The family of FlowEdit and sync-SDE: one loop over the difference D = Y - X of target and source, with its switches.

With D scaled to the image, E = D / (1 - t), with a = t / (1 - t) and with dx0 the difference of the two x0-predictions,
every member solves

    dE / d ln a^2 = rho (E - dx0),   that is   dD/dt = (1 + lambda) dv + lambda D / (1 - t),   lambda = 2 rho - 1,

along some path X of the noised source. Exponent `rho`, `path` and `step` tell the members apart; PRESETS names them:

    rho  path                            member
    1/2  the source's own ODE            ODE inversion, DDIB (2203.08382), in the form of a difference
    1/2  fresh noise at every step       FlowEdit (2412.08629)
    1/2  one noise for all steps         FlowEdit with fixed noise
    1    Brownian                        sync-SDE (2509.24223), CycleDiffusion (2210.05559)
    1    fresh noise at every step       sync-SDE with `resample`; edit-friendly inversion (2304.06140)
    inf  fresh noise at every step       InfEdit (2312.04965)

Only (1/2, ODE) and (1, Brownian) end in the target's law as steps grow, from t = 1 and without guidance.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lib.bench.cases import Batch
from lib.core.errors import InputError
from lib.core.noise import NoiseStream
from lib.editors.base import Callback, EditResult, Settings, notify, rows_per_call

if TYPE_CHECKING:
    from lib.backbones.base import Backbone, Conditioning

PATHS = ("probability-flow", "brownian", "fresh", "fixed")
STEPS = ("euler", "exponential", "jump")
VARIANCES = ("exact", "midpoint")


@dataclass(frozen=True)
class DifferenceFlow(Settings):
    """The switches; the defaults are sync-SDE's. Noise levels are t: 1 is noise, 0 is the image.

    path: where the source goes. `probability-flow` integrates its own ODE up from the image, which costs evaluations;
        the others noise it: `brownian` by one forward SDE, `fresh` anew at every step, `fixed` once for all.
    step: `euler` in t; `exponential`, exact for a constant dx0, and at rho = 1/2 the same formula as `euler`; or
        `jump`, its limit for rho to infinity, D_next = (1 - t_next) dx0, in which no rho is left (settings are finite).
    variance: of a Brownian path's steps, `exact`, or by the `midpoint` rule of the released sync-SDE, too small near 1.
    """

    rho: float = 1.0
    path: str = "brownian"
    step: str = "exponential"
    variance: str = "exact"
    steps: int = 28  # the released sync-SDE, as all below; FlowEdit has the same
    start: float = 0.95  # index 4 of 28, the noise level 0.950 at 1024 x 1024
    source_guidance: float = 1.0
    target_guidance: float = 1.0
    step_scale: float = 1.0  # c of FlowEdit's appendix L.2: multiplies every step's dv

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, known in (("path", PATHS), ("step", STEPS), ("variance", VARIANCES)):
            if getattr(self, name) not in known:
                raise _wrong(name, repr(getattr(self, name)), f"one of {', '.join(known)}")
        for name in ("rho", "step_scale"):
            if getattr(self, name) <= 0:
                raise _wrong(name, getattr(self, name), "above 0")
        if self.step == "jump" and self.rho != 1:
            raise _wrong("rho", self.rho, "1, left as it is: the step 'jump' is the limit of rho to infinity")
        if self.variance != "exact" and self.path != "brownian":
            raise _wrong("variance", repr(self.variance), f"'exact' on the path {self.path!r}, which has no steps")


def _wrong(name: str, found: object, expected: str) -> InputError:
    return InputError(f"setting {name!r} of DifferenceFlow", found=found, expected=expected)


FLOWEDIT = {"source_guidance": 1.5, "target_guidance": 5.5}  # its settings for FLUX.1-dev

# What a paper leaves open, or gives for other models only (CycleDiffusion, edit-friendly inversion and InfEdit are for
# diffusion models and carried over to flows here), is sync-SDE's, so that members differ by their rule alone.
PRESETS: dict[str, DifferenceFlow] = {
    "ode-inversion": DifferenceFlow(rho=0.5, path="probability-flow", step="euler", **FLOWEDIT),
    "flowedit": DifferenceFlow(rho=0.5, path="fresh", step="euler", **FLOWEDIT),
    "sync-sde": DifferenceFlow(rho=1.0, path="brownian", step="exponential"),
    "sync-sde-released": DifferenceFlow(rho=1.0, path="brownian", step="euler", variance="midpoint"),
    "sync-sde-resample": DifferenceFlow(rho=1.0, path="fresh", step="euler"),  # the released option `resample`
    # DDPM-ancestral sampling of both sides with shared noise (eta = 1): to the bit what sync-SDE is.
    "cyclediffusion": DifferenceFlow(rho=1.0, path="brownian", step="exponential"),
    # The same with statistically independent x_t: the noise maps that its inversion extracts cancel in the difference.
    "edit-friendly": DifferenceFlow(rho=1.0, path="fresh", step="exponential"),
    "infedit": DifferenceFlow(path="fresh", step="jump"),
}


def difference_flow(
    backbone: Backbone, batch: Batch, settings: DifferenceFlow, *, noise: NoiseStream, callback: Callback | None = None
) -> EditResult:
    """Images [B, 3, H, W] edited from the source to the target prompt. The callback sees x0 + D, at first the source.

    The two velocities are two calls of one batch shape: equal prompts and guidance then differ by exactly 0.
    """
    x0 = backbone.encode(batch.image)
    source = backbone.embed(batch.source_prompt, settings.source_guidance)
    target = backbone.embed(batch.target_prompt, settings.target_guidance)
    times = backbone.times(settings.steps, settings.start, like=x0)
    path = source_path(backbone, x0, times, source, settings, noise)
    lam = 2 * settings.rho - 1
    z = x0
    for (x, v), (t, t_next) in zip(path, pairwise(times), strict=True):
        d = z - x0
        dv = settings.step_scale * (backbone.velocity(x + d, t, target) - v)
        scaled = d / (1 - t) if t < 1 else d  # d is still 0 at t = 1
        if settings.step == "euler":
            z = z + (t_next - t) * ((1 + lam) * dv + lam * scaled)
        else:
            dx = d - t * dv  # difference of the two x0-predictions, (x + d - t v) - (x - t v)
            ratio = t_next * (1 - t) / (t * (1 - t_next))  # a_next / a, below 1
            r = 0 if settings.step == "jump" else ratio ** (2 * settings.rho)
            z = x0 + (1 - t_next) * (dx + r * (scaled - dx))
        notify(callback, t_next, z)
    return EditResult(backbone.decode(z), latents=z)


def source_path(
    backbone: Backbone,
    x0: Tensor,
    times: Tensor,
    source: Conditioning,
    settings: DifferenceFlow,
    noise: NoiseStream,
) -> Iterator[tuple[Tensor, Tensor]]:
    """The source X [B, C, h, w] on its path at each of the levels times[:-1], with its velocity there."""
    if settings.path == "probability-flow":
        yield from _up_the_flow(backbone, x0, times, source)
        return
    levels = enumerate(times[:-1])
    match settings.path:
        case "brownian":
            noises = _brownian(x0, times, noise, settings.variance)
        case "fresh":
            noises = (t * noise.draw(i, x0) for i, t in levels)
        case _:  # fixed
            noises = (t * noise.draw(0, x0) for _, t in levels)
    for t, part in zip(times[:-1], noises, strict=True):
        x = (1 - t) * x0 + part
        yield x, backbone.velocity(x, t, source)


def _up_the_flow(
    backbone: Backbone, x0: Tensor, times: Tensor, source: Conditioning
) -> Iterator[tuple[Tensor, Tensor]]:
    """Euler steps from 0 up to times[0]. The velocity that leaves a level upwards is also that of the way down."""
    x, v, states = x0, backbone.velocity(x0, times[-1], source), []
    for t, t_next in pairwise(times.flip(0)):
        x = x + (t_next - t) * v
        v = backbone.velocity(x, t_next, source)
        states.append((x, v))
    return reversed(states)


def _brownian(x0: Tensor, times: Tensor, noise: NoiseStream, variance: str) -> list[Tensor]:
    """(1 - t_i) B_i at the levels times[:-1], of one Brownian motion from B = 0 at t = 0 with
    B_i = B_{i+1} + z_i sqrt(a_i^2 - a_{i+1}^2), or with the midpoint rule for that root: a^2 is the integral of
    2 t / (1 - t)^3."""
    path, scaled = [], torch.zeros_like(x0)
    for i, (t, t_next) in reversed(list(enumerate(pairwise(times)))):
        kept = (1 - t) / (1 - t_next)
        if variance == "exact":
            added = (t**2 - (kept * t_next) ** 2).sqrt()
        else:
            middle = (t + t_next) / 2
            added = (1 - t) * (2 * middle * (t - t_next)).sqrt() / (1 - middle) ** 1.5
        scaled = kept * scaled + added * noise.draw(i, x0)
        path.append(scaled)
    return path[::-1]


def difference_flow_nfe(backbone: Backbone, settings: DifferenceFlow, latents: Tensor) -> float:
    """Transformer evaluations per image: source and target per step; the source's own ODE takes one more of its own."""
    n = len(backbone.times(settings.steps, settings.start, like=latents)) - 1
    per_source = rows_per_call(backbone, settings.source_guidance)
    per_target = rows_per_call(backbone, settings.target_guidance)
    return (n + (settings.path == "probability-flow")) * per_source + n * per_target


# Members with a paper of their own and no file of their own. What their rule fixes is no setting of theirs.


@dataclass(frozen=True)
class Member(Settings):
    """What CycleDiffusion, edit-friendly inversion and InfEdit leave open; sync-SDE's values, as in PRESETS."""

    steps: int = 28
    start: float = 0.95
    source_guidance: float = 1.0
    target_guidance: float = 1.0

    def of(self, name: str) -> DifferenceFlow:
        """The preset of this name with these values."""
        return replace(PRESETS[name], **vars(self))


def cyclediffusion(
    backbone: Backbone, batch: Batch, settings: Member, *, noise: NoiseStream, callback: Callback | None = None
) -> EditResult:
    """CycleDiffusion (Wu and De la Torre, arXiv 2210.05559) carried to flows: the very law of sync-SDE, to the bit."""
    return difference_flow(backbone, batch, settings.of("cyclediffusion"), noise=noise, callback=callback)


def edit_friendly(
    backbone: Backbone, batch: Batch, settings: Member, *, noise: NoiseStream, callback: Callback | None = None
) -> EditResult:
    """Edit-friendly DDPM inversion (Huberman-Spiegelglas et al., arXiv 2304.06140) carried to flows as a difference."""
    return difference_flow(backbone, batch, settings.of("edit-friendly"), noise=noise, callback=callback)


def infedit(
    backbone: Backbone, batch: Batch, settings: Member, *, noise: NoiseStream, callback: Callback | None = None
) -> EditResult:
    """InfEdit's sampler (Xu et al., arXiv 2312.04965) carried to flows; without its attention control."""
    return difference_flow(backbone, batch, settings.of("infedit"), noise=noise, callback=callback)


def member_nfe(backbone: Backbone, settings: Member, latents: Tensor) -> float:
    """Transformer evaluations per image: one source and one target velocity per step; their paths are free."""
    return difference_flow_nfe(backbone, settings.of("cyclediffusion"), latents)
