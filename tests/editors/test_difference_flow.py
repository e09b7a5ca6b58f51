"""The family: its members to the bit, identities that hold for every switch, and limits that are known exactly."""

from dataclasses import replace
from itertools import pairwise, product

import pytest
import torch

from lib.bench.cases import EditCase, collate
from lib.core.errors import InputError
from lib.core.noise import InjectedNoise, Noise
from lib.editors.difference_flow import (
    PATHS,
    PRESETS,
    DifferenceFlow,
    Member,
    cyclediffusion,
    difference_flow,
    difference_flow_nfe,
    edit_friendly,
    infedit,
    member_nfe,
)
from lib.editors.flowedit import FlowEdit, flowedit
from lib.editors.ode_inversion import ODEInversion, ode_inversion
from lib.editors.registry import Editor
from lib.editors.run import run_row
from lib.editors.sync_sde import SyncSDE, sync_sde
from tests.editors.analytic import Mixture, some_cases
from tests.tiny import SIDE

SOURCE = {"needs_source_prompt": True}
ROW = Editor("difference-flow", "2509.24223", difference_flow, DifferenceFlow, difference_flow_nfe, True, **SOURCE)
MEMBERS = {
    "cyclediffusion": Editor("cyclediffusion", "2210.05559", cyclediffusion, Member, member_nfe, True, **SOURCE),
    "edit-friendly": Editor("edit-friendly", "2304.06140", edit_friendly, Member, member_nfe, True, **SOURCE),
    "infedit": Editor("infedit", "2312.04965", infedit, Member, member_nfe, True, **SOURCE),
}
SWITCHES = [
    {"rho": rho, "path": path, "step": step}
    for rho, path, step in product((0.25, 0.5, 1.0, 3.0), PATHS, ("euler", "exponential"))
] + [{"path": path, "step": "jump"} for path in PATHS]


@pytest.mark.parametrize("guidance_mode", ["distilled", "classifier-free"])
@pytest.mark.parametrize("start", [0.6, 0.95, 1.0])
def test_the_flowedit_preset_is_flowedit_to_the_bit(start, guidance_mode):
    backbone, batch = Mixture(guidance_mode=guidance_mode), collate(some_cases(3))
    found, wanted = [], []
    noise = Noise(batch.ids, 5)
    clean = FlowEdit(start=start)
    preset = replace(PRESETS["flowedit"], start=start)
    assert {name: getattr(preset, name) for name in vars(clean) if hasattr(preset, name)}.items() <= vars(clean).items()
    last = flowedit(backbone, batch, clean, noise=noise, callback=lambda t, z: wanted.append((t, z)))
    difference_flow(backbone, batch, preset, noise=noise, callback=lambda t, z: found.append((t, z)))
    for (t, z), (t_wanted, z_wanted) in zip(found, wanted, strict=True):
        assert t == t_wanted
        assert torch.equal(z, z_wanted)
    assert (last.latents - backbone.encode(batch.image)).abs().max() > 1


def test_cyclediffusion_is_sync_sde_to_the_bit():
    backbone, batch = Mixture(), collate(some_cases(3))
    values = {"steps": 9, "start": 0.9, "source_guidance": 2.0, "target_guidance": 3.0}
    found = cyclediffusion(backbone, batch, Member(**values), noise=Noise(batch.ids, 0)).latents
    wanted = sync_sde(backbone, batch, SyncSDE(**values), noise=Noise(batch.ids, 0)).latents
    assert torch.equal(found, wanted)


@pytest.mark.parametrize("name", MEMBERS)
def test_a_member_is_its_preset_with_the_values_given(name):
    backbone, batch = Mixture(), collate(some_cases(2))
    noise = Noise(batch.ids, 0)
    member = Member(steps=6, start=0.8, source_guidance=2.0, target_guidance=3.0)
    found = MEMBERS[name].run(backbone, batch, member, noise=noise).latents
    settings = replace(PRESETS[name], steps=6, start=0.8, source_guidance=2.0, target_guidance=3.0)
    assert torch.equal(found, difference_flow(backbone, batch, settings, noise=noise).latents)


def edit_friendly_maps(x0, times, draws, predict):
    """Independent x_t of the source; the noise map between two of them, extracted, leads the target."""
    xs = [(1 - t) * x0 + t * z for t, z in zip(times, [*draws, torch.zeros_like(x0)], strict=True)]
    y = xs[0]
    for x, x_next, t, t_next in zip(xs, xs[1:], times, times[1:], strict=False):
        r = (t_next * (1 - t) / (t * (1 - t_next))) ** 2

        def mean(x, which, t=t, t_next=t_next, r=r):  # of x_next given x_t and the predicted x0, in the forward SDE
            return (1 - t_next) * (1 - r) * predict(x, t, which) + (t_next / t) ** 2 * (1 - t) / (1 - t_next) * x

        extracted = x_next - mean(x, "source")
        y = mean(y, "target") + extracted
    return y


def consistent_jumps(x0, times, draws, predict):
    """Source and target noised alike and predicted at once; the target's image moves by the difference."""
    image = x0
    for t, z in zip(times, draws, strict=False):
        x, y = (1 - t) * x0 + t * z, (1 - t) * image + t * z
        image = x0 + predict(y, t, "target") - predict(x, t, "source")
    return image


@pytest.mark.parametrize(("name", "paper"), [("edit-friendly", edit_friendly_maps), ("infedit", consistent_jumps)])
def test_members_follow_their_papers(name, paper):
    """Written as the papers have it, on both sides separately, in float64."""
    backbone, batch = Mixture(std=4.0), collate(some_cases(3, size=4))
    draws = torch.randn(24, 3, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    conds = {"source": backbone.embed(batch.source_prompt, 1.5), "target": backbone.embed(batch.target_prompt, 2.5)}

    def predict(x, t, which):
        return x - t * backbone.velocity(x.float(), t.float(), conds[which])

    x0 = backbone.encode(batch.image)
    wanted = paper(x0.double(), backbone.times(28, 0.95).double(), draws.double(), predict).float()
    member = Member(source_guidance=1.5, target_guidance=2.5)
    found = MEMBERS[name].run(backbone, batch, member, noise=InjectedNoise(dict(enumerate(draws)))).latents
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=2e-3)
    assert (found - x0).abs().max() > 1


@pytest.mark.parametrize("switches", SWITCHES, ids=lambda s: "-".join(map(str, s.values())))
def test_equal_prompts_and_guidance_change_nothing_at_all(switches):
    backbone = Mixture()
    cases = [EditCase(id=c.id, image=c.image, source_prompt="x", target_prompt="x") for c in some_cases(2, size=4)]
    batch = collate(cases)
    x0 = backbone.encode(batch.image)
    for start in (0.3, 0.95, 1.0):
        settings = DifferenceFlow(**switches, steps=8, start=start, source_guidance=3.0, target_guidance=3.0)
        seen = []
        noise = Noise(batch.ids, 0)
        difference_flow(backbone, batch, settings, noise=noise, callback=lambda t, z, seen=seen: seen.append(z))
        assert all(torch.equal(z, x0) for z in seen)
        changed = replace(settings, target_guidance=3.1)
        assert not torch.equal(difference_flow(backbone, batch, changed, noise=noise).latents, x0)


@pytest.mark.parametrize("name", ["ode-inversion", "sync-sde", "sync-sde-released", "infedit"])
def test_so_it_is_on_random_models_of_the_real_classes(backbone, name):
    batch = collate([replace(c, source_prompt="a cat", target_prompt="a cat") for c in some_cases(2, size=SIDE)])
    settings = replace(PRESETS[name], steps=4, start=1.0, source_guidance=3.5, target_guidance=3.5)
    with torch.inference_mode():
        result = difference_flow(backbone, batch, settings, noise=Noise(batch.ids, 0))
        assert torch.equal(result.latents, backbone.encode(batch.image))


@pytest.mark.parametrize("step", ["euler", "exponential"])
def test_the_step_scale_multiplies_every_difference_of_velocities(step):
    """Of a difference that the scale does not feed back into, the whole way is scaled."""
    backbone, batch = Constant({"a": [[0.0, 0.0, 0.0]], "b": [[3.0, -2.0, 1.0]]}), constant_batch()
    x0 = backbone.encode(batch.image)
    for path, rho in (("fresh", 0.5), ("brownian", 1.0)):
        whole, half = (
            difference_flow(backbone, batch, settings, noise=Noise(batch.ids, 0)).latents - x0
            for settings in (
                DifferenceFlow(rho=rho, path=path, step=step, steps=9, step_scale=scale) for scale in (1.0, 0.5)
            )
        )
        torch.testing.assert_close(half, whole / 2, rtol=1e-5, atol=1e-5)
        assert whole.abs().max() > 1


def test_a_step_scale_of_one_is_no_step_scale_to_the_bit():
    """The loop of FlowEdit with its step scaled, written out; at 1 it is FlowEdit's own."""
    backbone, batch = Mixture(), collate(some_cases(3))
    noise, clean = Noise(batch.ids, 5), FlowEdit(steps=8)
    x0, times = backbone.encode(batch.image), backbone.times(8, clean.start)
    source, target = (
        backbone.embed(prompts, guidance)
        for prompts, guidance in ((batch.source_prompt, 1.5), (batch.target_prompt, 5.5))
    )
    for scale in (1.0, 0.75):
        z = x0
        for i, (t, t_next) in enumerate(pairwise(times)):
            x = (1 - t) * x0 + t * noise.draw(i, x0)
            z = z + (t_next - t) * scale * (
                backbone.velocity(x + (z - x0), t, target) - backbone.velocity(x, t, source)
            )
        scaled = replace(PRESETS["flowedit"], steps=8, step_scale=scale)
        found = difference_flow(backbone, batch, scaled, noise=noise).latents
        torch.testing.assert_close(found, z, rtol=0, atol=0.01)  # of latents up to 30
        assert torch.equal(found, flowedit(backbone, batch, clean, noise=noise).latents) == (scale == 1.0)


class Constant(Mixture):
    """Its velocity is the prompt's mean, wherever x is: the difference of two is constant."""

    def _transform(self, x, t, cond, guidance):
        return cond.pooled[:, :, None, None].expand_as(x)


def constant_batch(n=2):
    return collate([EditCase(c.id, c.image, "b", "a") for c in some_cases(n, size=2)])


@pytest.mark.parametrize("path", ["fresh", "brownian", "fixed", "probability-flow"])
@pytest.mark.parametrize(("rho", "start"), [(0.25, 0.9), (0.5, 0.95), (1.0, 0.95), (2.0, 0.8)])
def test_a_constant_difference_moves_the_image_by_its_closed_form(path, rho, start):
    """D(0) = -(1 - (1 - t0)^(2 rho)) dv: all of dv from pure noise, t0 of it for FlowEdit, 0.9975 of it at rho 1."""
    backbone, batch = Constant({"a": [[0.0, 0.0, 0.0]], "b": [[3.0, -2.0, 1.0]]}), constant_batch()
    x0 = backbone.encode(batch.image)
    wanted = -(1 - (1 - start) ** (2 * rho)) * torch.tensor([3.0, -2.0, 1.0])[:, None, None]
    for step in ("euler", "exponential"):
        errors = []
        for steps in (100, 200):
            settings = DifferenceFlow(rho=rho, path=path, step=step, steps=steps, start=start)
            moved = difference_flow(backbone, batch, settings, noise=Noise(batch.ids, 0)).latents - x0
            errors.append((moved - wanted).abs().max().item())
        assert errors[1] < 0.06
        assert errors[1] < max(0.6 * errors[0], 1e-4)  # of first order in the step


def both_steps(backbone, batch, settings, noise):
    """Latents by the Euler and by the exponential step."""
    return [
        difference_flow(backbone, batch, replace(settings, step=step), noise=noise).latents
        for step in ("euler", "exponential")
    ]


@pytest.mark.parametrize(("rho", "path"), [(1.0, "brownian"), (1.0, "fixed"), (2.0, "fixed"), (0.75, "fresh")])
def test_euler_and_exponential_steps_meet_like_one_over_steps(rho, path):
    backbone, batch = Mixture(std=6.0), collate(some_cases(3, size=8))
    gaps = []
    for steps in (40, 160):
        settings = DifferenceFlow(rho=rho, path=path, steps=steps, start=0.8)
        euler, exponential = both_steps(backbone, batch, settings, Noise(batch.ids, 0))
        gaps.append((euler - exponential).square().mean().sqrt().item())
    assert gaps[0] > 1e-2
    assert gaps[1] == pytest.approx(gaps[0] / 4, rel=0.25)


@pytest.mark.parametrize("path", PATHS)
def test_both_steps_are_one_formula_at_one_half(path):
    backbone, batch = Mixture(std=6.0), collate(some_cases(3, size=4))
    settings = DifferenceFlow(rho=0.5, path=path, steps=12, target_guidance=3.0)
    euler, exponential = both_steps(backbone, batch, settings, Noise(batch.ids, 0))
    torch.testing.assert_close(euler, exponential, rtol=0, atol=1e-3)
    assert (euler - backbone.encode(batch.image)).abs().max() > 1


def test_on_the_sources_flow_it_is_ode_inversion_as_steps_grow():
    backbone, batch = Mixture(std=6.0), collate(some_cases(3, size=2))
    gaps = []
    for steps in (50, 200):
        values = {"steps": steps, "start": 0.9, "source_guidance": 1.0, "target_guidance": 1.0}
        settings = replace(PRESETS["ode-inversion"], **values)
        found = difference_flow(backbone, batch, settings, noise=InjectedNoise({})).latents  # nothing is drawn
        wanted = ode_inversion(backbone, batch, ODEInversion(**values), noise=InjectedNoise({})).latents
        gaps.append((found - wanted).square().mean().sqrt().item())
    assert gaps[0] < 0.3
    assert gaps[1] < gaps[0] / 3


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("rho", [0.25, 0.5, 1.0, 3.0])
def test_one_gaussian_is_carried_onto_another_from_pure_noise(rho, path):
    """With one mode each, the exponential step carries x0 to x0 - mean_a + mean_b for every exponent and path."""
    backbone = Mixture({"a": [[4.0, -2.0, 0.0]], "b": [[-3.0, 5.0, 1.0]]}, std=2.0)
    batch = constant_batch(3)
    shift = torch.tensor([-7.0, 7.0, 1.0])[:, None, None]
    settings = DifferenceFlow(rho=rho, path=path, start=1.0, steps=12)
    found = difference_flow(backbone, batch, settings, noise=Noise(batch.ids, 0)).latents
    torch.testing.assert_close(found, backbone.encode(batch.image) + shift, rtol=0, atol=2e-3)


def test_the_jump_is_the_limit_of_a_large_exponent():
    backbone, batch = Mixture(), collate(some_cases(2))
    found, near, far = (
        difference_flow(backbone, batch, settings, noise=Noise(batch.ids, 0)).latents
        for settings in (
            PRESETS["infedit"],
            DifferenceFlow(rho=10.0, path="fresh"),
            DifferenceFlow(rho=1e4, path="fresh"),
        )
    )
    assert torch.equal(found, far)
    assert not torch.equal(found, near)


def test_paths_other_than_the_flow_draw_what_they_say():
    """Fresh noise of every step, one noise for all, or every step of the Brownian path; never more."""
    backbone, batch = Mixture(), collate(some_cases(1))
    for path, used in {"fresh": range(5), "fixed": range(1), "brownian": range(5), "probability-flow": ()}.items():
        settings = DifferenceFlow(path=path, steps=5, start=1.0)
        draws = {i: torch.randn(1, 3, 8, 8) for i in used}
        difference_flow(backbone, batch, settings, noise=InjectedNoise(draws))
        for i in used:  # and less is missed
            with pytest.raises(InputError, match="injected noise"):
                noise = InjectedNoise({k: z for k, z in draws.items() if k != i})
                difference_flow(backbone, batch, settings, noise=noise)


@pytest.mark.parametrize(("guidance_mode", "source", "target"), [("distilled", 1, 1), ("classifier-free", 1, 2)])
def test_evaluations_are_those_of_the_formula(guidance_mode, source, target):
    """`run_row` raises where they are not. FlowEdit's guidance makes its source cost 2 under classifier-free too."""
    backbone, cases = Mixture(guidance_mode=guidance_mode), some_cases(2, size=2)
    for path in PATHS:
        settings = {"path": path, "steps": 7, "start": 1, "source_guidance": 1, "target_guidance": 3}
        (edited, _) = run_row(ROW, backbone, cases, settings)
        assert edited.nfe == 7 * (source + target) + (source if path == "probability-flow" else 0)
    for row in MEMBERS.values():
        assert run_row(row, backbone, cases, {"target_guidance": 3})[0].nfe == 24 * (source + target)


def test_recipes_tell_the_switches():
    settings = {"rho": 2, "path": "fixed", "steps": 2}
    (edited,) = run_row(ROW, Mixture(), some_cases(1, size=2), settings)
    assert edited.recipe["settings"] | settings == edited.recipe["settings"]
    assert edited.settings.rho == 2.0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rho": 0.0}, r"'rho' of DifferenceFlow: found 0.0; expected above 0"),
        ({"rho": -1.0}, r"'rho'.*found -1.0"),
        ({"rho": float("inf")}, r"'rho'.*found inf; expected a finite number"),
        ({"rho": "inf"}, r"'rho': found 'inf' .str"),
        ({"rho": 2.0, "step": "jump"}, r"'rho'.*found 2.0; expected 1, left as it is"),
        ({"step_scale": 0.0}, r"'step_scale' of DifferenceFlow: found 0.0; expected above 0"),
        ({"path": "straight"}, r"'path'.*'straight'; expected one of probability-flow, brownian, fresh, fixed"),
        ({"step": "heun"}, r"'step'.*'heun'; expected one of euler, exponential, jump"),
        ({"variance": "left"}, r"'variance'.*'left'; expected one of exact, midpoint"),
        ({"path": "fresh", "variance": "midpoint"}, r"'variance'.*'midpoint'; expected 'exact' on the path 'fresh'"),
        ({"start": 0.0}, r"'start'.*found 0.0; expected a noise level in \(0, 1\]"),
        ({"start": 1.1}, r"'start'.*found 1.1"),
        ({"steps": 0}, r"'steps'.*found 0"),
    ],
)
def test_settings_that_make_no_sense(settings, words):
    with pytest.raises(InputError, match=words):
        run_row(ROW, Mixture(), some_cases(1), settings)


@pytest.mark.parametrize("row", [ROW, *MEMBERS.values()], ids=lambda row: row.name)
def test_needs_a_source_prompt(row):
    (case,) = some_cases(1)
    with pytest.raises(InputError, match=r"source prompt of case 'case-000': found none"):
        run_row(row, Mixture(), [EditCase(case.id, case.image, case.target_prompt)])
