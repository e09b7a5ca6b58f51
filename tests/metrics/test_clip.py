"""Scores by embeddings: planted vectors with known angles, and each convention's own scale."""

import pytest
import torch

from lib.core.errors import InputError
from lib.metrics.clip import (
    clip_directional,
    clip_i,
    clip_score,
    clip_t,
    cosine,
    directional_similarity,
    hessel_clipscore,
)
from tests.metrics.test_extractors import BAD_IMAGES, Pooled, pictures


class Planted:
    """Embeds an image as (its mean red, its mean green) and a text as the angle it names, in degrees."""

    name = "planted"

    def __init__(self):
        self.told = []

    def embed_images(self, images):
        return images.mean(dim=(2, 3))[:, :2]

    def embed_texts(self, texts):
        self.told += texts
        angles = torch.tensor([float(text.split()[-1]) for text in texts]).deg2rad()
        return 7 * torch.stack([angles.cos(), angles.sin()], dim=1)


def coloured(*colours):
    return torch.tensor(colours)[:, :, None, None].expand(-1, 3, 8, 8).contiguous()


RED, GREEN = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)


def test_each_convention_on_planted_angles():
    images, texts = coloured(RED, RED, RED, GREEN), ["0", "60", "180", "90"]
    cosines = [1.0, 0.5, -1.0, 1.0]
    assert clip_t(images, texts, Planted()).tolist() == pytest.approx(cosines, abs=1e-6)
    assert clip_score(images, texts, Planted()).tolist() == pytest.approx([100 * x for x in cosines], abs=1e-4)
    encoder = Planted()
    assert hessel_clipscore(images, texts, encoder).tolist() == pytest.approx([2.5, 1.25, 0, 2.5], abs=1e-5)
    assert encoder.told[0] == "A photo depicts 0"
    assert clip_i(images, coloured(RED, GREEN, RED, RED), Planted()).tolist() == pytest.approx([1, 0, 1, 0], abs=1e-6)


def test_clip_score_is_torchmetrics_on_the_same_embeddings():
    from torchmetrics.functional.multimodal.clip_score import _clip_score_update

    encoder, texts, (image, _, _) = Pooled(), ["one", "two", "three"], pictures()

    class Model:
        config = None

        def to(self, device):
            return self

        get_image_features = staticmethod(encoder.embed_images)
        get_text_features = staticmethod(lambda ids, mask: encoder.embed_texts(texts))

    def processor(images=None, **kwargs):
        return (
            {"pixel_values": torch.stack(images)}
            if images
            else dict.fromkeys(("input_ids", "attention_mask"), torch.ones(3, 2))
        )

    wanted, _ = _clip_score_update(list(image), texts, Model(), processor)
    assert torch.allclose(clip_score(image, texts, encoder), wanted.double(), atol=1e-4)


def test_directional_is_plus_and_minus_one_on_planted_changes():
    generator = torch.Generator().manual_seed(0)
    source, target = torch.nn.functional.normalize(torch.randn(2, 3, 8, generator=generator).double(), dim=2)
    change = target - source
    lengths = torch.tensor([[0.5], [3.0], [10.0]])  # embeddings are scaled to length 1 first
    assert directional_similarity(lengths * target, source, target, lengths * source).tolist() == pytest.approx([1] * 3)
    assert directional_similarity(target, source, source, target).tolist() == pytest.approx([-1] * 3)
    # A change at a right angle to this one, between two unit vectors.
    across = torch.linalg.svd(torch.stack([source, target], dim=1), full_matrices=True).Vh[:, 2:4]
    assert (across @ change[:, :, None]).abs().max() < 1e-12
    assert directional_similarity(target, source, across[:, 0], across[:, 1]).tolist() == pytest.approx(
        [0] * 3, abs=1e-9
    )


def test_no_change_has_no_direction_and_is_never_zero():
    generator = torch.Generator().manual_seed(1)
    image, source, text, source_text = torch.randn(4, 3, 8, generator=generator)
    image[0], text[1] = 2 * source[0], source_text[1]
    found = directional_similarity(image, source, text, source_text)
    assert found.isnan().tolist() == [True, True, False]
    pictured, others, _ = pictures()
    pictured[2] = others[2]
    found = clip_directional(pictured, others, ["a", "b", "c"], ["x", "b", "y"], Pooled())
    assert found.isnan().tolist() == [False, True, True]


def test_directional_of_images_is_that_of_their_embeddings():
    encoder, (image, source, _) = Pooled(), pictures()
    after, before = ["a", "b", "c"], ["x", "y", "z"]
    parts = (image, source), (after, before)
    wanted = directional_similarity(*map(encoder.embed_images, parts[0]), *map(encoder.embed_texts, parts[1]))
    found = clip_directional(image, source, after, before, encoder)
    assert torch.equal(found, wanted)
    assert torch.allclose(clip_directional(source, image, before, after, encoder), wanted)  # both turned round
    assert torch.allclose(clip_directional(source, image, after, before, encoder), -wanted)


def test_rows_do_not_depend_on_their_batch():
    encoder, (image, _, _) = Pooled(), pictures(n=4)
    texts = ["a", "b", "c", "d"]
    whole = clip_t(image, texts, encoder)
    order = [3, 1, 0, 2]
    assert torch.allclose(clip_t(image[order], [texts[i] for i in order], encoder), whole[order], atol=1e-6)
    single = torch.cat([clip_t(image[i : i + 1], [texts[i]], encoder) for i in range(4)])
    assert torch.allclose(single, whole, atol=1e-6)


def test_cosine_has_nothing_to_say_of_nothing():
    a = torch.tensor([[0.0, 0.0], [torch.nan, 1.0], [3.0, 4.0]])
    b = torch.tensor([[1.0, 0.0], [1.0, 0.0], [4.0, 3.0]])
    assert cosine(a, b).isnan().tolist() == cosine(b, a).isnan().tolist() == [True, True, False]
    assert cosine(a, b)[2].item() == pytest.approx(24 / 25)


@pytest.mark.parametrize("spoil", [v for k, v in BAD_IMAGES.items() if k != "another size"])
def test_wrong_images_are_refused(spoil):
    image, source, _ = pictures()
    for call in (
        lambda: clip_score(spoil(image), ["a"] * 3, Pooled()),
        lambda: clip_i(image, spoil(source), Pooled()),
        lambda: clip_directional(image, spoil(source), ["a"] * 3, ["b"] * 3, Pooled()),
    ):
        with pytest.raises(InputError, match="images"):
            call()


def test_wrong_texts_and_embeddings_are_refused():
    image = pictures()[0]
    for texts in (["a", "b"], "abc", ["a", "b", None]):
        with pytest.raises(InputError, match="texts"):
            clip_t(image, texts, Pooled())
    for a, b in (
        (torch.rand(2, 3), torch.rand(2, 4)),
        (torch.rand(3), torch.rand(3)),
        (torch.ones(2, 3).int(), torch.rand(2, 3)),
    ):
        with pytest.raises(InputError, match="embeddings"):
            cosine(a, b)
    with pytest.raises(InputError, match="before and after"):
        directional_similarity(torch.rand(2, 3), torch.rand(1, 3), torch.rand(2, 3), torch.rand(2, 3))
