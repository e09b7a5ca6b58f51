"""The shipped judges as extractors, on the folders that are shipped; and judges opened by name."""

import json
from dataclasses import fields, replace

import pytest
import torch

from lib.bench.cases import collate
from lib.bench.world import world_cases
from lib.core.errors import InputError
from lib.core.paths import ROOT
from lib.learning.clip import load_clip
from lib.learning.identity import load_identity
from lib.metrics import clip_judge, judges
from lib.metrics.clip_judge import TINY_CLIP, tiny_clip
from lib.metrics.distribution import fid, kid
from lib.metrics.judges import (
    FIELDS,
    PUBLISHED,
    WORLD,
    Cropped,
    identity,
    judges_for,
    open_extractors,
)
from lib.metrics.tables import Extractors, score_batch
from tests.metrics.test_extractors import BAD_IMAGES, Pooled, pictures

needs_models = pytest.mark.skipif(
    not all((ROOT / folder).is_dir() for folder in WORLD.values()),
    reason="models/ is empty: python -m lib.stages fetch",
)


@pytest.fixture(scope="module")
def cases():
    return world_cases("test", 24)


@pytest.fixture(scope="module")
def clip():
    return tiny_clip()


@pytest.fixture(scope="module")
def encoder():
    return identity()


@needs_models
def test_tiny_clip_is_the_trained_model(clip, cases):
    images, texts = torch.stack([case.image for case in cases]), [case.source_prompt for case in cases]
    plain = load_clip(TINY_CLIP)
    assert clip.name == "tiny-clip"
    assert torch.allclose(clip.embed_images(images), plain.embed_images(images), atol=1e-6)
    assert torch.equal(clip.embed_texts(texts), plain.embed_texts(texts))
    nearest = (clip.embed_images(images) @ clip.embed_texts(texts).T).argmax(dim=1)
    assert (nearest == torch.arange(24)).double().mean() > 0.9


@needs_models
def test_tiny_clip_reads_the_worlds_words_and_passes_over_commas(clip):
    assert clip.reads("a Red cat, on a blue background")
    assert not clip.reads("A photo depicts ")
    assert torch.equal(clip.embed_texts(["red, cat"]), clip.embed_texts(["red cat"]))
    with pytest.raises(InputError, match="unknown words 'photo'"):
        clip.embed_texts(["a photo"])
    with pytest.raises(InputError, match="no word"):
        clip.embed_texts([","])


@needs_models
def test_its_vectors_serve_sets_of_images(clip, cases):
    sources, targets = (
        clip.embed_images(torch.stack([getattr(case, name) for case in cases])) for name in ("image", "target_image")
    )
    assert fid(sources, sources) == pytest.approx(0, abs=1e-6)
    halves = kid(sources[:12], sources[12:], subsets=1, subset_size=12).mean
    other = clip.embed_images(torch.rand(24, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    assert kid(sources, other, subsets=1, subset_size=24).mean > 5 * abs(halves)
    assert fid(sources, other) > 3 * fid(sources, targets) > 0


@needs_models
@pytest.mark.parametrize("name", [name for name in BAD_IMAGES if name != "another size"])
def test_pictures_outside_the_contract_are_refused_by_both(clip, encoder, name):
    image, _, mask = pictures(height=64, width=64)
    spoilt = BAD_IMAGES[name](image)
    for judge, call in (
        ("tiny-clip", lambda: clip.embed_images(spoilt)),
        ("identity-b", lambda: encoder.embed_images(spoilt)),
        ("identity-b", lambda: encoder.embed_crops(spoilt, mask)),
        ("pooled", lambda: Cropped(Pooled()).embed_crops(spoilt, mask)),
    ):
        with pytest.raises(InputError, match=f"^images for {judge}: found .*; expected") as caught:
            call()
        assert "\n" not in str(caught.value)


@needs_models
def test_identity_looks_at_the_mask(encoder, cases):
    images, masks = (torch.stack([getattr(case, name) for case in cases]) for name in ("image", "mask"))
    masks[3] = False
    plain, there = load_identity("models/identity-b"), [i for i in range(24) if i != 3]
    found = encoder.embed_crops(images, masks)
    assert found.shape == (24, 64)
    assert found[3].isnan().all()
    assert torch.allclose(found[there], plain.embed(images[there], masks[there]), atol=1e-6)
    assert torch.allclose(encoder.embed_images(images), plain.embed(images), atol=1e-6)
    outside = torch.zeros_like(images)
    small = torch.zeros_like(masks)
    small[:, :, 20:40, 20:40] = True
    outside[:, :, :10] = 1  # a change far from the mask's square
    assert torch.equal(encoder.embed_crops(outside, small), encoder.embed_crops(torch.zeros_like(images), small))
    assert encoder.embed_crops(images[:2], torch.zeros_like(masks[:2])).isnan().all()
    for wrong in (masks.float(), masks[:2], masks[..., 1:]):
        with pytest.raises(InputError, match="masks"):
            encoder.embed_crops(images, wrong)


def test_any_encoder_is_cropped_to_the_mask():
    image, _, mask = pictures()
    mask[1] = False
    plain = Pooled()
    found = Cropped(plain).embed_crops(image, mask)
    assert found[1].isnan().all() and not found[[0, 2]].isnan().any()
    assert plain.shown[0].shape == (2, 3, 224, 224)
    assert Cropped(plain).name == "pooled"
    assert torch.equal(Cropped(plain).embed_images(image), plain.embed_images(image))


@needs_models
def test_rows_of_the_table_look_through_them(clip, encoder, cases):
    changed = [case for case in cases if case.edit_type in (6, 7)][:4]
    changed[0] = replace(changed[0], mask=None)
    changed[1] = replace(changed[1], mask=torch.zeros_like(changed[1].mask))
    batch, truth = collate(changed), torch.stack([case.target_image for case in changed])
    rows = score_batch(batch, truth, "strict", Extractors(clip=clip, identity=encoder), arm="truth")
    value = {(row["case"], row["metric"].removeprefix("strict/")): row["value"] for row in rows}
    assert "clipscore_hessel" not in {metric for _, metric in value}
    first, second, third = (case.id for case in changed[:3])
    whole = torch.cosine_similarity(encoder.embed_images(truth[:1]), encoder.embed_images(batch.image[:1])).item()
    assert value[first, "identity_source"] == pytest.approx(whole, abs=1e-5)
    assert value[second, "identity_source"] != value[second, "identity_source"]  # NaN: nothing to look at
    crops = [encoder.embed_crops(x[2:3], changed[2].mask[None]) for x in (truth, batch.image)]
    assert value[third, "identity_source"] == pytest.approx(torch.cosine_similarity(*crops).item(), abs=1e-5)
    full = score_batch(batch, truth, "strict", Extractors(clip=Pooled()), arm="truth")
    assert "strict/clipscore_hessel" in {row["metric"] for row in full}  # who says nothing reads everything


@needs_models
def test_the_worlds_judges_open_by_name():
    opened = open_extractors(WORLD)
    assert (opened.clip.name, opened.identity.name) == ("tiny-clip", "identity-b")
    assert opened.keys is opened.perceptual is None
    assert open_extractors({"identity": "models/identity-a"}).identity.name == "identity-a"
    assert open_extractors({}) == Extractors()


def test_names_lead_to_the_published_networks(monkeypatch, tmp_path):
    asked = []
    for name in ("hub_clip", "dino_keys", "LPIPSNet", "hub_vit", "open_clip_encoder"):

        def opening(*arguments, name=name, **options):
            asked.append((name, arguments[0]))
            return Pooled()

        monkeypatch.setattr(clip_judge if hasattr(clip_judge, name) else judges, name, opening)
    open_extractors(PUBLISHED)
    assert asked == [
        ("hub_clip", "openai/clip-vit-large-patch14"),
        ("dino_keys", "facebook/dino-vitb8"),
        ("LPIPSNet", "squeeze"),
        ("hub_vit", "facebook/dinov2-base"),
    ]
    asked.clear()
    open_extractors({"clip": "ViT-L-14-quickgelu:openai"})
    for config in ({"model_cfg": {"text_cfg": {"hf_tokenizer_name": "roberta"}}}, {"model_cfg": []}, []):
        (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
        open_extractors({"clip": str(tmp_path)})
    assert asked == [("open_clip_encoder", "ViT-L-14-quickgelu"), *[("open_clip_encoder", str(tmp_path))] * 3]
    asked.clear()
    (tmp_path / "open_clip_config.json").unlink()
    open_extractors({"clip": str(tmp_path), "identity": str(tmp_path)})  # as transformers lays them out
    assert asked == [("hub_clip", str(tmp_path)), ("hub_vit", str(tmp_path))]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ({"clip": "models/none"}, "clip judge 'models/none', folder models/none: found no such folder; expected"),
        ({"clip": "lib/none"}, "clip judge 'lib/none', folder lib/none: found no such folder"),
        ({"dino": "/none"}, "dino judge '/none', folder /none: found no such folder"),
        ({"identity": "a b"}, "identity judge 'a b', folder a b: found no such folder"),
        ({"lpips": "vgg19"}, "lpips judge 'vgg19', LPIPS net: found 'vgg19'"),
        ({"clip": ""}, "clip judge '', "),
        ({"taste": "x"}, "judge: found taste; expected one of clip, dino, lpips, identity"),
    ],
)
def test_a_judge_that_is_not_there_is_one_line(names, words):
    with pytest.raises(InputError) as caught:
        open_extractors(names)
    assert str(caught.value).startswith(words)
    assert "\n" not in str(caught.value)


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "open_clip_config.json").write_text(
        '{"model_cfg": {"text_cfg": {"hf_tokenizer_name": "tokenizer.json"}}}'
    )
    with pytest.raises(
        InputError, match=f"clip judge .*tiny-clip {tmp_path.name}: found no open_clip_model.safetensors"
    ):
        open_extractors({"clip": str(tmp_path)})
    (tmp_path / "config.json").write_text('{"identity_encoder": "plain"}')
    with pytest.raises(InputError, match=f"identity judge .*encoder {tmp_path.name}: found no model.safetensors"):
        open_extractors({"identity": str(tmp_path)})


def test_namespaces_name_the_judges_that_they_need():
    assert judges_for(["pie_official"]) == {"clip", "dino", "lpips"}
    assert judges_for(["strict", "pie_official"]) == set(FIELDS) == {"clip", "dino", "lpips", "identity"}
    assert {field.name for field in fields(Extractors)} == set(FIELDS.values())
