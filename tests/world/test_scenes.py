from collections import Counter
from itertools import combinations, product
from random import Random

import pytest

from lib.core.errors import InputError
from lib.world.scenes import (
    Scene,
    Thing,
    composition_split,
    sample_scene,
    sample_scenes,
    scene_split,
    thing_split,
)
from lib.world.vocabulary import (
    BACKGROUNDS,
    HAIRS,
    HELD_OUT_IDENTITIES,
    IDENTITIES,
    OBJECTS,
    PAIR_PLACES,
    PEOPLE,
    SKINS,
    SPLITS,
    TINTS,
    tints_of,
)

COMPOSITIONS = [(n, t, b) for n in OBJECTS for t in tints_of(n) for b in BACKGROUNDS]


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("objects", [1, 2])
def test_a_sample_does_not_depend_on_how_many_are_asked_for(split, objects):
    hundred = list(sample_scenes(split, 100, objects=objects))
    assert hundred[:10] == list(sample_scenes(split, 10, objects=objects))
    assert len(set(hundred)) == len(hundred) == 100
    assert hundred[:10] != list(sample_scenes(split, 10, objects=objects, seed=1))


def test_an_unknown_split_is_refused_at_once():
    with pytest.raises(InputError, match=r"^split of scenes: found 'validation'; expected one of train, tune, test$"):
        sample_scenes("validation", 1)
    with pytest.raises(InputError, match="found 'Train'"):
        sample_scenes("Train", 0, objects=2)


def test_samples_are_the_first_of_the_split_in_the_order_of_the_draws():
    rng = Random("tune/2/3")
    drawn = [sample_scene(rng, 2) for _ in range(300)]
    wanted = [scene for scene in drawn if scene_split(scene) == "tune"][:20]
    assert list(sample_scenes("tune", 20, objects=2, seed=3)) == wanted
    assert list(sample_scenes("tune", 0)) == []


@pytest.mark.parametrize("objects", [1, 2])
def test_nothing_held_out_is_ever_in_training(objects):
    for split in SPLITS:
        scenes = list(sample_scenes(split, 150, objects=objects))
        assert {scene_split(scene) for scene in scenes} == {split}
        found = [{thing_split(thing, scene.background) for thing in scene.things} for scene in scenes]
        if split == "train":
            assert all(splits == {"train"} for splits in found)
        else:
            assert all(split in splits for splits in found)
        if split == "tune":
            assert not any("test" in splits for splits in found)


def test_one_object_scenes_of_two_splits_share_no_composition():
    def composition(scene: Scene) -> tuple:
        thing = scene.things[0]
        person = thing.noun in PEOPLE
        return (thing.noun, thing.skin, thing.hair) if person else (thing.noun, thing.tint, scene.background)

    seen = {split: {composition(scene) for scene in sample_scenes(split, 400)} for split in SPLITS}
    assert all(len(found) > 50 for found in seen.values())
    for one, other in combinations(SPLITS, 2):
        assert not seen[one] & seen[other]


def test_every_word_that_is_tested_was_trained():
    train = [c for c in COMPOSITIONS if composition_split(*c) == "train"]
    assert {(noun, tint) for noun, tint, _ in train} == {(noun, tint) for noun, tint, _ in COMPOSITIONS}
    assert {(noun, ground) for noun, _, ground in train} == set(product(OBJECTS, BACKGROUNDS))
    assert {(tint, ground) for _, tint, ground in train} == set(product(TINTS, BACKGROUNDS))
    identities = set(IDENTITIES) - set().union(*HELD_OUT_IDENTITIES.values())
    for place in range(3):
        assert {i[place] for i in identities} == set((PEOPLE, SKINS, HAIRS)[place])


def test_about_a_tenth_each_is_held_out():
    counts = Counter(composition_split(*c) for c in COMPOSITIONS)
    for split in ("tune", "test"):
        assert 0.08 < counts[split] / len(COMPOSITIONS) < 0.12


def test_held_out_identities_exist_and_are_held_out_once():
    test, tune = HELD_OUT_IDENTITIES["test"], HELD_OUT_IDENTITIES["tune"]
    assert not test & tune
    assert test | tune < set(IDENTITIES)
    for (noun, skin, hair), ground in product(IDENTITIES, BACKGROUNDS):
        wanted = "test" if (noun, skin, hair) in test else "tune" if (noun, skin, hair) in tune else "train"
        assert thing_split(Thing(noun, skin=skin, hair=hair), ground) == wanted


def test_test_outweighs_tune_outweighs_train():
    by_split = {composition_split(*c): c for c in COMPOSITIONS if c[2] == "red"}
    things = {split: Thing(noun, tint=tint) for split, (noun, tint, _) in by_split.items()}
    for order in product(SPLITS, repeat=2):
        wanted = max(order, key=SPLITS.index)
        assert scene_split(Scene(tuple(things[split] for split in order), "red")) == wanted


def test_attributes_say_everything_and_only_what_there_is():
    cat = Thing("cat", tint="blue", size="small", place="left")
    man = Thing("man", size="small", place="right", skin="dark-skinned", hair="bald")
    assert Scene((cat, man), "red", "dotted", "ink").attributes() == {
        "background": "red", "pattern": "dotted", "style": "ink",
        "object.0": "cat", "tint.0": "blue", "size.0": "small", "place.0": "left", "accessory.0": "none",
        "object.1": "man", "skin.1": "dark-skinned", "hair.1": "bald", "size.1": "small", "place.1": "right",
    }  # fmt: skip
    alone = Scene((cat,), "red").attributes()
    assert {name for name in alone if name.endswith(".1")} == {"object.1"}
    assert alone["object.1"] == "none"


def test_what_is_drawn_is_in_bounds():
    rng = Random(0)
    for objects in (1, 2):
        for scene in (sample_scene(rng, objects) for _ in range(300)):
            assert len(scene.things) == objects
            for thing in scene.things:
                assert abs(thing.dx) <= 2 >= abs(thing.dy)
                assert thing.angle in (-10, -5, 0, 5, 10)
                if thing.noun in PEOPLE:
                    assert (thing.noun, thing.skin, thing.hair) in IDENTITIES
                    assert (thing.tint, thing.accessory) == ("natural", "none")
                else:
                    assert thing.tint in tints_of(thing.noun)
                    assert thing.skin is thing.hair is None
            if objects == 2:
                assert [thing.place for thing in scene.things] == list(PAIR_PLACES)
                assert {(thing.size, thing.accessory) for thing in scene.things} == {("small", "none")}
