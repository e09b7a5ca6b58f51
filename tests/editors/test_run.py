"""The runner: what does not change a result, what is checked, what is counted."""

from dataclasses import replace

import pytest
import torch

from lib.core.errors import InputError
from lib.core.images import quantise
from lib.editors.registry import EDITORS
from lib.editors.run import padded_batches, run_editor
from tests.editors.analytic import Mixture, some_cases

ANYWHERE = [name for name, row in EDITORS.items() if not row.needs_attention]  # the others run on FLUX alone
SMALL = {name: {"steps": 5} for name in ANYWHERE} | {"flowedit": {"steps": 5, "n_avg": 2, "tail": 0.5}}


@pytest.mark.parametrize("name", ANYWHERE)
def test_neither_order_nor_company_changes_a_result(name):
    cases = some_cases(7)
    together = run_editor(name, Mixture(), cases, SMALL[name], seed=3)
    backwards = run_editor(name, Mixture(), cases[::-1], SMALL[name], seed=3)
    in_threes = run_editor(name, Mixture(), cases, SMALL[name], seed=3, batch_size=3)
    (alone,) = run_editor(name, Mixture(), cases[4:5], SMALL[name], seed=3)
    assert [edited.case_id for edited in together] == [case.id for case in cases]
    assert [edited.case_id for edited in backwards] == [case.id for case in cases[::-1]]
    for one, other in zip(together, backwards[::-1], strict=True):
        assert torch.equal(one.image, other.image)
    for one, other in zip(together, in_threes, strict=True):
        torch.testing.assert_close(one.image, other.image, rtol=0, atol=1 / 255 + 1e-4)
    torch.testing.assert_close(alone.image, together[4].image, rtol=0, atol=1 / 255 + 1e-4)
    assert not torch.equal(together[3].image, together[4].image)


@pytest.mark.parametrize("name", ANYWHERE)
def test_the_seed_matters_where_the_table_says_so(name):
    cases = some_cases(2)
    one, two = (run_editor(name, Mixture(), cases, SMALL[name], seed=seed) for seed in (0, 1))
    assert torch.equal(one[0].image, two[0].image) is not EDITORS[name].stochastic


@pytest.mark.parametrize("guidance_mode", ["distilled", "classifier-free"])
@pytest.mark.parametrize("name", ["sdedit", "ode-inversion", "flowedit"])
@pytest.mark.parametrize("more", [{}, {"steps": 1}, {"start": 0.3}, {"start": 1.0}])
def test_counted_evaluations_are_the_formula(name, guidance_mode, more):
    """`run_editor` compares them; here also with numbers by hand."""
    settings = SMALL[name] | ({"n_avg": 1, "tail": 0.0} if name == "flowedit" else {}) | more
    (found,) = run_editor(name, Mixture(guidance_mode=guidance_mode), some_cases(1), settings)
    start = settings.get("start", 0.905 if name == "sdedit" else 0.95)
    levels = [t for t in Mixture()._schedule(settings["steps"], None).tolist() if t < start - 1e-3]
    branches = {"sdedit": 1, "ode-inversion": 2, "flowedit": 2}[name]
    passes = 2 if guidance_mode == "classifier-free" else 1
    assert found.nfe == (len(levels) + 1) * branches * passes


def test_guidance_1_costs_one_evaluation_and_the_tail_none_of_the_source():
    free = Mixture(guidance_mode="classifier-free", shift=0.0)  # levels 1, .75, .5, .25
    settings = {"steps": 4, "start": 1.0, "tail": 0.5, "n_avg": 3, "source_guidance": 1.0, "target_guidance": 2.0}
    (found,) = run_editor("flowedit", free, some_cases(1), settings)
    assert found.nfe == 2 * 3 * (1 + 2) + 2 * 2


def test_the_papers_defaults_cost_what_the_paper_says():
    """n_max = 24 of 28 at 1024 x 1024 (shift 1.15) starts from level .9499 and costs 48 evaluations."""
    assert Mixture(shift=1.15)._schedule(28, None)[4].item() == pytest.approx(0.95, abs=2e-4)
    (found,) = run_editor("flowedit", Mixture(shift=1.15), some_cases(1))
    assert found.nfe == 48


def test_a_wrong_formula_is_found_out(monkeypatch):
    wrong = replace(EDITORS["sdedit"], nfe=lambda backbone, settings, latents: 4.0)
    monkeypatch.setitem(EDITORS, "sdedit", wrong)
    with pytest.raises(RuntimeError, match=r"sdedit: counted 5 .* gives 4"):
        run_editor("sdedit", Mixture(), some_cases(1), {"steps": 6, "start": 0.9})


def test_full_batches_all_have_one_shape():
    sizes = [(len(batch), real) for batch, real in padded_batches(some_cases(7), 3)]
    assert sizes == [(3, 3), (3, 3), (3, 1)]
    assert [(len(batch), real) for batch, real in padded_batches(some_cases(2), 3)] == [(2, 2)]
    mixed = some_cases(4) + [replace(case, id=f"big-{case.id}") for case in some_cases(2, size=12)]
    assert [(len(batch), real) for batch, real in padded_batches(mixed, 3)] == [(3, 3), (3, 1), (2, 2)]


def test_padding_is_neither_counted_nor_shown():
    cases = some_cases(4)
    seen = []
    found = run_editor(
        "flowedit", Mixture(), cases, {"steps": 3}, batch_size=3, callback=lambda t, z: seen.append(len(z))
    )
    assert [edited.case_id for edited in found] == [case.id for case in cases]
    assert {edited.nfe for edited in found} == {6.0}
    assert seen == [3, 3, 3, 1, 1, 1]
    more = run_editor("flowedit", Mixture(), some_cases(8), {"steps": 3}, batch_size=3)
    for one, other in zip(found, more, strict=False):
        assert torch.equal(one.image, other.image)


def test_images_of_several_sizes_come_back_in_order():
    cases = [replace(case, id=f"{case.id}-{size}") for size in (12, 8) for case in some_cases(2, size=size)]
    found = run_editor("sdedit", Mixture(), cases, {"steps": 2})
    assert [(e.case_id, e.image.shape) for e in found] == [(c.id, c.image.shape) for c in cases]


def test_a_prompt_is_embedded_once():
    backbone = Mixture()
    cases = [replace(case, source_prompt="a thing") for case in some_cases(5)]
    run_editor("flowedit", backbone, cases, {"steps": 2}, batch_size=2)
    assert sorted(backbone.embedded) == sorted(["", "a thing", *(case.target_prompt for case in cases)])


def test_results_are_plain_and_say_where_they_come_from():
    cases = some_cases(2)
    (found, _) = run_editor("sdedit", Mixture(), cases, {"steps": 2}, seed=9)
    assert found.image.dtype == torch.float32
    assert found.image.device.type == "cpu"
    assert torch.equal(found.image, quantise(found.image))
    assert not found.image.is_inference()
    expected = {"editor": "sdedit", "case": "case-000", "seed": 9, "backbone_hash": "analytic"}
    assert expected.items() <= found.recipe.items()
    assert found.recipe["settings"]["steps"] == found.settings.steps == 2
    assert found.recipe["target_prompt"] == cases[0].target_prompt


@pytest.mark.parametrize("needs_gradients", [True, False])
def test_the_gradient_mode_is_what_the_table_asks_for(monkeypatch, needs_gradients):
    modes = []

    def watched(*arguments, **options):
        modes.append((torch.is_grad_enabled(), torch.is_inference_mode_enabled()))
        return EDITORS["ode-inversion"].run(*arguments, **options)

    monkeypatch.setitem(EDITORS, "sdedit", replace(EDITORS["ode-inversion"], needs_gradients=needs_gradients))
    monkeypatch.setitem(EDITORS, "sdedit", replace(EDITORS["sdedit"], name="sdedit", run=watched))
    run_editor("sdedit", Mixture(), some_cases(1), {"steps": 2})
    assert modes == [(True, False) if needs_gradients else (False, True)]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"source_prompt": None}, "source prompt of case 'case-001'"),
        ({"target_prompt": " "}, "target prompt of case 'case-001'"),
        ({"target_prompt": ""}, "target prompt of case 'case-001'"),
        ({"id": "case-000"}, "case-000"),
        ({"image": torch.full((3, 8, 8), 2.0)}, "source images"),
        ({"image": torch.full((3, 8, 8), torch.nan)}, "source images"),
    ],
)
def test_a_case_that_cannot_be_edited_is_named(change, words):
    cases = some_cases(3)
    cases[1] = replace(cases[1], **change)
    with pytest.raises(InputError, match=words):
        run_editor("flowedit", Mixture(), cases, {"steps": 2})


def test_a_needed_mask_is_asked_for(monkeypatch):
    monkeypatch.setitem(EDITORS, "sdedit", replace(EDITORS["sdedit"], needs_mask=True))
    with pytest.raises(InputError, match="mask of case 'case-000'"):
        run_editor("sdedit", Mixture(), some_cases(1, masks=False))


def test_an_empty_source_prompt_is_legal_and_no_case_is_no_result():
    (case,) = some_cases(1)
    (found,) = run_editor("flowedit", Mixture(), [replace(case, source_prompt="")], {"steps": 2})
    assert found.recipe["source_prompt"] == ""
    assert run_editor("flowedit", Mixture(), []) == []


def test_a_broken_result_is_not_passed_on(monkeypatch):
    backbone = Mixture()
    monkeypatch.setattr(backbone, "decode", lambda latents: torch.full((len(latents), 3, 8, 8), torch.nan))
    with pytest.raises(InputError, match="images edited by sdedit"):
        run_editor("sdedit", backbone, some_cases(1), {"steps": 2})


def test_silent_without_a_terminal(capsys):
    run_editor("sdedit", Mixture(), some_cases(1), {"steps": 2})
    assert capsys.readouterr() == ("", "")
    run_editor("sdedit", Mixture(), some_cases(1), {"steps": 2}, progress=True)
    assert "1/1" in capsys.readouterr().err
