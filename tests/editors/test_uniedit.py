"""UniEdit-Flow: an independent loop, its fixed points, its mask and its price."""

import itertools
from dataclasses import replace

import pytest
import torch

from lib.bench.cases import collate
from lib.core.errors import InputError
from lib.core.noise import InjectedNoise
from lib.editors.registry import Editor
from lib.editors.run import run_row
from lib.editors.uniedit import UniEdit, lower_levels, uni_inversion, uniedit, uniedit_nfe, where_they_differ
from tests.editors.analytic import Mixture, some_cases

ROW = Editor("uniedit", "2504.13109", uniedit, UniEdit, uniedit_nfe, stochastic=False, needs_source_prompt=True)
NO_NOISE = InjectedNoise({})  # raises if drawn from


def test_follows_the_release_s_rule():
    backbone, batch = Mixture(std=4.0), collate(some_cases(2, size=4))
    settings = UniEdit(steps=10, alpha=0.5, omega=2.0, target_guidance=3.0)
    found = uniedit(backbone, batch, settings, noise=NO_NOISE).latents
    grid = backbone.times(10).tolist()[5:]
    source, target = backbone.embed(batch.source_prompt, 1.0), backbone.embed(batch.target_prompt, 3.0)
    x = backbone.encode(batch.image)
    w = backbone.velocity(x, 0.0, source)
    for t, t_next in zip(grid[:0:-1], grid[-2::-1], strict=True):
        w = backbone.velocity(x + (t_next - t) * w, t_next, source)
        x = x + (t_next - t) * w
    for t, t_next in itertools.pairwise(grid):
        v_s, v_t = backbone.velocity(x, t, source), backbone.velocity(x, t, target)
        d = v_t - v_s
        mean = d.abs().mean(1, keepdim=True)
        g = torch.stack([(m - m.min()) / (m.max() - m.min()) for m in mean])
        x = x + (t_next - t) * (g * v_t + (1 - g) * v_s + (1 + g) * 2.0 * d)
    torch.testing.assert_close(found, x, rtol=1e-4, atol=5e-3)
    assert (found - backbone.encode(batch.image)).abs().max() > 1


def test_equal_prompts_bring_the_source_back_the_closer_the_more_steps():
    backbone = Mixture({"a": [[8.0, 0.0, -3.0], [-8.0, 2.0, 3.0]]}, std=3.0, scale=20.0)
    batch = collate([replace(case, source_prompt="a", target_prompt="a") for case in some_cases(2)])
    source = backbone.encode(batch.image)
    errors = []
    for steps in (20, 80):
        back = uniedit(backbone, batch, UniEdit(steps=steps), noise=NO_NOISE).latents
        errors.append((back - source).square().mean().sqrt().item())
    assert errors[1] < errors[0] / 4


def test_uni_inv_undoes_euler_s_way_down_but_for_its_second_order():
    """Each step up ends near where Euler's step down from there would start: exact if the velocity were that there."""

    def slope(x, t, *_):
        return 0.5 * x + t

    times = torch.linspace(0.6, 0, 25, dtype=torch.float64)
    x0 = torch.tensor([1.0, -2.0], dtype=torch.float64)
    back = {}
    for name, top in (
        ("uni", uni_inversion(slope, x0, times.flip(0))),
        ("plain", _euler(slope, x0, times.flip(0))),
    ):
        back[name] = (_euler(slope, top, times) - x0).abs().max().item()
    assert back["uni"] < back["plain"] / 20


def _euler(slope, x, times):
    for t, t_next in itertools.pairwise(times):
        x = x + (t_next - t) * slope(x, t)
    return x


def test_the_mask_is_one_value_per_token_from_0_to_1_in_each_image():
    d = torch.randn(2, 4, 6, 8, generator=torch.Generator().manual_seed(0))
    d[1] *= 100
    g = where_they_differ(d, 2)
    assert g.shape == (2, 1, 6, 8)
    assert g.amin((1, 2, 3)).tolist() == [0.0, 0.0]
    assert g.amax((1, 2, 3)).tolist() == pytest.approx([1.0, 1.0])
    assert torch.equal(g, g[:, :, ::2, ::2].repeat_interleave(2, 2).repeat_interleave(2, 3))
    by_hand = torch.stack([d[0, :, r : r + 2, c : c + 2].abs().mean() for r in (0, 2, 4) for c in (0, 2, 4, 6)])
    by_hand = (by_hand - by_hand.min()) / (by_hand.max() - by_hand.min())
    torch.testing.assert_close(g[0, 0, ::2, ::2].flatten(), by_hand)
    assert where_they_differ(torch.zeros(1, 4, 2, 2), 2).abs().max() == 0


def test_inverts_the_lowest_share_of_the_steps(backbone):
    found = lower_levels(Mixture(), UniEdit(), torch.zeros(1, 3, 8, 8))
    assert torch.equal(found, Mixture().times(15)[6:])
    assert len(lower_levels(Mixture(), UniEdit(alpha=0.0), torch.zeros(1))) == 2
    cases = [replace(c, source_prompt="a cat", target_prompt="a red cat") for c in some_cases(1, size=32)]
    (found,) = run_row(ROW, backbone, cases)
    assert found.nfe == 28  # 10 + 18; both guidances are 1
    (found,) = run_row(ROW, backbone, cases, {"steps": 5, "target_guidance": 2.0})
    assert found.nfe == 4 + 3 + (3 if backbone.guidance_mode == "distilled" else 6)


def test_bad_settings_are_refused():
    for bad in ({"alpha": 1.5}, {"omega": -1.0}):
        with pytest.raises(InputError, match=f"setting '{next(iter(bad))}' of UniEdit"):
            UniEdit(**bad)
