"""The editors on random pipelines of the real classes: FLUX under both kinds of guidance, and SD3."""

from dataclasses import replace

import pytest
import torch

from lib.bench.cases import collate
from lib.core.noise import Noise
from lib.editors.flowedit import FlowEdit, flowedit
from lib.editors.ode_inversion import ODEInversion, ode_inversion
from lib.editors.registry import EDITORS
from lib.editors.run import run_editor
from tests.editors.analytic import some_cases
from tests.tiny import SIDE

ANYWHERE = [name for name, row in EDITORS.items() if not row.needs_attention]  # the others have tests of their own
SMALL = {name: {"steps": 3} for name in ANYWHERE} | {"flowedit": {"steps": 4, "n_avg": 2, "tail": 0.6}}


def worded_cases(n):
    words = ("a cat", "the red dog", "a blue cat on the dog")
    return [
        replace(case, source_prompt=words[i % 3], target_prompt=words[(i + 1) % 3])
        for i, case in enumerate(some_cases(n, size=SIDE))
    ]


def test_equal_prompts_and_guidance_change_nothing_at_all(backbone):
    batch = collate([replace(case, target_prompt=case.source_prompt) for case in worded_cases(3)])
    settings = FlowEdit(steps=6, start=1.0, source_guidance=3.5, target_guidance=3.5)
    with torch.inference_mode():
        result = flowedit(backbone, batch, settings, noise=Noise(batch.ids, 0))
        assert torch.equal(result.latents, backbone.encode(batch.image))
        other = flowedit(backbone, batch, replace(settings, target_guidance=4.5), noise=Noise(batch.ids, 0))
    assert not torch.equal(other.latents, result.latents)


@pytest.mark.parametrize("name", ANYWHERE)
def test_neither_order_nor_company_changes_a_result(backbone, name):
    """And the transformer evaluations counted are those of the formula, which `run_editor` checks."""
    cases = worded_cases(7)
    together = run_editor(name, backbone, cases, SMALL[name], seed=1)
    backwards = run_editor(name, backbone, cases[::-1], SMALL[name], seed=1)
    (alone,) = run_editor(name, backbone, cases[2:3], SMALL[name], seed=1)
    for one, other in zip(together, backwards[::-1], strict=True):
        assert torch.equal(one.image, other.image)
    torch.testing.assert_close(alone.image, together[2].image, rtol=0, atol=1 / 255 + 1e-4)


@pytest.mark.parametrize("name", ANYWHERE)
def test_latents_alone_and_in_a_batch_agree(backbone, name):
    row, cases = EDITORS[name], worded_cases(7)
    settings = row.settings(**SMALL[name])
    with torch.inference_mode():
        batch = collate(cases)
        together = row.run(backbone, batch, settings, noise=Noise(batch.ids, 1)).latents
        single = collate(cases[2:3])
        alone = row.run(backbone, single, settings, noise=Noise(single.ids, 1)).latents
    torch.testing.assert_close(alone, together[2:3], rtol=0, atol=1e-4)
    assert (together[2] - together[3]).abs().max() > 1e-2


def test_the_way_back_with_the_same_prompt_closes_as_steps_grow(flux):
    batch = collate([replace(case, target_prompt=case.source_prompt) for case in worded_cases(2)])
    errors = []
    with torch.inference_mode():
        source = flux.encode(batch.image)
        for steps in (8, 32):
            settings = ODEInversion(steps=steps, start=0.8, source_guidance=1.0, target_guidance=1.0)
            back = ode_inversion(flux, batch, settings, noise=Noise(batch.ids, 0)).latents
            errors.append((back - source).abs().max().item())
    assert errors[1] < errors[0] / 2


def test_gradients_reach_the_latents_when_asked_for(flux):
    """Prompts first embedded in inference mode must not spoil a later gradient."""
    batch = collate(worded_cases(1))
    run_editor("sdedit", flux, batch.cases, {"steps": 2})
    x = flux.encode(batch.image).clone().requires_grad_()
    flux.velocity(x, 0.5, flux.embed(batch.target_prompt)).square().sum().backward()
    assert x.grad.abs().max() > 0
