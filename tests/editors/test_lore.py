"""LORE: the release's numbers, its parts by hand, its price, what it may not move, and which words it raises."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch

from lib.backbones import attention
from lib.backbones.attention import TextMaps, attention_layers, hooked, latent_mask, resolve_layers, token_mask
from lib.bench.cases import collate
from lib.core.errors import InputError
from lib.core.noise import Noise
from lib.editors.lore import (
    LORE,
    RECIPES,
    attention_loss,
    gaussian,
    lore,
    lore_nfe,
    object_spans,
    optimised,
    real_tokens,
    renoised,
    token_positions,
    word_weights,
)
from lib.editors.registry import Editor
from lib.editors.rf_solver import RFSolverEdit, rf_solver_edit
from lib.editors.run import run_row
from tests.editors.analytic import Mixture, some_cases
from tests.editors.deep import LAYERS, deepen, masked_cases
from tests.parity.lore_release import lore_release
from tests.tiny import t5_tokenizer

NEEDS = {"needs_mask": True, "needs_source_prompt": True, "needs_gradients": True}
ROW = Editor("lore", "2508.03144", lore, LORE, lore_nfe, True, **NEEDS)
SMALL = LORE(steps=3, inject=2, iterations=2)


@pytest.fixture(scope="module")
def deep(flux):
    return deepen(flux)


def run(backbone, cases, settings, seed=0):
    batch = collate(cases)
    return lore(backbone, batch, settings, noise=Noise(batch.ids, seed)).latents


# Against the release


@pytest.mark.parametrize("more", [{}, {"renoise": 0.1, "inject": 1, "steps": 2}])
def test_gives_what_the_release_gives(deep, more):
    settings = replace(SMALL, **more)
    layers = resolve_layers(deep, 8 / 57, 44 / 57)
    assert layers == (1, 2, 3)
    (case,) = masked_cases(1)
    found = run(deep, [case], settings)
    eps = Noise([case.id], 0).draw(0, found)
    names = {"S": settings.steps, "K": settings.inject, "s": settings.renoise, "E": settings.iterations}
    names |= {"lr": 0.01, "g_inv": 1.0, "g_edit": 2.0}
    tokens = token_positions(t5_tokenizer(), case.target_prompt, [(2, 5)])
    wanted = lore_release(deep, case, names, eps, tokens, layers, (2,) if LAYERS == 5 else ())
    other = run(deep, [case], replace(settings, iterations=settings.iterations - 1))
    assert (other - wanted).abs().max() > 1e-3
    torch.testing.assert_close(found, wanted, rtol=0, atol=5e-5)


def test_the_recipes_are_the_released_ones():
    found = {
        name: (s.steps, s.inject, s.renoise, s.iterations, s.learning_rate, s.source_guidance, s.target_guidance)
        for name, s in RECIPES.items()
    }
    assert found == {
        "add": (15, 12, 0.9, 10, 0.01, 1.0, 2.0),
        "replace": (30, 24, 0.1, 5, 0.01, 1.0, 2.0),
        "remove": (10, 8, 0.0, 2, 0.01, 1.0, 2.0),
    }
    assert len(set(RECIPES.values())) == 3


def test_without_its_own_parts_it_is_rf_solver_edit(deep):
    """No noise, no optimisation: the superset's member, bit for bit."""
    batch = collate(masked_cases(2))
    with torch.no_grad():
        theirs = RFSolverEdit(steps=3, inject=2)
        wanted = rf_solver_edit(deep, batch, theirs, noise=Noise(batch.ids, 0)).latents
    found = run(deep, batch.cases, replace(SMALL, values="all", renoise=0.0, iterations=0))
    assert torch.equal(found, wanted)


# Its parts


def test_renoising_by_hand():
    z, eps = torch.randn(2, 1, 1, 400, 400, generator=torch.Generator().manual_seed(0))
    m = torch.tensor([0.0, 0.25, 1.0, 1.0]).repeat_interleave(100)[None, None, None]
    for s, spread in ((0.9, 0.906), (0.1, 0.906), (0.5, 0.707)):
        found = renoised(z, eps, m, s)
        assert torch.equal(found[..., :100], z[..., :100])
        torch.testing.assert_close(found[..., 200:], (1 - s) * z[..., 200:] + s * eps[..., 200:])
        half = 0.75 * z + 0.25 * ((1 - s) * z + s * eps)
        torch.testing.assert_close(found[..., 100:200], half[..., 100:200])
        assert found[..., 200:].std().item() == pytest.approx(spread, abs=0.01)
        assert renoised(z, eps, m, s, True)[..., 200:].std().item() == pytest.approx(1, abs=0.01)
    assert torch.equal(renoised(z, eps, m, 0.0), (1 - m) * z + m * z)


def test_the_kernel_is_the_release_s():
    kernel = gaussian()
    assert kernel.sum().item() == pytest.approx(1)
    assert [round(x, 3) for x in kernel.flatten().tolist()] == [
        0.011,
        0.084,
        0.011,
        0.084,
        0.619,
        0.084,
        0.011,
        0.084,
        0.011,
    ]


def test_the_loss_takes_the_greatest_attention_inside_the_mask_of_each_image(monkeypatch):
    """Maps given by hand: a peak outside the mask counts for nothing, and each image has its own maximum."""
    peaks = torch.zeros(2, 25)
    peaks[0, 12], peaks[0, 0], peaks[1, 6] = 0.8, 1.0, 0.4
    maps = TextMaps(torch.ones(2, 1))

    class Given:
        patch = 1

        def velocity(self, z, t, cond):
            maps._open.update({0: peaks, 3: t * peaks})  # the evaluations are at 1 and .75
            return torch.zeros_like(z)

    monkeypatch.setattr("lib.editors.lore.ending_after", lambda backbone, layer: nullcontext())
    inside = torch.zeros(2, 1, 5, 5)
    inside[:, :, 1:4, 1:4] = 1
    times = torch.tensor([1.0, 0.5, 0.0])
    loss = attention_loss(Given(), torch.zeros(2, 4, 5, 5), times, None, maps, inside, 3)
    centre = gaussian()[1, 1].item()
    layers = (1 + 0.875) / 2  # the mean of two layers, the second of two evaluations
    assert loss.tolist() == pytest.approx([1 - centre * 0.8 * layers, 1 - centre * 0.4 * layers])


def test_optimising_raises_attention_and_moves_nothing_outside_the_mask(deep):
    batch = collate(masked_cases(2))
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    times = deep.times(3, like=x)
    target = deep.embed(batch.target_prompt, 2.0)
    words = torch.stack([word_weights(deep, case, SMALL) for case in batch.cases])
    layers = resolve_layers(deep, SMALL.loss_from, SMALL.loss_to)

    def loss(z):
        maps = TextMaps(words)
        with torch.no_grad(), hooked(deep, layers, maps.hook):
            return attention_loss(deep, z, times, target, maps, inside, max(layers))

    for soft in (True, False):
        inside = latent_mask(deep, token_mask(deep, batch.mask, x, soft=soft), x)
        settings = replace(SMALL, iterations=3)
        z = optimised(deep, x, times, target, TextMaps(words), inside, settings)
        gate = (inside > 0).expand_as(x)
        assert torch.equal(z[~gate], x[~gate])
        assert 0.01 < (z - x)[gate].abs().max() < 3 * 0.01 * 1.5
        assert not z.requires_grad
        assert (loss(z) < loss(x)).all()
    still = optimised(deep, x, times, target, TextMaps(words), inside, replace(SMALL, iterations=0))
    assert torch.equal(still, x)


def test_a_batch_of_three_is_three_singles(deep):
    cases = masked_cases(3)
    settings = replace(SMALL, steps=1, inject=1)
    together = run(deep, cases, settings)
    for i, case in enumerate(cases):
        torch.testing.assert_close(run(deep, [case], settings)[0], together[i], rtol=0, atol=1e-4)
    assert (together[0] - together[1]).abs().max() > 1e-2


SHORT = LORE(steps=2, inject=1, iterations=1)


@pytest.fixture(scope="module")
def plain(deep):
    return run(deep, masked_cases(1), SHORT)


@pytest.mark.parametrize(
    "more",
    [
        {"late_values": False},
        {"soft_mask": False},
        {"padding": False},
        {"preserve_variance": True},
        {"renoise": 0.0},
        {"iterations": 0},
        {"values": "none"},
        {"values": "image"},
        {"loss_from": 0.0},
        {"value_from": 0.0},
    ],
)
def test_each_switch_is_another_edit(deep, plain, more):
    assert (run(deep, masked_cases(1), replace(SHORT, **more)) - plain).abs().max() > 1e-5


@pytest.mark.parametrize(
    ("more", "wanted"),
    [({}, 6 + 4 + 6), ({"late_values": False}, 17), ({"iterations": 0}, 12), ({"inject": 0, "late_values": False}, 16)],
)
def test_counted_evaluations_are_2s_2e_2s(deep, more, wanted):
    (found,) = run_row(ROW, deep, masked_cases(1), {"steps": 3, "inject": 2, "iterations": 2, **more})
    assert found.nfe == wanted


def test_the_edit_is_the_same_where_blocks_are_computed_again(deep, plain, monkeypatch):
    monkeypatch.setattr(attention, "KEPT_BYTES", 0)
    assert (run(deep, masked_cases(1), SHORT) - plain).abs().max() < 1e-6


def test_leaves_the_model_as_it_was_and_needs_no_gradient_of_its_weights(deep):
    before = [attention.processor for attention in attention_layers(deep)]
    result = lore(deep, collate(masked_cases(1)), SMALL, noise=Noise(["case-000"], 0))
    assert not result.latents.requires_grad
    assert not result.image.requires_grad
    assert all(a.processor is b for a, b in zip(attention_layers(deep), before, strict=True))
    assert not deep.pipe.transformer.is_gradient_checkpointing
    assert all(weight.grad is None for weight in deep.pipe.transformer.parameters())


# The words


def spelled(prompt, positions):
    tokenizer = t5_tokenizer()
    pieces = tokenizer.convert_ids_to_tokens(tokenizer(prompt).input_ids)
    return "".join(pieces[i] for i in positions).replace("▁", " ").strip()


@pytest.mark.parametrize(
    ("prompt", "phrase", "wanted"),
    [
        ("a red apple", "apple", "apple"),  # the lone "a" before it is not its beginning
        ("a red race car, at night", "race car", "racecar"),  # without the blank
        ("a red race car, at night", "Race Car", "racecar"),
        ("the catalog on a cat.", "cat", "cat"),  # a whole word
        ("necklace", "necklace", "necklace"),
        ("a t-shirt", "t-shirt", "t-shirt"),
    ],
)
def test_the_object_s_tokens_are_those_that_spell_it(prompt, phrase, wanted):
    (case,) = some_cases(1)
    case = replace(case, target_prompt=prompt, extras={"target_object": phrase})
    found = token_positions(t5_tokenizer(), prompt, object_spans(case))
    assert spelled(prompt, found) == wanted
    tokenizer = t5_tokenizer()
    if prompt == "the catalog on a cat.":
        (position,) = found
        assert tokenizer.convert_ids_to_tokens(tokenizer(prompt).input_ids)[position] == "▁cat"


def test_which_words_are_the_object():
    (case,) = some_cases(1)
    case = replace(case, source_prompt="A cat on the dog", target_prompt="a red cat on the blue hat")

    def words(case, named=""):
        return [case.target_prompt[begin:end] for begin, end in object_spans(case, named)]

    assert words(case) == ["red", "blue", "hat"]  # those that the source prompt lacks
    assert words(case, "blue hat") == ["blue hat"]
    assert words(replace(case, extras={"target_object": "cat"}), "blue hat") == ["cat"]
    assert words(replace(case, source_prompt="")) == ["a", "red", "cat", "on", "the", "blue", "hat"]


def test_weights_are_one_over_the_object_s_tokens_and_padding_can_be_told(deep):
    (case,) = masked_cases(1)
    case = replace(case, target_prompt="a cat on the red dog", extras={"target_object": "red dog"})
    weights = word_weights(deep, case, LORE())
    assert weights.nonzero().flatten().tolist() == [4, 5]
    assert weights.sum().item() == 1
    assert real_tokens(deep, case.target_prompt).sum().item() == 7  # six words and the end


# What is refused


def test_bad_input_is_refused(deep, flux):
    (case,) = masked_cases(1)
    for settings, words in (
        ({"steps": 3, "inject": 4}, "'inject' of LORE: found 4; expected 0 to 3"),
        ({"renoise": 1.5}, "'renoise' of LORE"),
        ({"iterations": -1}, "'iterations' of LORE"),
        ({"values": "half"}, "'values' of LORE"),
        ({"loss_from": 0.9}, "'loss_from' of LORE"),
    ):
        with pytest.raises(InputError, match=words):
            LORE(**settings)
    full, empty = torch.ones_like(case.mask), torch.zeros_like(case.mask)
    cases = (
        (replace(case, mask=None), "mask of case 'case-000': found none"),
        (replace(case, mask=full), "mask: found every pixel in it"),
        (replace(case, mask=empty), "mask: found no pixel in it"),
        (replace(case, mask=case.mask[:, :16]), "a mask of"),
        (replace(case, source_prompt=None), "source prompt of case 'case-000': found none"),
        (replace(case, extras={"target_object": "hat"}), "target object of case 'case-000': found 'hat'"),
        (replace(case, source_prompt="red a cat"), "target object of case 'case-000': found none"),
    )
    for bad, words in cases:
        with pytest.raises(InputError, match=words):
            run_row(ROW, deep, [bad])
    with pytest.raises(InputError, match="no guidance embedding in use"):
        run_row(ROW, deepen(flux, guidance_embeds=False), [case])
    with pytest.raises(InputError, match="attention of mixture"):
        run_row(ROW, Mixture(), some_cases(1))
