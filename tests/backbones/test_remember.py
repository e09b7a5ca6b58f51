"""Nothing twice: what comes back is what the backbone gives, to the bit, and what it saved is counted."""

from dataclasses import replace
from itertools import product

import pytest
import torch
from diffusers.models.transformers.transformer_flux import FluxAttnProcessor

from lib.backbones.attention import Recorder, hooked
from lib.backbones.base import Backbone
from lib.backbones.mixture import Mixture
from lib.backbones.remember import Remembering
from lib.core.errors import InputError
from lib.editors.difference_flow import DifferenceFlow, difference_flow, difference_flow_nfe
from lib.editors.flowedit import FlowEdit, flowedit, flowedit_nfe
from lib.editors.registry import EDITORS, Editor
from lib.editors.run import run_row
from tests.editors.analytic import some_cases
from tests.editors.deep import deepen, masked_cases
from tests.tiny import SIDE

ROW = Editor("flowedit", "2412.08629", flowedit, FlowEdit, flowedit_nfe, stochastic=True, needs_source_prompt=True)
FLOW = "probability-flow"


def asked_and_spent(backbone):
    return backbone.asked.rows, backbone.spent.rows


def some_x(n=2, seed=0):
    return torch.randn(n, 3, 4, 4, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("guidance_mode", ["distilled", "classifier-free"])
def test_a_sweep_evaluates_its_source_half_once(guidance_mode):
    """Three target guidances times two target prompts: the source's velocities are the same in all six."""
    plain, steps, n = Mixture(guidance_mode=guidance_mode), 7, 3
    backbone = Remembering(Mixture(guidance_mode=guidance_mode))
    cases = some_cases(n, size=4)
    for prompt, guidance in product(("a dog", "a crown"), (2.0, 3.0, 5.5)):
        asked = [replace(case, target_prompt=prompt) for case in cases]
        settings = {"steps": steps, "start": 1.0, "target_guidance": guidance}
        found = run_row(ROW, backbone, asked, settings)  # which checks the evaluations asked for
        for one, wanted in zip(found, run_row(ROW, plain, asked, settings), strict=True):
            assert torch.equal(one.image, wanted.image)
            assert (one.nfe, one.recipe) == (wanted.nfe, wanted.recipe)
    rows = 2 if guidance_mode == "classifier-free" else 1
    assert backbone.asked.per_image(n) == 6 * 2 * steps * rows
    assert backbone.spent.per_image(n) == (6 + 1) * steps * rows
    assert (backbone.asked.calls, backbone.spent.calls) == (6 * 2 * steps, 7 * steps)


def test_the_same_on_random_models_of_the_real_classes(backbone):
    remembering, words = Remembering(backbone), ("a cat", "the red dog", "a blue cat on the dog")
    cases = [replace(c, source_prompt=words[0], target_prompt=words[1]) for c in some_cases(2, size=SIDE)]
    for prompt in words[1:]:
        asked = [replace(case, target_prompt=prompt) for case in cases]
        found = run_row(ROW, remembering, asked, {"steps": 3, "start": 1.0})
        wanted = run_row(ROW, backbone, asked, {"steps": 3, "start": 1.0})
        assert all(torch.equal(a.image, b.image) for a, b in zip(found, wanted, strict=True))
    rows = 2 if backbone.guidance_mode == "classifier-free" else 1
    assert asked_and_spent(remembering) == (2 * 12 * rows, 2 * 9 * rows)


def test_an_edit_made_again_costs_nothing():
    backbone, cases = Remembering(Mixture()), some_cases(2, size=4)
    row = Editor("x", "x", difference_flow, DifferenceFlow, difference_flow_nfe, True, needs_source_prompt=True)
    first = run_row(row, backbone, cases, {"path": FLOW, "steps": 5, "start": 1})
    assert asked_and_spent(backbone) == (22, 22)
    again = run_row(row, backbone, cases, {"path": FLOW, "steps": 5, "start": 1})
    assert asked_and_spent(backbone) == (44, 22)
    assert all(torch.equal(a.image, b.image) for a, b in zip(first, again, strict=True))
    backbone.forget()
    assert backbone.kept_bytes == 0
    run_row(row, backbone, cases, {"path": FLOW, "steps": 5, "start": 1})
    assert asked_and_spent(backbone) == (66, 44)


def test_everything_that_a_velocity_depends_on_tells_two_apart():
    inner = Mixture(guidance_mode="classifier-free")
    backbone = Remembering(inner)
    x, cond = some_x(), inner.embed(["a", "b"], 2.0)
    one_value = x.clone()
    one_value[1, 2, 3, 3] += 1e-6
    questions = [
        (x, 0.5, cond),
        (one_value, 0.5, cond),
        (x[:1], 0.5, inner.embed(["a"], 2.0)),  # another batch shape
        (x, 0.500001, cond),
        (x, 0.5, inner.embed(["a", "b"], 2.5)),
        (x, 0.5, inner.embed(["a", "b"], 1.0)),  # no negative
        (x, 0.5, inner.embed(["b", "a"], 2.0)),
        (x, 0.5, replace(cond, negative=inner.embed(["c", "c"]))),
    ]
    for _ in range(2):
        for question in questions:
            assert torch.equal(backbone.velocity(*question), inner.velocity(*question))
    assert backbone.spent.calls == len(questions)
    assert backbone.asked.calls == 2 * len(questions)
    backbone.velocity(x.clone(), torch.tensor(0.5), inner.embed(["a", "b"], 2.0))  # equal content, other objects
    assert backbone.spent.calls == len(questions)


def test_what_was_not_asked_for_longest_is_dropped_first():
    inner = Mixture()
    x, cond = some_x(), inner.embed(["a", "b"])
    size = x.nbytes
    backbone = Remembering(inner, limit_bytes=2 * size)
    for t, spent in ((0.1, 1), (0.2, 2), (0.1, 2), (0.3, 3), (0.1, 3), (0.2, 4), (0.3, 5)):
        backbone.velocity(x, t, cond)
        assert backbone.spent.calls == spent
        assert backbone.kept_bytes <= 2 * size
    small = Remembering(inner, limit_bytes=size - 1)  # nothing fits
    for spent in (1, 2):
        assert torch.equal(small.velocity(x, 0.5, cond), inner.velocity(x, 0.5, cond))
        assert (small.spent.calls, small.kept_bytes) == (spent, 0)


INVERTING = [
    ("rf-solver", {"steps": 5, "inject": 0}),
    ("rf-solver", {"steps": 5, "inject": 2}),
    ("rf-solver", {"steps": 5, "inject": 3, "target_guidance": 3.5}),
    ("rf-solver", {"steps": 5, "inject": 2, "values": "masked"}),
    ("rf-solver", {"steps": 5, "inject": 2, "late_values": False}),
    ("lore", {"steps": 5, "inject": 3, "iterations": 1}),
    ("lore", {"steps": 5, "inject": 3, "iterations": 1, "renoise": 0.2}),
    ("kv-edit", {"steps": 5, "start": 1.0, "source_guidance": 1.0, "solver": "midpoint"}),
    ("kv-edit", {"steps": 5, "start": 1.0, "source_guidance": 1.0, "solver": "midpoint", "target_guidance": 2.0}),
]


def test_an_inversion_is_made_once_for_all_arms_that_share_its_values(flux):
    """Of ten evaluations up those of intervals that record what was not recorded before are made anew.

    Where sharing is not late they are eleven, one at the top, and the last interval's first one records nothing.
    """
    deep = deepen(flux)
    cases, remembering = masked_cases(2), Remembering(deep)
    saved = []
    for name, settings in INVERTING:
        before = remembering.asked.rows - remembering.spent.rows
        found = run_row(EDITORS[name], remembering, cases, settings)
        wanted = run_row(EDITORS[name], deep, cases, settings)
        assert all(torch.equal(a.image, b.image) for a, b in zip(found, wanted, strict=True)), (name, settings)
        saved.append((remembering.asked.rows - remembering.spent.rows - before) / len(cases))
    assert saved == [0, 6, 8, 10, 10, 10, 10, 1, 11]


def test_what_is_recorded_tells_two_evaluations_apart(flux):
    deep = deepen(flux)
    backbone, cond, x = Remembering(deep), deep.embed(["a cat"]), torch.ones(1, 4, 8, 8)

    def recorded(model, layers, keys):
        taken = {}
        with torch.no_grad(), hooked(model, layers, Recorder(taken, keys=keys)):
            model.velocity(x, 0.5, cond)
        return taken

    questions = [((0, 1), False), ((1,), False), ((0, 1), True)]
    for _ in range(2):
        for layers, keys in questions:
            found, wanted = recorded(backbone, layers, keys), recorded(deep, layers, keys)
            assert found.keys() == wanted.keys() == set(layers)
            for layer in layers:
                (k, v), (k_wanted, v_wanted) = found[layer], wanted[layer]
                assert torch.equal(v, v_wanted)
                assert torch.equal(k, k_wanted) if keys else k is k_wanted is None
    assert backbone.spent.calls == len(questions)
    assert backbone.kept_bytes > 3 * x.nbytes
    backbone.forget()
    assert backbone.kept_bytes == 0


def test_pictures_are_encoded_once(flux, monkeypatch):
    backbone, image = Remembering(flux), torch.rand(2, 3, SIDE, SIDE)
    wanted = flux.encode(image)
    assert torch.equal(backbone.encode(image), wanted)
    monkeypatch.setattr(flux, "encode", lambda image: pytest.fail("encoded again"))
    found = backbone.encode(image.clone())
    assert torch.equal(found, wanted)
    found.zero_()
    assert torch.equal(backbone.encode(image), wanted)
    monkeypatch.setattr(flux, "encode", lambda image: image)
    assert torch.equal(backbone.encode(image[:1]), image[:1])


def test_writing_into_a_result_spoils_nothing():
    inner = Mixture()
    backbone, x, cond = Remembering(inner), some_x(), inner.embed(["a", "b"])
    wanted = inner.velocity(x, 0.5, cond)
    for _ in range(3):
        found = backbone.velocity(x, 0.5, cond)
        assert torch.equal(found, wanted)
        found.zero_()
    assert backbone.spent.calls == 1


def test_gradients_are_never_cut(flux):
    backbone = Remembering(flux)
    cond = flux.embed(["a cat", "a dog"])
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        backbone.velocity(x, 0.5, cond)
    leaf = x.clone().requires_grad_()
    for spent in (2, 3):  # kept neither before nor now
        backbone.velocity(leaf, 0.5, cond).square().sum().backward()
        assert backbone.spent.calls == spent
    assert leaf.grad.abs().max() > 0
    kept = backbone.velocity(x, 0.5, cond)  # no gradient to record: from memory, and fit for a training
    assert backbone.spent.calls == 3
    weight = torch.ones((), requires_grad=True)
    (weight * kept).square().sum().backward()
    assert weight.grad > 0
    with torch.no_grad():
        backbone.velocity(leaf, 0.5, cond)
    assert (backbone.spent.calls, backbone.asked.calls) == (3, 5)


def test_recording_weights_are_not_cut_off_either(flux):
    backbone, cond, x = Remembering(flux), flux.embed(["a cat"]), torch.ones(1, 4, 8, 8)
    with torch.no_grad():
        backbone.velocity(x, 0.5, cond)
    weight = next(flux.pipe.transformer.parameters())
    try:
        weight.requires_grad_()
        assert backbone.velocity(x, 0.5, cond).requires_grad
        assert backbone.spent.calls == 2
    finally:
        weight.requires_grad_(False)


def test_other_attention_is_another_model(flux):
    backbone, cond, x = Remembering(flux), flux.embed(["a cat"]), torch.ones(1, 4, 8, 8)
    before = dict(flux.pipe.transformer.attn_processors)
    try:
        flux.pipe.transformer.set_attn_processor(FluxAttnProcessor())
        for spent in (1, 2):
            backbone.velocity(x, 0.5, cond)
            assert (backbone.spent.calls, backbone.kept_bytes) == (spent, 0)
    finally:
        flux.pipe.transformer.set_attn_processor(dict(before))
    for _ in range(2):
        backbone.velocity(x, 0.5, cond)
    assert backbone.spent.calls == 3


def test_counts_as_the_backbone_does_and_is_the_backbone_else():
    inner = Mixture(std=2.0)
    backbone = Remembering(inner)
    x, cond = some_x(), backbone.embed(["a", "b"])
    with backbone.count() as outer:
        backbone.velocity(x, 0.5, cond)
        with backbone.count() as counter:
            backbone.velocity(x, 0.5, cond)  # kept
            inner.velocity(x, 0.5, cond)  # not by the wrapper at all
    assert (outer.calls, outer.rows, counter.calls, counter.rows) == (3, 6, 2, 4)
    assert (backbone.hash, backbone.name, backbone.std) == (inner.hash, "mixture", 2.0)
    assert torch.equal(backbone.times(5), inner.times(5))
    assert isinstance(backbone, Backbone)
    with pytest.raises(AttributeError, match="nonesuch"):
        backbone.nonesuch  # noqa: B018


@pytest.mark.parametrize("limit", [0, -5])
def test_a_memory_of_nothing_is_refused(limit):
    with pytest.raises(InputError, match=r"limit_bytes: found .* expected 1 or more"):
        Remembering(Mixture(), limit_bytes=limit)
