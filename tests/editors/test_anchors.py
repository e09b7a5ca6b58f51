"""Anchors: each is exactly what its name says."""

from dataclasses import replace

import pytest
import torch

from lib.core.errors import InputError
from lib.core.images import quantise
from lib.editors.anchors import ANCHORS, run_anchor
from tests.editors.analytic import Mixture, some_cases


class Lossy(Mixture):
    """An autoencoder that halves the contrast."""

    def decode(self, latents):
        return super().decode(latents / 2)


def pictures(name, backbone, cases, **options):
    return torch.stack([edited.image for edited in run_anchor(name, backbone, cases, **options)])


def test_copy_round_trip_and_truth():
    cases = some_cases(3)
    source = torch.stack([case.image for case in cases])
    assert torch.equal(pictures("source-copy", Lossy(), cases), quantise(source))
    torch.testing.assert_close(pictures("vae-round-trip", Lossy(), cases), source / 2 + 0.25, rtol=0, atol=0.51 / 255)
    truth = torch.stack([case.target_image for case in cases])
    assert torch.equal(pictures("ground-truth", Lossy(), cases), quantise(truth))


def test_text_to_image_ignores_the_source_and_the_paste_keeps_it_outside_the_mask():
    cases = some_cases(3)
    source = torch.stack([case.image for case in cases])
    mask = torch.stack([case.mask for case in cases]).expand_as(source)
    options = {"settings": {"steps": 4}, "seed": 2}
    made = pictures("text-to-image", Mixture(), cases, **options)
    others = [replace(case, image=case.image.flip(1)) for case in cases]
    assert torch.equal(pictures("text-to-image", Mixture(), others, **options), made)
    pasted = pictures("pixel-paste", Mixture(), cases, **options)
    assert torch.equal(pasted[mask], made[mask])
    assert torch.equal(pasted[~mask], quantise(source)[~mask])
    assert not torch.equal(made[mask], quantise(source)[mask])


def test_anchors_count_and_sign_like_editors():
    (copy,) = run_anchor("source-copy", Mixture(), some_cases(1))
    (made,) = run_anchor("text-to-image", Mixture(guidance_mode="classifier-free"), some_cases(1), {"steps": 4})
    assert (copy.nfe, made.nfe) == (0, 8)
    assert (copy.recipe["editor"], made.recipe["editor"]) == ("source-copy", "text-to-image")


@pytest.mark.parametrize(("name", "lacks"), [("pixel-paste", "mask"), ("ground-truth", "target image")])
def test_what_an_anchor_needs_is_asked_for(name, lacks):
    with pytest.raises(InputError, match=f"{lacks} of case 'case-000'"):
        run_anchor(name, Mixture(), some_cases(1, masks=False, targets=False))


@pytest.mark.parametrize("name", ANCHORS)
def test_the_seed_matters_where_the_table_says_so(name):
    settings = {"steps": 2} if ANCHORS[name].stochastic else None
    one, two = (pictures(name, Mixture(), some_cases(1), settings=settings, seed=seed) for seed in (0, 1))
    assert torch.equal(one, two) is not ANCHORS[name].stochastic
