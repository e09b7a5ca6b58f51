"""tiny-clip: its words, its loss against a plain reference, its folder, and a training of a few steps."""

import json
from math import inf

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lib.core.errors import InputError, PalimpsestError
from lib.learning import clip as module
from lib.learning.clip import (
    CONFIG,
    WEIGHTS,
    ClipTraining,
    TinyClip,
    configuration,
    contrastive_loss,
    held_out,
    judge,
    load_clip,
    save_clip,
    stage,
    train,
    training_batch,
    variant,
    word_tokenizer,
)
from lib.learning.parser import degrade, to_unit
from lib.world.language import MAX_WORDS, caption, vocabulary
from lib.world.render import render_all
from lib.world.scenes import Scene, Thing, sample_scenes, scene_split

FEW = ClipTraining(steps=3, batch=8, ship_retrieval=0.0)


def small() -> dict[str, object]:
    """The configuration with thinner towers."""
    config = configuration()
    config["vision_cfg"] |= {"width": 8, "head_width": 32}
    config["text_cfg"] |= {"width": 32, "layers": 1}
    return config


@pytest.fixture(autouse=True)
def smaller(monkeypatch):
    monkeypatch.setattr(module, "configuration", small)


@pytest.fixture(scope="module")
def untrained() -> TinyClip:
    """Untrained, its weights rounded to half precision as a saved folder's are; in evaluation mode."""
    torch.manual_seed(0)
    return TinyClip(small(), word_tokenizer()).half().float().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def folder(untrained, tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "tiny-clip"
    save_clip(untrained, path)
    return path


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    return to_unit(render_all(sample_scenes("train", 5)))


def longest() -> Scene:
    man = Thing("man", size="small", place="left", skin="light-skinned", hair="red-haired")
    woman = Thing("woman", size="small", place="right", skin="dark-skinned", hair="curly-haired")
    return Scene((man, woman), "red", "checkered", "scanline")


def test_captions_survive_the_tokenizer_whole(untrained):
    scenes = [*sample_scenes("train", 100), *sample_scenes("test", 50, objects=2), longest()]
    captions = [caption(scene) for scene in scenes]
    assert max(len(text.split()) for text in captions) == MAX_WORDS
    for text, ids in zip(captions, untrained.tokens(captions), strict=True):
        words = [untrained.tokenizer.id_to_token(number) for number in ids.tolist()]
        filled = words[: words.index("<end>") + 1]
        assert filled == ["<start>", *text.split(), "<end>"]
        assert set(words[len(filled) :]) <= {"<pad>"}
        assert ids.argmax() == len(filled) - 1  # where CLIP pools


def test_the_untrained_model_has_a_few_million_parameters():
    clip = TinyClip(configuration(), word_tokenizer())
    assert 1e6 < sum(p.numel() for p in clip.parameters()) < 5e6
    assert clip.embed_images(torch.rand(2, 3, 64, 64)).shape == clip.embed_texts(["a cat", "a dog"]).shape == (2, 128)


def test_every_word_of_the_world_is_one_token_and_capitals_do_not_matter(untrained):
    ids = untrained.tokens(vocabulary())
    assert (ids != 0).sum(1).tolist() == [3] * len(vocabulary())
    assert len(set(ids[:, 1].tolist())) == len(vocabulary())
    assert torch.equal(untrained.tokens(["A Red CAT"]), untrained.tokens(["a red cat"]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a zebra on a red carpet", r"unknown words 'zebra', 'carpet'; expected words of the world$"),
        ("a cat.", "unknown words 'cat.'"),
        ("  ", "found no word"),
        ("a " * (MAX_WORDS + 1), "found 24 words; expected at most 23"),
    ],
)
def test_what_it_cannot_read_is_refused(untrained, text, message):
    with pytest.raises(InputError, match=message):
        untrained.embed_texts(["a cat", text])


def test_embeddings_are_unit_vectors_and_rows_do_not_mix(untrained, pictures):
    texts = [caption(scene) for scene in sample_scenes("train", 5)]
    for embed, batch in ((untrained.embed_images, pictures), (untrained.embed_texts, texts)):
        together = embed(batch)
        assert together.shape == (5, 128)
        torch.testing.assert_close(together.norm(dim=1), torch.ones(5))
        alone = torch.cat([embed(batch[row : row + 1]) for row in range(5)])
        torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    assert (together[0] - together[1]).abs().max() > 1e-3


def test_pictures_of_any_size_are_resized(untrained, pictures):
    larger = pictures.repeat_interleave(2, 2).repeat_interleave(4, 3)
    back = F.interpolate(larger, (64, 64), mode="bilinear", antialias=True)
    assert torch.equal(untrained.embed_images(larger), untrained.embed_images(back))
    for shape in ((3, 64, 64), (1, 1, 64, 64)):
        with pytest.raises(InputError, match="picture for tiny-clip: found"):
            untrained.embed_images(torch.rand(shape))


def test_gradients_reach_the_picture(untrained, pictures):
    x = pictures[:1].clone().requires_grad_()
    (untrained.embed_images(x) @ untrained.embed_texts(["a cat"]).T).sum().backward()
    assert x.grad.abs().max() > 0


def reference_loss(images: Tensor, texts: Tensor, scale: float, captions: list[str]) -> float:
    """Both directions, row by row; equal captions of other rows are skipped."""
    losses = []
    for one, other in ((images, texts), (texts, images)):
        for i in range(len(one)):
            kept = [j for j in range(len(one)) if j == i or captions[j] != captions[i]]
            logits = torch.stack([scale * one[i] @ other[j] for j in kept])
            losses.append(logits.logsumexp(0) - logits[kept.index(i)])
    return torch.stack(losses).mean().item()


def test_the_loss_is_the_plain_one_and_skips_equal_captions():
    draw = torch.Generator().manual_seed(0)
    images, texts = (F.normalize(torch.randn(5, 7, generator=draw), dim=1) for _ in range(2))
    for captions in (list("abcde"), list("abcab")):
        loss = contrastive_loss(images, texts, torch.tensor(9.0), captions)
        assert loss.item() == pytest.approx(reference_loss(images, texts, 9.0, captions), abs=1e-6)
    assert contrastive_loss(images, texts, torch.tensor(9.0), ["a"] * 5) == 0


def test_batches_are_the_train_splits_and_their_pairs_are_close():
    scenes, captions = training_batch(ClipTraining(batch=48), 3)
    assert len(scenes) == len(captions) == 48
    assert {scene_split(scene) for scene in scenes} == {"train"}
    assert sum(len(scene.things) == 2 for scene in scenes) == 16
    assert len(set(map(caption, scenes))) > 40
    render_all(scenes)  # all of them exist
    for one, other in zip(scenes[::2], scenes[1::2], strict=True):
        assert caption(one) != caption(other)
        different = [k for k, v in one.attributes().items() if other.attributes().get(k) != v]
        assert len(different) == 1 or one.things != other.things
    assert training_batch(ClipTraining(batch=48), 3)[1] == captions
    assert training_batch(ClipTraining(batch=48), 4)[1] != captions


def test_variants_stay_in_their_split():
    from random import Random

    rng = Random(0)
    scenes = held_out(30)
    assert {scene_split(variant(scene, rng)) for scene in scenes} == {"test"}
    assert len({caption(scene) for scene in scenes}) == 30
    assert sum(len(scene.things) == 2 for scene in scenes) == 10


def test_retrieval_is_counted_right(monkeypatch):
    """Planted embeddings: three of four pictures lie nearest to their own caption, all captions to their picture."""
    scenes = list(sample_scenes("test", 4))

    class Planted:
        def embed_images(self, images: Tensor) -> Tensor:
            near = torch.eye(4)
            near[3] = torch.tensor([0.8, 0.0, 0.0, 0.6])
            return near

        def embed_texts(self, texts: list[str]) -> Tensor:
            return torch.eye(4) if texts == [caption(scene) for scene in scenes] else torch.eye(4)[[0, 0, 0, 0]]

    found = judge(Planted(), scenes)
    assert found == {"image_to_text": 0.75, "text_to_image": 1.0, "own_over_variant": 0.5}


def test_a_saved_model_is_the_same_in_open_clip_too(untrained, folder, pictures):
    import open_clip

    texts = ["a cat", caption(longest())]
    loaded = load_clip(folder)
    assert torch.equal(loaded.embed_texts(texts), untrained.embed_texts(texts))
    assert torch.equal(loaded.embed_images(pictures), untrained.embed_images(pictures))
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert sorted(path.name for path in folder.iterdir()) == [
        CONFIG, WEIGHTS, "tokenizer.json", "tokenizer_config.json"
    ]  # fmt: skip
    theirs, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    theirs.eval()  # open_clip leaves it in training mode
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(texts)
    assert torch.equal(tokens, loaded.tokens(texts))
    torch.testing.assert_close(theirs.encode_text(tokens, normalize=True), loaded.embed_texts(texts))
    from lib.core.images import to_pil

    picture = torch.stack([preprocess(to_pil(image)) for image in pictures])
    torch.testing.assert_close(theirs.encode_image(picture, normalize=True), loaded.embed_images(pictures))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: (path / WEIGHTS).write_bytes((path / WEIGHTS).read_bytes()[:5000]),
        lambda path: (path / CONFIG).write_text("{"),
        lambda path: (path / CONFIG).write_text(json.dumps({"width": 32})),
        lambda path: (path / CONFIG).write_text(json.dumps({"model_cfg": small() | {"embed_dim": 64}})),
        lambda path: (path / "tokenizer.json").write_text("no tokenizer"),
        lambda path: (path / "tokenizer.json").unlink(),
    ],
)
def test_bad_folders_are_refused(folder, tmp_path, spoil):
    import shutil

    path = tmp_path / "spoilt"
    shutil.copytree(folder, path)
    spoil(path)
    with pytest.raises(InputError, match=r"^tiny-clip spoilt: found .*; expected a folder made by"):
        load_clip(path)


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"tiny-clip nothing: found no open_clip_config\.json"):
        load_clip(tmp_path / "nothing")


def test_two_batches_can_be_learned_by_heart():
    torch.manual_seed(0)
    clip = TinyClip(small(), word_tokenizer())
    optimizer = torch.optim.AdamW(clip.parameters(), lr=3e-3)
    batches = [(to_unit(render_all(scenes)), words) for scenes, words in (training_batch(FEW, k) for k in range(2))]
    losses = []
    for step in range(16):
        images, words = batches[step % 2]
        scale = clip.model.logit_scale.exp()
        loss = contrastive_loss(clip.embed_images(images), clip.embed_texts(words), scale, words)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert max(losses[-2:]) < 0.6 * min(losses[:2])
    assert max(losses) < inf


def test_a_killed_training_ends_where_an_undisturbed_one_does(tmp_path, monkeypatch, save_each_step):
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    whole, _ = train(tmp_path / "one", FEW)

    def dying(*arguments) -> Tensor:
        if (tmp_path / "other" / "checkpoint.safetensors").is_file():
            raise KeyboardInterrupt
        return degrade(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(module, "degrade", dying)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "other", FEW)
    resumed, _ = train(tmp_path / "other", FEW)
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in resumed.state_dict().items())


def test_the_stage_judges_before_it_hands_over(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "held_out", lambda count: held_out(12))
    few = ClipTraining(steps=1, batch=6, ship_retrieval=0.0, goal_retrieval=1.1)
    outputs = stage(tmp_path, few)
    assert [target.relative_to(target.parents[1]).as_posix() for target in outputs.values()] == [
        "models/tiny-clip", "tiny-clip/metrics.json"
    ]  # fmt: skip
    assert all(source.exists() for source in outputs)
    assert "| image to text |" in (tmp_path / "tiny-clip" / "README.md").read_text()
    assert set(json.loads((tmp_path / "metrics.json").read_text())) == {
        "image_to_text", "text_to_image", "own_over_variant"
    }  # fmt: skip
    with pytest.raises(PalimpsestError, match="tiny-clip does not pass: image to text is"):
        stage(tmp_path, ClipTraining(steps=1, batch=6, ship_retrieval=1.1))
