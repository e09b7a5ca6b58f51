"""The identity encoders: crops, embeddings, folders, and verification on planted embeddings."""

import json
import shutil
from math import isnan

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lib.core.errors import InputError
from lib.learning.identity import (
    ARCHITECTURES,
    IdentityEncoder,
    Pairs,
    best_threshold,
    crop_to_mask,
    error_correlation,
    load_identity,
    save_identity,
    similarities,
    verification_accuracy,
)


class Planted(IdentityEncoder):
    """Pictures carry their embedding's angle in their first pixel; the threshold is given."""

    def __init__(self, threshold: float) -> None:
        super().__init__("plain")
        self.threshold = threshold

    def embed(self, images: Tensor, masks: Tensor | None = None) -> Tensor:
        angle = images[:, 0, 0, 0]
        return torch.stack([angle.cos(), angle.sin()], 1)


def planted_pairs(angles: list[float], same: list[bool]) -> Pairs:
    first = torch.zeros(len(angles), 3, 64, 64)
    return Pairs(first, first + torch.tensor(angles)[:, None, None, None], torch.tensor(same))


@pytest.fixture(scope="module", params=sorted(ARCHITECTURES))
def encoder(request) -> IdentityEncoder:
    """Untrained, its weights rounded to half precision as a saved folder's are; in evaluation mode."""
    torch.manual_seed(0)
    encoder = IdentityEncoder(request.param).half().float().eval().requires_grad_(False)
    encoder.threshold = 0.25
    return encoder


def test_a_crop_is_the_square_around_the_mask():
    image = torch.rand(1, 3, 64, 64)
    mask = torch.zeros(1, 1, 64, 64, dtype=torch.bool)
    mask[..., 20:36, 8:40] = True  # 16 rows, 32 columns: a square of 32 around (28, 24)
    square = image[..., 12:44, 8:40]
    assert torch.equal(crop_to_mask(image, mask, margin=0, side=32), square)
    expected = F.interpolate(square, (64, 64), mode="bilinear", antialias=True)
    assert torch.equal(crop_to_mask(image, mask, margin=0), expected)
    wider = F.interpolate(image[..., 4:52, 0:48], (64, 64), mode="bilinear", antialias=True)
    assert torch.equal(crop_to_mask(image, mask, margin=0.25), wider)  # 48 wide


def test_a_crop_stays_in_the_frame():
    image = torch.rand(2, 3, 64, 80)
    mask = torch.zeros(2, 1, 64, 80, dtype=torch.bool)
    mask[0, :, 60:, 70:] = True
    mask[1] = True
    crops = crop_to_mask(image, mask, margin=0.2, side=14)
    assert torch.equal(crops[0], image[0, :, 50:, 66:])
    middle = F.interpolate(image[1:, :, :, 8:72], (14, 14), mode="bilinear", antialias=True)
    assert torch.equal(crops[1:], middle)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.zeros(1, 1, 64, 64, dtype=torch.bool), "found no pixel"),
        (torch.ones(1, 1, 64, 64), r"found torch\.float32"),
        (torch.ones(1, 1, 32, 64, dtype=torch.bool), r"found torch\.bool \[1, 1, 32, 64\]"),
        (torch.ones(2, 1, 64, 64, dtype=torch.bool), r"expected bool \[1, 1, 64, 64\]"),
    ],
)
def test_a_mask_that_marks_nothing_is_refused(mask, message):
    with pytest.raises(InputError, match=message):
        IdentityEncoder("plain").embed(torch.rand(1, 3, 64, 64), mask)


def test_embeddings_are_unit_vectors_and_rows_do_not_mix(encoder):
    images = torch.rand(4, 3, 64, 64)
    together = encoder.embed(images)
    assert together.shape == (4, 64)
    torch.testing.assert_close(together.norm(dim=1), torch.ones(4))
    torch.testing.assert_close(together, torch.cat([encoder.embed(x) for x in images.split(1)]), atol=1e-5, rtol=0)
    assert (together[0] - together[1]).abs().max() > 1e-3


def test_a_mask_selects_what_is_embedded(encoder):
    images = torch.rand(2, 3, 64, 64)
    mask = torch.zeros(2, 1, 64, 64, dtype=torch.bool)
    mask[..., 10:30, 10:30] = True
    found = encoder.embed(images, mask)
    assert torch.equal(found, encoder.embed(crop_to_mask(images, mask)))
    images[..., 40:, :] = 0  # outside the crop
    assert torch.equal(found, encoder.embed(images, mask))


def test_gradients_reach_the_picture_inside_the_crop_only(encoder):
    x = torch.rand(1, 3, 64, 64, requires_grad=True)
    mask = torch.zeros(1, 1, 64, 64, dtype=torch.bool)
    mask[..., 20:40, 20:40] = True  # with its margin 18 to 42
    encoder.embed(x, mask)[0, 0].backward()
    assert x.grad[..., 18:42, 18:42].abs().max() > 0
    x.grad[..., 18:42, 18:42] = 0
    assert x.grad.abs().max() == 0


def test_larger_pictures_are_resized_and_others_refused(encoder):
    images = torch.rand(1, 3, 128, 96)
    smaller = F.interpolate(images, (64, 64), mode="bilinear", antialias=True)
    assert torch.equal(encoder.embed(images), encoder.embed(smaller))
    for shape in ((3, 64, 64), (1, 4, 64, 64)):
        with pytest.raises(InputError, match="picture for the identity encoder: found"):
            encoder.embed(torch.rand(shape))


def test_a_saved_encoder_is_the_same(encoder, tmp_path):
    save_identity(encoder, tmp_path / "id")
    loaded = load_identity(tmp_path / "id")
    images = torch.rand(3, 3, 64, 64)
    assert torch.equal(loaded.embed(images), encoder.embed(images))
    assert (loaded.architecture, loaded.threshold) == (encoder.architecture, 0.25)
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", "{"),
        ("config.json", json.dumps({"width": 32})),
        ("config.json", json.dumps({"identity_encoder": "residual", "threshold": 0.5})),  # the weights are the other's
        ("config.json", json.dumps({"identity_encoder": "odd", "threshold": 0.5})),
        ("model.safetensors", "no weights"),
        ("model.safetensors", None),
    ],
)
def test_bad_folders_are_refused(tmp_path, name, content):
    folder = tmp_path / "spoilt"
    save_identity(IdentityEncoder("plain"), folder)
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(content)
    with pytest.raises(InputError, match=r"^identity encoder spoilt: found .*; expected a folder made by"):
        load_identity(folder)
    shutil.rmtree(folder)
    with pytest.raises(InputError, match=r"found no config\.json"):
        load_identity(folder)


def test_similarity_is_the_cosine():
    angles = [0.0, 0.5, 1.0, 3.0, 2.0]
    found = similarities(Planted(0.5), planted_pairs(angles, [True] * 5), batch=2)
    torch.testing.assert_close(found, torch.tensor(angles).cos())


def test_accuracy_weighs_both_kinds_alike():
    similarity = torch.tensor([0.9, 0.8, 0.2, 0.7, 0.1])
    same = torch.tensor([True, True, True, False, False])
    assert verification_accuracy(similarity, same, 0.5) == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert verification_accuracy(similarity, same, 0.8) == pytest.approx((2 / 3 + 1) / 2)  # 0.8 itself counts as same
    assert verification_accuracy(similarity, same, -1.0) == 0.5
    for only in (torch.ones(5, dtype=torch.bool), torch.zeros(5, dtype=torch.bool)):
        with pytest.raises(InputError, match="expected both kinds"):
            verification_accuracy(similarity, only, 0.5)


def test_the_best_threshold_is_no_worse_than_any_other():
    draw = torch.Generator().manual_seed(0)
    same = torch.rand(60, generator=draw) < 0.4
    similarity = torch.rand(60, generator=draw) * 0.8 + 0.2 * same
    threshold = best_threshold(similarity, same)
    best = verification_accuracy(similarity, same, threshold)
    assert best >= max(verification_accuracy(similarity, same, k / 500) for k in range(500))
    assert best_threshold(torch.tensor([0.2, 0.6, 0.4]), torch.tensor([False, True, False])) == pytest.approx(0.5)
    assert best_threshold(torch.tensor([0.5, 0.5]), torch.tensor([False, True])) == 0.5


def test_correlation_of_errors():
    """Right and wrong planted by angle: same pairs at 0 are right, at 2 wrong. Cosine of 1: 0.54, of 2: -0.42."""
    pairs = planted_pairs([0.0, 1.0, 2.0, 2.0, 0.0, 1.0], [True, True, True, False, False, False])
    lenient, strict = Planted(0.0), Planted(0.9)
    wrong = torch.tensor([[0, 0, 1, 0, 1, 1], [0, 1, 1, 0, 1, 0]], dtype=torch.float64)
    assert error_correlation(lenient, strict, pairs) == pytest.approx(torch.corrcoef(wrong)[0, 1].item())
    assert error_correlation(strict, lenient, pairs) == pytest.approx(error_correlation(lenient, strict, pairs))
    assert error_correlation(lenient, lenient, pairs) == pytest.approx(1)
    assert isnan(error_correlation(lenient, lenient, planted_pairs([0.0, 2.0], [True, False])))
