"""The parser: labels and readings are each other's inverse; training at a handful of steps."""

import pytest
import torch
from torch import Tensor

from lib.core.errors import InputError
from lib.learning import parser as module
from lib.learning.parser import (
    HEADS,
    IGNORE,
    Parser,
    ParserTraining,
    accuracies,
    degrade,
    labels,
    load_parser,
    save_parser,
    to_unit,
    train,
)
from lib.learning.training import step_generator
from lib.world.render import render_all
from lib.world.scenes import Scene, Thing, sample_scenes
from lib.world.vocabulary import PEOPLE

SCENES = [*sample_scenes("train", 60), *sample_scenes("test", 60, objects=2)]


class Perfect(Parser):
    """Gives the logits of its scenes' own labels; of attributes that a scene lacks, any. Pictures carry their index."""

    def __init__(self, scenes: list[Scene]) -> None:
        super().__init__(width=8)
        self.truth = labels(scenes)

    @staticmethod
    def pictures(count: int) -> Tensor:
        return (torch.arange(count) / 1000)[:, None, None, None].expand(-1, 3, 64, 64).contiguous()

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        rows = (images[:, 0, 0, 0] * 1000).round().long()
        draw = torch.Generator().manual_seed(0)
        found = {}
        for name, values in HEADS.items():
            logits = torch.rand(len(rows), len(values), generator=draw)
            truth = self.truth[name][rows]
            known = truth != IGNORE
            logits[known, truth[known]] = 2.0
            found[name] = logits
        return found


def test_perfect_logits_read_as_the_scenes_own_attributes():
    """Nothing more, nothing less: no tint of people, no hair of cats, no second object where there is one."""
    assert any(thing.noun in PEOPLE for scene in SCENES for thing in scene.things)
    parser = Perfect(SCENES)
    read = parser.read(parser.pictures(len(SCENES)), batch=7)
    assert read == [scene.attributes() for scene in SCENES]


def test_labels_ignore_what_a_scene_does_not_have():
    cat = Scene((Thing("cat", tint="red"),), "blue", "dotted", "ink")
    man = Thing("man", size="small", skin="dark-skinned", hair="bald")
    found = labels([cat, Scene((Thing("dog", size="small"), man), "red")])
    assert found.keys() == HEADS.keys()
    assert [name for name, label in found.items() if label[0] == IGNORE] == [
        "skin.0", "hair.0", "tint.1", "size.1", "place.1", "accessory.1", "skin.1", "hair.1",
    ]  # fmt: skip
    assert {name for name, label in found.items() if label[1] == IGNORE} == {
        "skin.0",
        "hair.0",
        "tint.1",
        "accessory.1",
    }
    assert HEADS["tint.0"][found["tint.0"][0]] == "red"
    assert HEADS["object.1"][found["object.1"][0]] == "none"
    assert HEADS["hair.1"][found["hair.1"][1]] == "bald"


def test_every_attribute_of_the_world_has_a_class():
    for scene in SCENES:
        for name, value in scene.attributes().items():
            assert value in HEADS[name]
    logits = Parser(width=8)(torch.rand(2, 3, 64, 64))
    assert {name: tuple(each.shape) for name, each in logits.items()} == {k: (2, len(v)) for k, v in HEADS.items()}


def test_degraded_pictures_stay_in_range():
    images = to_unit(render_all(SCENES[:30]))
    worse = degrade(images, 0.5, step_generator(0, 0))
    assert worse.shape == images.shape
    assert worse.min() == 0
    assert worse.max() == 1
    assert torch.equal(worse, degrade(images, 0.5, step_generator(0, 0)))
    assert (worse != images).flatten(1).any(1).all()
    blurred = degrade(images, 0.0, step_generator(0, 1))  # without noise some are left sharp, none made flat
    sharp = (blurred == images).flatten(1).all(1)
    assert 3 < sharp.sum() < 27
    assert (blurred - images).abs().max() > 0.05


def test_accuracies_count_slots_together():
    parser = Perfect(SCENES)
    images = parser.pictures(len(SCENES))
    assert set(accuracies(parser, images, SCENES).values()) == {1.0}
    parser.truth["tint.0"] = torch.where(parser.truth["tint.0"] == IGNORE, IGNORE, (parser.truth["tint.0"] + 1) % 7)
    found = accuracies(parser, images, SCENES)
    right = sum(thing.noun not in PEOPLE for scene in SCENES for thing in scene.things[1:])
    total = sum(thing.noun not in PEOPLE for scene in SCENES for thing in scene.things)
    assert found.pop("tint") == pytest.approx(right / total)
    assert set(found.values()) == {1.0}


def test_a_saved_parser_reads_the_same(tmp_path):
    torch.manual_seed(0)
    parser = Parser(width=8).eval()
    parser.load_state_dict({k: v.half().to(v.dtype) for k, v in parser.state_dict().items()})
    save_parser(parser, tmp_path / "parser")
    loaded = load_parser(tmp_path / "parser")
    images = to_unit(render_all(SCENES[:8]))
    assert all(torch.equal(value, parser(images)[name]) for name, value in loaded(images).items())
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert (tmp_path / "parser" / "model.safetensors").stat().st_size < 2.2 * sum(
        v.numel() for v in parser.state_dict().values()
    ) + 20_000


def test_a_missing_parser_and_a_wrong_picture_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"parser empty: found no model\.safetensors"):
        load_parser(tmp_path / "empty")
    for shape in ((3, 64, 64), (1, 1, 64, 64), (1, 3, 32, 64)):
        with pytest.raises(InputError, match="picture for the parser: found"):
            Parser(width=8).read(torch.rand(shape))


def test_a_killed_training_ends_where_an_undisturbed_one_does(tmp_path, monkeypatch, save_each_step):
    def few_scenes(split: str, count: int, **options):
        return sample_scenes(split, min(count, 12), **options)

    monkeypatch.setattr(module, "sample_scenes", few_scenes)
    few = ParserTraining(steps=4, batch=6)
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    whole, found = train(tmp_path / "one", few)
    assert {name.removeprefix("accuracy_") for name in found} == {
        "seconds", *(name.partition(".")[0] for name in HEADS)
    }  # fmt: skip
    assert all(0 <= value <= 1 for name, value in found.items() if name != "seconds")

    def dying(images: Tensor, level: float, draw: torch.Generator) -> Tensor:
        if (tmp_path / "other" / "checkpoint.safetensors").is_file():
            raise KeyboardInterrupt
        return degrade(images, level, draw)

    with monkeypatch.context() as patch:
        patch.setattr(module, "degrade", dying)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "other", few)
    resumed, again = train(tmp_path / "other", few)
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in resumed.state_dict().items())
    assert {**again, "seconds": 0} == {**found, "seconds": 0}
    assert not resumed.training
