"""Solvers, and RF-Solver-Edit: what each is exact for, how it converges, and what sharing values does."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from lib.backbones.attention import attention_layers
from lib.bench.cases import collate
from lib.core.errors import InputError
from lib.core.noise import InjectedNoise
from lib.editors.registry import Editor
from lib.editors.rf_solver import RFSolverEdit, rf_solver_edit, rf_solver_edit_nfe
from lib.editors.run import run_row
from lib.editors.solvers import SOLVERS, evaluations, fireflow, intervals, midpoint
from lib.editors.uniedit import uni_inversion
from tests.editors.analytic import Mixture, some_cases
from tests.editors.deep import deepen, masked_cases

ROW = Editor(
    "rf-solver-edit", "", rf_solver_edit, RFSolverEdit, rf_solver_edit_nfe, stochastic=False, needs_source_prompt=True
)
NO_NOISE = InjectedNoise({})  # raises if drawn from
TIMES = torch.tensor([1.0, 0.9, 0.55, 0.5, 0.0])


@pytest.fixture(scope="module")
def deep(flux):
    return deepen(flux)


def swirl(x, t, interval=0, stage=""):
    """A smooth velocity that depends on place and time."""
    return torch.sin(2 * x + 3 * t) + t * x


# Solvers


@pytest.mark.parametrize("solver", [*SOLVERS.values(), uni_inversion])
def test_a_constant_velocity_is_inverted_exactly(solver):
    v = torch.tensor([3.0, -0.25])
    x = torch.tensor([0.5, 2.0])
    top = solver(lambda *_: v, x, TIMES.flip(0))
    torch.testing.assert_close(top, x + v, rtol=0, atol=1e-6)
    torch.testing.assert_close(solver(lambda *_: v, top, TIMES), x, rtol=0, atol=1e-6)


@pytest.mark.parametrize("times", [TIMES, TIMES.flip(0)])
def test_the_midpoint_rule_is_rf_solver_s_taylor_step(times):
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)
    times = times.double()
    found = midpoint(swirl, x, times)
    for t, t_next in pairwise(times):
        h = t_next - t
        v1 = swirl(x, t)
        v2 = swirl(x + h / 2 * v1, t + h / 2)
        x = x + h * v1 + h**2 / 2 * (v2 - v1) / (h / 2)
    torch.testing.assert_close(found, x, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("times", [TIMES, TIMES.flip(0)])
def test_fireflow_by_hand(times):
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)
    times = times.double()
    found = fireflow(swirl, x, times)
    v = swirl(x, times[0])
    for t, t_next in pairwise(times):
        v = swirl(x + (t_next - t) / 2 * v, (t + t_next) / 2)
        x = x + (t_next - t) * v
    torch.testing.assert_close(found, x, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("name", "order"), [("euler", 1), ("midpoint", 2), ("fireflow", 2)])
def test_orders_of_convergence(name, order):
    x = torch.linspace(-1, 1, 5, dtype=torch.float64)

    def at(n):
        return SOLVERS[name](swirl, x, torch.linspace(1, 0, n + 1, dtype=torch.float64))

    exact = midpoint(swirl, x, torch.linspace(1, 0, 4001, dtype=torch.float64))
    coarse, fine = ((at(n) - exact).abs().max().item() for n in (40, 80))
    assert coarse / fine == pytest.approx(2**order, rel=0.15)


@pytest.mark.parametrize("name", SOLVERS)
def test_intervals_have_one_number_both_ways(name):
    seen = {}
    for direction, times in (("down", TIMES), ("up", TIMES.flip(0))):
        seen[direction] = []
        numbers = seen[direction]

        def note(x, t, interval, stage, numbers=numbers):
            numbers.append((interval, stage, round(float(t), 4)))
            return x

        settled = []
        SOLVERS[name](note, torch.zeros(1), times, settle=lambda x, i, settled=settled: settled.append(i) or x)
        assert settled == [i for _, _, i in intervals(times)]
        assert len(numbers) == evaluations(name, len(TIMES) - 1)
    middles = {d: {(i, t) for i, stage, t in found if stage == "mid"} for d, found in seen.items()}
    assert middles["up"] == middles["down"]
    firsts = {d: [(i, t) for i, stage, t in found if stage == "first"] for d, found in seen.items()}
    assert firsts["down"][0] == (0, 1.0)
    assert firsts["up"][0] == (3, 0.0)


# RF-Solver-Edit


def test_the_way_back_with_the_same_prompt_converges_like_one_over_steps_squared():
    backbone = Mixture({"a": [[8.0, 0.0, -3.0], [-8.0, 2.0, 3.0]]}, std=3.0, scale=20.0)
    batch = collate([replace(case, source_prompt="a", target_prompt="a") for case in some_cases(2)])
    source = backbone.encode(batch.image)
    errors = []
    for steps in (40, 80, 160):
        settings = RFSolverEdit(steps=steps, start=0.9, inject=0, target_guidance=1.0)
        back = rf_solver_edit(backbone, batch, settings, noise=NO_NOISE).latents
        errors.append((back - source).square().mean().sqrt().item())
    assert errors[-1] < 0.05
    assert all(a / b > 3.2 for a, b in pairwise(errors))


@pytest.mark.parametrize("late", [True, False])
def test_all_values_shared_in_all_layers_bring_the_source_back(deep, late):
    """With the same prompt the values of the way up are nearly those of the way down: sharing must not harm."""
    batch = collate([replace(case, target_prompt=case.source_prompt) for case in masked_cases(2)])
    with torch.inference_mode():
        source = deep.encode(batch.image)
        settings = RFSolverEdit(steps=8, inject=8, target_guidance=1.0, late_values=late, value_from=0.0)
        back = rf_solver_edit(deep, batch, settings, noise=NO_NOISE).latents
    assert (back - source).abs().max() < 0.05 * source.abs().max()


def test_values_at_their_own_noise_level_reconstruct_better_than_late_ones(deep):
    batch = collate([replace(case, target_prompt=case.source_prompt) for case in masked_cases(3)])
    errors = {}
    with torch.inference_mode():
        source = deep.encode(batch.image)
        for late in (True, False):
            settings = RFSolverEdit(steps=4, inject=4, target_guidance=1.0, late_values=late, value_from=0.0)
            back = rf_solver_edit(deep, batch, settings, noise=NO_NOISE).latents
            errors[late] = (back - source).square().mean().sqrt().item()
    assert errors[False] < errors[True]


def test_each_way_of_sharing_is_another_edit(deep):
    batch = collate(masked_cases(2))
    found = []
    with torch.inference_mode():
        for values in ("none", "all", "image", "masked"):
            settings = RFSolverEdit(steps=3, inject=2, values=values)
            found.append(rf_solver_edit(deep, batch, settings, noise=NO_NOISE).latents)
        off = rf_solver_edit(deep, batch, RFSolverEdit(steps=3, inject=0), noise=NO_NOISE).latents
    assert torch.equal(found[0], off)
    for i, one in enumerate(found):
        assert all((one - other).abs().max() > 1e-6 for other in found[:i])


@pytest.mark.parametrize(("more", "wanted"), [({}, 12), ({"late_values": False}, 13), ({"start": 0.5}, 8)])
def test_counted_evaluations_are_the_formula(deep, more, wanted):
    """Which the runner checks; the numbers here are by hand. Three steps of the deep model are at 1, .76, .44."""
    (found,) = run_row(ROW, deep, masked_cases(1), {"steps": 3, **more})
    assert found.nfe == wanted
    free = Mixture(guidance_mode="classifier-free")
    (found,) = run_row(ROW, free, some_cases(1), {"steps": 3, "inject": 0, "target_guidance": 2.0})
    assert found.nfe == 6 + 12


def test_a_batch_of_three_is_three_singles(deep):
    cases = masked_cases(3)
    with torch.inference_mode():
        settings = RFSolverEdit(steps=3, values="masked")
        together = rf_solver_edit(deep, collate(cases), settings, noise=NO_NOISE).latents
        for i, case in enumerate(cases):
            alone = rf_solver_edit(deep, collate([case]), settings, noise=NO_NOISE).latents
            torch.testing.assert_close(alone[0], together[i], rtol=0, atol=1e-4)


def test_bad_input_is_refused_and_leaves_the_processors_alone(deep, flux):
    with pytest.raises(InputError, match=r"'inject' of RFSolverEdit: found 4; expected 0 to 3"):
        RFSolverEdit(steps=3, inject=4)
    with pytest.raises(InputError, match=r"'values' of RFSolverEdit: found 'some'; expected one of none, all"):
        RFSolverEdit(values="some")
    with pytest.raises(InputError, match="'value_from'"):
        RFSolverEdit(value_from=0.9, value_to=0.5)
    for start in (0.0, 1.1):
        with pytest.raises(InputError, match=r"'start' of RFSolverEdit.*noise level in \(0, 1\]"):
            RFSolverEdit(start=start)
    with pytest.raises(InputError, match="attention of mixture"):
        run_row(ROW, Mixture(), some_cases(1))
    schnell = deepen(flux, guidance_embeds=False)
    with pytest.raises(InputError, match=r"guidance 2 on deep-flux.*no guidance embedding in use"):
        run_row(ROW, schnell, masked_cases(1))
    unmasked = [replace(case, mask=None) for case in masked_cases(1)]
    with pytest.raises(InputError, match="mask of the cases: found none"):
        run_row(ROW, deep, unmasked, {"values": "masked"})
    before = [attention.processor for attention in attention_layers(deep)]
    run_row(ROW, deep, masked_cases(1), {"steps": 2})
    assert all(a.processor is b for a, b in zip(attention_layers(deep), before, strict=True))
