"""The FireFlow editor: its price, its parts, and which evaluations find values to share."""

import itertools

import pytest
import torch

from lib.backbones.attention import Sharing
from lib.bench.cases import collate
from lib.core.errors import InputError
from lib.core.noise import InjectedNoise
from lib.editors.fireflow import FireFlow, fireflow_edit, fireflow_edit_nfe
from lib.editors.registry import Editor
from lib.editors.run import run_row
from tests.editors.analytic import Mixture, some_cases
from tests.editors.deep import deepen, masked_cases

ROW = Editor("fireflow", "2412.07517", fireflow_edit, FireFlow, fireflow_edit_nfe, False, needs_source_prompt=True)
NO_NOISE = InjectedNoise({})  # raises if drawn from


@pytest.fixture(scope="module")
def deep(flux):
    return deepen(flux)


def test_follows_the_paper():
    backbone, batch = Mixture(std=4.0), collate(some_cases(2, size=4))
    settings = FireFlow(steps=7, start=0.9, inject=0, target_guidance=3.0)
    found = fireflow_edit(backbone, batch, settings, noise=NO_NOISE).latents
    x = backbone.encode(batch.image)
    grid = backbone.times(7, 0.9).tolist()
    for prompts, guidance, levels in ((batch.source_prompt, 1.0, grid[::-1]), (batch.target_prompt, 3.0, grid)):
        cond = backbone.embed(prompts, guidance)
        v = backbone.velocity(x, levels[0], cond)
        for t, t_next in itertools.pairwise(levels):
            v = backbone.velocity(x + (t_next - t) / 2 * v, (t + t_next) / 2, cond)
            x = x + (t_next - t) * v
    torch.testing.assert_close(found, x, rtol=1e-4, atol=2e-3)
    assert (found - backbone.encode(batch.image)).abs().max() > 1


def test_costs_one_evaluation_more_than_its_steps_each_way(deep):
    assert run_row(ROW, deep, masked_cases(1))[0].nfe == 18  # the paper's, for 8 steps
    assert run_row(ROW, deep, masked_cases(1), {"steps": 3, "start": 0.5})[0].nfe == 6
    free = Mixture(guidance_mode="classifier-free")
    assert run_row(ROW, free, some_cases(1), {"inject": 0})[0].nfe == 9 + 18


def test_with_one_interval_exactly_one_evaluation_gets_values(deep, monkeypatch):
    put_back = []
    down = Sharing.down

    def spy(self, interval, stage):
        if (interval, stage) in self._recorded:
            put_back.append((interval, stage))
        return down(self, interval, stage)

    monkeypatch.setattr(Sharing, "down", spy)
    for inject, wanted in ((1, [(0, "mid")]), (2, [(0, "mid"), (1, "mid")]), (0, [])):
        put_back.clear()
        with torch.inference_mode():
            settings = FireFlow(steps=4, inject=inject)
            found = fireflow_edit(deep, collate(masked_cases(1)), settings, noise=NO_NOISE).latents
        assert put_back == wanted
        assert found.isfinite().all()


def test_sharing_changes_the_edit(deep):
    batch = collate(masked_cases(1))
    with torch.inference_mode():
        found = [
            fireflow_edit(deep, batch, FireFlow(steps=3, inject=inject), noise=NO_NOISE).latents for inject in (0, 1, 2)
        ]
    assert (found[0] - found[1]).abs().max() > 1e-6
    assert (found[1] - found[2]).abs().max() > 1e-6


def test_bad_input_is_refused(flux):
    with pytest.raises(InputError, match="'inject' of FireFlow: found 9; expected 0 to 8"):
        FireFlow(inject=9)
    with pytest.raises(InputError, match="'start' of FireFlow"):
        FireFlow(start=0.0)
    with pytest.raises(InputError, match="no guidance embedding in use"):
        run_row(ROW, deepen(flux, guidance_embeds=False), masked_cases(1))
    with pytest.raises(InputError, match="source prompt of case 'x'"):
        run_row(ROW, Mixture(), [type(c)("x", c.image, "b") for c in some_cases(1)])
