"""What the identity encoders learn from: held-out identities, balanced pairs, losses, and short trainings."""

import json
from dataclasses import replace
from random import Random

import pytest
import torch
from torch.nn import functional as F

from lib.core.errors import PalimpsestError
from lib.learning import identity_a, identity_b, identity_data
from lib.learning.identity import load_identity
from lib.learning.identity_a import CosineMargin, IdentityATraining
from lib.learning.identity_b import IdentityBTraining, SupervisedContrast, augment, supervised_contrast
from lib.learning.identity_data import (
    CLASSES,
    KINDS,
    identities,
    identity,
    identity_split,
    one_apart,
    scene_with,
    training_scene,
    training_views,
    verification_pairs,
)
from lib.learning.training import step_generator
from lib.world.render import render
from lib.world.scenes import scene_split
from lib.world.vocabulary import OBJECTS, PEOPLE, SPLITS, TINTS

TRAININGS = {
    "identity-a": (identity_a, IdentityATraining(steps=2, identities=6, views=2)),
    "identity-b": (identity_b, IdentityBTraining(steps=2, identities=6, views=2)),
}


def test_no_held_out_identity_is_seen_in_training():
    for kind, all_of_it in KINDS.items():
        parts = [set(identities(kind, split)) for split in SPLITS]
        assert sum(map(len, parts)) == len(set(all_of_it)) == len(all_of_it)
        assert set.union(*parts) == set(all_of_it)
        assert 0.6 < len(parts[0]) / len(all_of_it) < 0.8
    rng = Random(0)
    for who in CLASSES[::5]:
        scene, slot = training_scene(who, rng)
        render(scene)
        assert identity(scene.things[slot]) == who
        assert scene_split(scene) == "train"
        assert {identity_split(identity(thing)) for thing in scene.things} == {"train"}


def test_what_a_held_out_identity_is_made_of_is_seen_in_training():
    seen = identities("objects", "train")
    assert {noun for noun, _ in seen} == set(OBJECTS)
    assert {tint for _, tint in seen} == set(TINTS)
    assert {word for who in identities("people", "train") for word in who} == {
        word for who in KINDS["people"] for word in who
    }


def test_identity_ignores_what_may_change():
    rng = Random(1)
    for who in (KINDS["people"][3], ("cat", "red")):
        scenes = [scene_with(who, rng) for _ in range(20)]
        assert {identity(scene.things[slot]) for scene, slot in scenes} == {who}
        assert len({scene.background for scene, _ in scenes}) > 3
        assert {len(scene.things) for scene, _ in scenes} == {1, 2}


def test_batches_hold_what_is_easily_confused():
    views, labels = training_views(Random(0), 20, 2)
    assert views.shape == (40, 3, 64, 64)
    assert 0 <= views.min() < views.max() <= 1
    assert torch.equal(labels[:20], labels[20:])
    chosen = [CLASSES[label] for label in labels[:20]]
    assert len(set(chosen)) == 20
    assert sum(who[0] in PEOPLE for who in chosen) == 8
    objects = [who for who in chosen if who[0] not in PEOPLE]
    assert all(any(one_apart(who, other) for other in objects) for who in objects[:9])


@pytest.mark.parametrize("close", [False, True])
@pytest.mark.parametrize("kind", list(KINDS))
def test_verification_pairs_are_balanced_and_held_out(kind, close, monkeypatch):
    seen = []

    def recorded(who, rng):
        seen.append(who)
        return scene_with(who, rng)

    monkeypatch.setattr(identity_data, "scene_with", recorded)
    pairs = verification_pairs(kind, "test", 30, close=close)
    assert pairs.first.shape == pairs.second.shape == (30, 3, 64, 64)
    assert pairs.same.sum() == 15
    for one, other, same in zip(seen[::2], seen[1::2], pairs.same.tolist(), strict=True):
        assert identity_split(one) == "test"
        assert (one == other) == same
        if not same:
            assert one_apart(one, other) if close else identity_split(other) == "test"


def test_the_cosine_margin_is_taken_off_the_own_class():
    settings = IdentityATraining()
    torch.manual_seed(0)
    objective = CosineMargin(settings)
    z = F.normalize(torch.randn(4, 64), dim=1)
    labels = torch.tensor([0, 5, 5, len(CLASSES) - 1])
    losses = []
    for row, label in enumerate(labels.tolist()):
        cosines = [F.cosine_similarity(z[row], each, dim=0) for each in objective.classes]
        others = sum((settings.scale * cosine).exp() for k, cosine in enumerate(cosines) if k != label)
        own = (settings.scale * (cosines[label] - settings.margin)).exp()
        losses.append(-(own / (own + others)).log())
    assert objective.loss(z, labels).item() == pytest.approx(torch.stack(losses).mean().item(), rel=1e-5)


def test_supervised_contrast_is_the_papers_sum():
    draw = torch.Generator().manual_seed(0)
    z = F.normalize(torch.randn(6, 8, generator=draw), dim=1)
    labels = [0, 1, 0, 2, 1, 2]
    total = 0.0
    for i in range(6):
        rest = [j for j in range(6) if j != i]
        below = sum((z[i] @ z[a] / 0.3).exp() for a in rest)
        positives = [p for p in rest if labels[p] == labels[i]]
        total -= sum(((z[i] @ z[p] / 0.3).exp() / below).log().item() for p in positives) / len(positives)
    assert supervised_contrast(z, torch.tensor(labels), 0.3).item() == pytest.approx(total / 6, rel=1e-5)


def test_augmented_pictures_stay_in_range_and_follow_the_draw():
    images = torch.rand(30, 3, 64, 64)
    worse = augment(images, step_generator(0, 0))
    assert worse.shape == images.shape
    assert 0 <= worse.min() < worse.max() <= 1
    assert torch.equal(worse, augment(images, step_generator(0, 0)))
    assert not torch.equal(worse, augment(images, step_generator(0, 1)))
    still = augment(images, step_generator(0, 0), contrast=0)
    plain = [((still[i] == images[i]).double().mean() > 0.9).item() for i in range(30)]
    assert 2 < sum(plain) < 20  # neither mirrored nor coarse


@pytest.mark.parametrize(
    ("kind", "settings"), [(CosineMargin, IdentityATraining()), (SupervisedContrast, IdentityBTraining())]
)
def test_two_batches_can_be_learned_by_heart(kind, settings):
    torch.manual_seed(0)
    objective = kind(settings)
    optimizer = torch.optim.AdamW(objective.parameters(), lr=5e-4)
    batches = [training_views(Random(k), 6, 2) for k in range(2)]
    losses = []
    for step in range(12):
        images, labels = batches[step % 2]
        loss = objective.loss(objective.encoder.embed(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert max(losses[-2:]) < 0.3 * min(losses[:2])


@pytest.mark.parametrize("title", list(TRAININGS))
def test_a_killed_training_ends_where_an_undisturbed_one_does(title, tmp_path, monkeypatch, save_each_step):
    module, settings = TRAININGS[title]
    whole = replace(settings, ship_accuracy=0.0)
    monkeypatch.setattr(identity_data.judge, "__defaults__", (20,))
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    outputs = module.stage(tmp_path / "one", whole)
    assert [target.relative_to(target.parents[1]).as_posix() for target in outputs.values()] == [
        f"models/{title}",
        f"{title}/metrics.json",
    ]
    assert all(source.exists() for source in outputs)

    def dying(*arguments):
        if (tmp_path / "other" / "checkpoint.safetensors").is_file():
            raise KeyboardInterrupt
        return training_views(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(identity_data, "training_views", dying)
        with pytest.raises(KeyboardInterrupt):
            module.stage(tmp_path / "other", whole)
    with pytest.raises(PalimpsestError, match=f"{title} does not pass: people is"):
        module.stage(tmp_path / "other", replace(settings, ship_accuracy=1.1))
    module.stage(tmp_path / "other", whole)
    for file in (f"{title}/model.safetensors", f"{title}/config.json", "metrics.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "other" / file).read_bytes()
    assert -1 <= load_identity(tmp_path / "one" / title).threshold <= 1
    assert "| people |" in (tmp_path / "one" / title / "README.md").read_text()
    assert set(json.loads((tmp_path / "one" / "metrics.json").read_text())) == {
        "people", "people_one_word_apart", "objects", "objects_one_word_apart"
    }  # fmt: skip


def test_the_two_encoders_share_no_setting_that_makes_them_alike():
    a, b = IdentityATraining(), IdentityBTraining()
    assert a.seed != b.seed
    assert CosineMargin(a).encoder.architecture != SupervisedContrast(b).encoder.architecture


@pytest.mark.parametrize(("title", "shipped"), [("identity-a", 1), ("identity-b", 2)])
def test_the_shipped_seed_keeps_its_augmentation_and_others_have_their_own(title, shipped, tmp_path, monkeypatch):
    module, settings = TRAININGS[title]
    assert module.SETTINGS().seed == shipped == identity_data.SHIPPED_SEEDS[title]
    seen = []

    def noting(seed: int, step: int, stream: str = "") -> torch.Generator:
        seen.append(step_generator(seed, step, stream).initial_seed())
        return step_generator(seed, step, stream)

    monkeypatch.setattr(identity_data, "step_generator", noting)
    monkeypatch.setattr(
        identity_data, "training_views", lambda *_: (torch.rand(4, 3, 64, 64), torch.tensor([0, 1] * 2))
    )
    for seed in (shipped, 3):
        scratch = tmp_path / str(seed)
        scratch.mkdir()
        settings = replace(settings, seed=seed, steps=2)
        objective = CosineMargin(settings) if title == "identity-a" else SupervisedContrast(settings)
        identity_data.train(scratch, objective, settings, lambda images, draw: images, title)
    assert seen[:2] == [0, 1]
    assert len(set(seen)) == 4
