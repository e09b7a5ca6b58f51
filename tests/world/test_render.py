from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from lib.core.errors import InputError
from lib.world.fingerprint import sprite_scenes
from lib.world.render import render, render_all, silhouette, stamp, stamps
from lib.world.scenes import Scene, Thing, sample_scenes
from lib.world.vocabulary import ACCESSORIES, BACKGROUNDS, HAIRS, OBJECTS, PATTERNS, PLACES, SIZES, SKINS, STYLES, TINTS

CAT = Scene((Thing("cat", tint="blue", accessory="hat"),), "orange", "dotted", tone=(3, -4, 5), phase=(2, 9))


def with_thing(**change) -> Scene:
    return replace(CAT, things=(replace(CAT.things[0], **change),))


def test_a_picture_is_bytes_of_the_frame():
    picture = render(CAT)
    assert (picture.dtype, picture.shape) == (np.uint8, (64, 64, 3))


def test_rendering_is_pure():
    scenes = [*sample_scenes("train", 20), *sample_scenes("train", 20, objects=2)]
    before = [render(scene) for scene in scenes]
    again = [render(scene) for scene in reversed(scenes)][::-1]
    assert all(np.array_equal(one, other) for one, other in zip(before, again, strict=True))
    for picture in before:
        picture[:] = 0  # what is done to a picture reaches no cache
    for scene, wanted in zip(scenes, again, strict=True):
        silhouette(scene, 0)[:] = 7
        assert np.array_equal(render(scene), wanted)
    assert np.array_equal(render_all(scenes), np.stack(again))


def test_every_attribute_and_every_free_number_shows():
    fields = {"background": BACKGROUNDS, "pattern": PATTERNS, "style": STYLES}
    variants = [replace(CAT, **{name: value}) for name, values in fields.items() for value in values]
    things = {"tint": TINTS, "size": SIZES, "place": PLACES, "accessory": ACCESSORIES, "noun": OBJECTS}
    variants += [with_thing(**{name: value}) for name, values in things.items() for value in values]
    variants += [with_thing(**{name: value}) for name in ("dx", "dy") for value in (-2, -1, 1, 2)]
    variants += [with_thing(angle=angle) for angle in (-10, -5, 5, 10)]
    variants += [replace(CAT, tone=(3, -4, 6)), replace(CAT, phase=(3, 9)), replace(CAT, phase=(2, 10))]
    people = [Thing("man", skin=skin, hair=hair) for skin, hair in product(SKINS, HAIRS)]
    variants += [replace(CAT, things=(person,)) for person in people]
    distinct = set(variants)
    assert len({render(scene).tobytes() for scene in distinct}) == len(distinct)


@pytest.mark.parametrize("style", [style for style in STYLES if style != "ink"])  # ink looks at neighbours
def test_outside_its_silhouette_a_thing_leaves_no_trace(style):
    for scene in (*sample_scenes("train", 15), *sample_scenes("train", 15, objects=2)):
        scene = replace(scene, style=style)
        covers = np.max([silhouette(scene, slot) for slot in range(len(scene.things))], axis=0)
        bare = render(replace(scene, things=()))
        assert np.array_equal(render(scene)[covers == 0], bare[covers == 0])
        assert (covers == 255).sum() > 100  # and it is there
        other = replace(scene, background="gray", tone=(0, 0, 0), pattern="plain")
        assert np.array_equal(render(scene)[covers == 255], render(other)[covers == 255])  # opaque where it says so


def test_two_things_never_touch():
    for left, right in product(OBJECTS[::3], repeat=2):
        things = (Thing(left, size="small", place="left", dx=2), Thing(right, size="small", place="right", dx=-2))
        covers = [silhouette(Scene(things, "red"), slot) for slot in (0, 1)]
        assert not np.logical_and(*covers).any()
        assert not covers[0][:, 32:].any()
        assert not covers[1][:, :32].any()


def test_a_thing_that_grows_or_wears_something_covers_more():
    def area(**change) -> int:
        return int((silhouette(with_thing(**change), 0) > 0).sum())

    assert area(size="big", accessory="none") > 1.7 * area(size="small", accessory="none")
    assert area(accessory="hat") > area(accessory="none")


def test_stamps_are_premultiplied_so_that_no_sum_overflows():
    names = {thing.sprite for scene in sprite_scenes() for thing in scene.things}
    for name in sorted(names):
        for tint, angle in (("natural", -10), ("golden", 5)):
            drawn = stamp(name, tint, 28, angle)
            assert drawn.max() <= 255
            assert (drawn[..., :3] <= drawn[..., 3:]).all()


def test_an_accessory_is_drawn_after_what_wears_it():
    body, hat = stamps(CAT.things[0], pair=False)
    assert body[0].shape[0] == SIZES["big"] > hat[0].shape[0]
    assert hat[2] < body[2]  # a hat reaches over the head


def test_a_missing_sprite_names_what_fetches_it():
    with pytest.raises(
        InputError, match=r"sprite unicorn: found no file unicorn\.png in data/sprites; expected `dvc pull"
    ):
        render(Scene((Thing("unicorn"),), "red"))
