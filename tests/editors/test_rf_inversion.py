"""RF-Inversion: an independent loop, where the controller must end, and the marginals of the stochastic way down."""

from dataclasses import replace

import pytest
import torch

from lib.bench.cases import EditCase, collate
from lib.core.errors import InputError
from lib.core.noise import InjectedNoise, Noise
from lib.editors.registry import Editor
from lib.editors.rf_inversion import RFInversion, rf_inversion, rf_inversion_nfe, stir, strength
from lib.editors.run import run_row
from tests.editors.analytic import Mixture, some_cases

ROW = Editor("rf-inversion", "2410.10792", rf_inversion, RFInversion, rf_inversion_nfe, stochastic=True)


@pytest.mark.parametrize(
    "settings",
    [
        RFInversion(steps=8),
        RFInversion(steps=9, gamma=0.3, eta=0.7, eta_start=0.2, eta_stop=0.6, eta_decay=2.0, target_guidance=2.0),
    ],
)
@pytest.mark.parametrize("guidance_mode", ["distilled", "classifier-free"])
def test_follows_the_paper(settings, guidance_mode):
    """In the terms of the reverse process of the paper, whose time is 1 - t."""
    backbone = Mixture(std=4.0, guidance_mode=guidance_mode)
    batch = collate(some_cases(2, size=4))
    y1 = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    found = rf_inversion(backbone, batch, settings, noise=InjectedNoise({0: y1})).latents
    null = backbone.embed(["", ""], settings.source_guidance)
    target = backbone.embed(batch.target_prompt, settings.target_guidance)
    grid = [*backbone._schedule(settings.steps, None).tolist(), 0.0]
    y = y0 = backbone.encode(batch.image)
    for t, t_next in zip(grid[:0:-1], grid[-2::-1], strict=True):
        u = backbone.velocity(y, t, null)
        y = y + (t_next - t) * ((1 - settings.gamma) * u + settings.gamma * (y1 - y) / (1 - t))
    x = y
    for i in range(settings.steps):
        time, time_next = 1 - grid[i], 1 - grid[i + 1]
        eta = 0.0
        if settings.eta_start * settings.steps <= i < settings.eta_stop * settings.steps:
            eta = settings.eta * (1 - i / settings.steps) ** settings.eta_decay
        v = -backbone.velocity(x, 1 - time, target)
        x = x + (time_next - time) * ((1 - eta) * v + eta * (y0 - x) / (1 - time))
    torch.testing.assert_close(found, x, rtol=1e-4, atol=2e-3)
    assert (x - y0).abs().max() > 1


@pytest.mark.parametrize("more", [{}, {"eta_unit": "level", "eta_start": 1.0, "eta_stop": 0.0}, {"sde": True}])
def test_full_control_to_the_end_gives_the_source_back(more):
    backbone, batch = Mixture(), collate(some_cases(3))
    settings = RFInversion(eta=1.0, **({"eta_stop": 1.0} | more))
    found = rf_inversion(backbone, batch, settings, noise=Noise(batch.ids, 0)).latents
    torch.testing.assert_close(found, backbone.encode(batch.image), rtol=0, atol=1e-4)
    less = rf_inversion(backbone, batch, replace(settings, eta=0.0), noise=Noise(batch.ids, 0)).latents
    assert (less - found).abs().max() > 1


def test_full_pull_on_the_way_up_ends_in_the_drawn_noise():
    backbone, batch = Mixture(), collate(some_cases(2))
    seen = {}
    noise = Noise(batch.ids, 3)
    settings = RFInversion(steps=6, gamma=1.0)
    rf_inversion(backbone, batch, settings, noise=noise, callback=seen.setdefault)
    drawn = noise.draw(0, backbone.encode(batch.image))
    torch.testing.assert_close(seen[1.0], drawn, rtol=0, atol=1e-4)


def test_shares_and_levels_say_which_steps_are_controlled():
    shares = RFInversion(steps=28, eta=1.0)
    assert [strength(shares, i, 0.5) for i in range(28)] == [1.0] * 7 + [0.0] * 21
    later = replace(shares, eta_start=0.25, eta_stop=0.5)
    assert [i for i in range(28) if strength(later, i, 0.5)] == list(range(7, 14))
    levels = replace(shares, eta_unit="level", eta_start=0.9, eta_stop=0.6)
    assert [t for t in (1.0, 0.95, 0.9, 0.7, 0.6, 0.3) if strength(levels, 0, t)] == [0.9, 0.7]
    fading = replace(shares, eta_stop=1.0, eta_decay=1.0)
    assert [strength(fading, i, 0.5) for i in (0, 7, 14)] == [1.0, 0.75, 0.5]


# The stochastic way down


def test_a_stochastic_step_is_the_paper_s_sde_where_steps_are_small():
    """dX = [2 v + x / (1 - t)] dt + sqrt(2 t / (1 - t)) dW, time running down (eta = 0)."""
    x, v, z = torch.randn(3, 1000, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    t, h = torch.tensor(0.6, dtype=torch.float64), 1e-6
    for eta in (0.0, 0.7):
        found = stir(x - h * v, v, t, t - h, eta, z)
        diffusion = (1 - eta) * 2 * t / (1 - t)  # g²
        score = -(x + (1 - t) * v) / t
        wanted = x - h * (v - diffusion / 2 * score) + (diffusion * h).sqrt() * z
        torch.testing.assert_close((found - x) / h**0.5, (wanted - x) / h**0.5, rtol=0, atol=1e-4)


def test_a_stochastic_step_of_any_size_keeps_the_variance_of_known_data():
    """For data that is one point the predicted image is exact, and so must be the spread at every level: s."""
    n = 20000
    eps, z = torch.randn(2, n, generator=torch.Generator().manual_seed(0))
    for t, s in ((1.0, 0.4), (0.8, 0.7), (0.5, 0.1)):
        t, s = torch.tensor(t), torch.tensor(s)
        found = stir(2 * (1 - s) + s * eps, eps - 2, t, s, 0.0, z)
        assert found.std().item() == pytest.approx(s.item(), rel=0.02)
        assert found.mean().item() == pytest.approx(2 * (1 - s).item(), abs=0.02)
        correlation = torch.corrcoef(torch.stack([found, eps]))[0, 1].item()
        assert correlation == pytest.approx(((1 - t) / (1 - s) * s / t).item(), abs=0.03)
    assert torch.equal(stir(eps, z, t, s, 1.0, z), eps)
    assert torch.equal(stir(eps, z, t, torch.tensor(0.0), 0.0, z), eps)


def test_both_ways_down_draw_the_target_s_gaussian():
    n = 1500
    backbone = Mixture({"": [[0.0, 0.0, 0.0]], "b": [[3.0, -2.0, 1.0]]}, std=2.0)
    image = backbone.decode(torch.zeros(n, 3, 1, 1))
    batch = collate([EditCase(f"{i:05}", image[i], "b") for i in range(n)])
    generator = torch.Generator().manual_seed(0)
    noise = InjectedNoise({i: torch.randn(n, 3, 1, 1, generator=generator) for i in range(51)})
    for sde in (False, True):
        settings = RFInversion(steps=50, gamma=1.0, eta=0.0, target_guidance=1.0, sde=sde)
        found = rf_inversion(backbone, batch, settings, noise=noise).latents[..., 0, 0]
        assert found.mean(0).tolist() == pytest.approx([3.0, -2.0, 1.0], abs=0.2)
        assert found.std(0).tolist() == pytest.approx([2.0] * 3, rel=0.08)


def test_runs_on_every_model_and_costs_what_the_formula_says(backbone):
    cases = [replace(case, target_prompt="a red cat") for case in some_cases(1, size=32)]
    for sde in (False, True):
        (found,) = run_row(ROW, backbone, cases, {"steps": 3, "sde": sde})
        assert found.nfe == (6 if backbone.guidance_mode == "distilled" else 12)


def test_bad_settings_are_refused():
    for bad in ({"gamma": 1.5}, {"eta": -0.1}, {"eta_stop": 7.0}, {"eta_decay": -1.0}):
        with pytest.raises(InputError, match=f"setting '{next(iter(bad))}' of RFInversion"):
            RFInversion(**bad)
    with pytest.raises(InputError, match=r"'eta_unit' of RFInversion: found 'index'; expected one of share, level"):
        RFInversion(eta_unit="index")
