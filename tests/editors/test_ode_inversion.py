"""ODE inversion: there and back again, and where exact flows must end."""

from itertools import pairwise

import pytest
import torch

from lib.bench.cases import EditCase, collate
from lib.core.noise import InjectedNoise
from lib.editors.ode_inversion import ODEInversion, ode_inversion
from tests.editors.analytic import Mixture, some_cases

NO_NOISE = InjectedNoise({})  # raises if drawn from


def pictures_near_the_modes(modes, std, n=64):
    """Latents that the prompt's mixture may well have drawn, as cases."""
    backbone = Mixture({"a": modes, "b": modes}, std=std)
    generator = torch.Generator().manual_seed(0)
    means = torch.tensor(modes)[torch.randint(len(modes), (n,), generator=generator)]
    x0 = (means + std * torch.randn(n, 3, generator=generator))[..., None, None]
    return backbone, [EditCase(str(i), image, "a", "a") for i, image in enumerate(backbone.decode(x0))]


def test_the_way_back_with_the_same_prompt_converges_like_one_over_steps():
    backbone, cases = pictures_near_the_modes([[8.0, 0.0, -3.0], [-8.0, 2.0, 3.0]], std=2.0)
    batch = collate(cases)
    source = backbone.encode(batch.image)
    errors = []
    for steps in (50, 100, 200, 400):
        settings = ODEInversion(steps=steps, start=0.9, source_guidance=1.0, target_guidance=1.0)
        back = ode_inversion(backbone, batch, settings, noise=NO_NOISE).latents
        errors.append((back - source).square().mean().sqrt().item())
    ratios = [a / b for a, b in pairwise(errors)]
    assert errors[-1] < 0.05 < errors[0]
    assert ratios == pytest.approx([2, 2, 2], abs=0.35)


def test_one_gaussian_is_carried_onto_another():
    """With one mode each, the exact map from start 1 is x0 - mean_a + mean_b."""
    backbone = Mixture({"a": [[4.0, -2.0, 0.0]], "b": [[-3.0, 5.0, 1.0]]}, std=2.0)
    cases = [EditCase(c.id, c.image, "b", "a") for c in some_cases(3)]
    batch = collate(cases)
    settings = ODEInversion(steps=800, start=1.0, source_guidance=1.0, target_guidance=1.0)
    found = ode_inversion(backbone, batch, settings, noise=NO_NOISE).latents
    shift = torch.tensor([-7.0, 7.0, 1.0])[:, None, None]
    torch.testing.assert_close(found, backbone.encode(batch.image) + shift, rtol=0, atol=0.25)


def test_goes_up_and_down_the_same_levels():
    backbone, batch = Mixture(), collate(some_cases(2))
    seen = []
    ode_inversion(backbone, batch, ODEInversion(steps=6), noise=NO_NOISE, callback=lambda t, x: seen.append(t))
    times = backbone.times(6, 0.95, like=batch.image)
    assert seen == times.flip(0)[1:].tolist() + times[1:].tolist()
