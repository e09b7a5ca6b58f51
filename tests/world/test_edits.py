import re
from collections import defaultdict

import numpy as np
import pytest

from lib.core.errors import InputError
from lib.world.edits import EDIT_TYPES, GAPS, TYPES_WITH_PAIRS, Edit, sample_edits
from lib.world.instructions import kind_of, question
from lib.world.language import caption
from lib.world.render import render, silhouette
from lib.world.scenes import Scene, scene_split
from lib.world.vocabulary import PEOPLE, SPLITS, category, semantic_gap

COUNT = 90  # per split: nine of each type, three of each gap
MAY_CHANGE = (
    ("object", "background"),
    ("object",),
    ("object", "tint", "size", "place", "accessory", "skin", "hair"),
    ("object",),
    ("accessory", "hair"),
    ("size", "place"),
    ("tint",),
    ("pattern",),
    ("background",),
    ("style",),
)
WRONG_ARTICLE = re.compile(r"\ba (?=[aeiou])|\ban (?![aeiou])", re.IGNORECASE)


@pytest.fixture(scope="module")
def edits() -> dict[str, list[Edit]]:
    return {split: list(sample_edits(split, COUNT)) for split in SPLITS}


@pytest.fixture(scope="module")
def by_type(edits: dict[str, list[Edit]]) -> dict[int, list[Edit]]:
    found = defaultdict(list)
    for edit in (edit for some in edits.values() for edit in some):
        found[edit.edit_type].append(edit)
    return found


@pytest.fixture(params=range(10), ids=EDIT_TYPES)
def some(request: pytest.FixtureRequest, by_type: dict[int, list[Edit]]) -> list[Edit]:
    """The edits of one type, each type in turn."""
    return by_type[request.param]


def nouns(scene: Scene) -> list[str]:
    return [thing.noun for thing in scene.things]


def test_the_ten_types_take_turns(edits):
    for some in edits.values():
        assert [edit.edit_type for edit in some] == list(range(10)) * (COUNT // 10)


def test_the_same_on_every_run_and_for_every_count(edits):
    assert list(sample_edits("tune", 20)) == edits["tune"][:20]
    assert list(sample_edits("tune", 20, seed=1)) != edits["tune"][:20]


def test_changed_and_protected_share_nothing_and_make_the_target(some):
    for edit in some:
        before, after = edit.source.attributes(), edit.target.attributes()
        assert not edit.changed.keys() & edit.protected.keys()
        assert edit.changed | edit.protected == after
        assert edit.protected.items() <= before.items()
        assert not edit.changed.items() & before.items()


def test_a_type_changes_what_its_name_says(some):
    for edit in some:
        kinds = {name.partition(".")[0] for name in edit.changed}
        assert kinds <= set(MAY_CHANGE[edit.edit_type])
        if edit.edit_type == 0:
            assert kinds == {"object", "background"}
        elif edit.edit_type != 2:
            assert len(edit.changed) == 1
        slots = {int(name[-1]) for name in edit.changed if "." in name}
        assert slots == set(edit.slots)
        assert edit.ground == bool({"background", "pattern", "style"} & kinds)


def test_adding_and_removing_are_each_others_mirror(by_type):
    for edit in by_type[2]:
        assert (nouns(edit.source), len(edit.target.things)) == (nouns(edit.target)[:1], 2)
        assert "object.1" in edit.changed
    for edit in by_type[3]:
        assert (nouns(edit.source)[:1], len(edit.target.things)) == (nouns(edit.target), 1)
        assert edit.changed == {"object.1": "none"}


def test_outside_the_mask_source_and_target_are_equal(some):
    for edit in some:
        mask, source, target = edit.mask(), render(edit.source), render(edit.target)
        assert (mask.dtype, mask.shape) == (bool, (64, 64))
        assert np.array_equal(source[~mask], target[~mask])
        assert (source[mask] != target[mask]).any()  # and inside it something happens


def test_the_mask_covers_what_changes_before_and_after(some):
    for edit in some:
        mask = edit.mask()
        for scene in (edit.source, edit.target):
            covers = [silhouette(scene, slot) for slot in range(len(scene.things))]
            for slot in set(edit.slots) & set(range(len(covers))):
                assert mask[covers[slot] > 0].all()
            if edit.ground:
                assert mask[np.max(covers, axis=0) == 0].all()


def test_the_mask_is_no_larger_than_it_must_be(some):
    for edit in some:
        mask = edit.mask()
        if edit.edit_type in (0, 9):  # the only thing and the ground around it; every pixel
            assert mask.all()
            continue
        assert not mask.all()
        if edit.source.style == "ink":  # its lines move where the background moves
            continue
        needed = np.zeros_like(mask)
        for scene in (edit.source, edit.target):
            covers = [silhouette(scene, slot) for slot in range(len(scene.things))]
            for slot, cover in enumerate(covers):
                needed |= (cover > 0) if slot in edit.slots else np.zeros_like(mask)
            if edit.ground:
                needed |= np.max(covers, axis=0) < 255
        assert np.array_equal(mask, needed)


def test_adding_and_removing_leave_the_first_thing_its_pixels(by_type):
    for edit in (*by_type[2], *by_type[3]):
        assert np.array_equal(silhouette(edit.source, 0), silhouette(edit.target, 0))
        assert not silhouette(edit.source, 0)[:, 32:].any()
        assert np.array_equal(render(edit.source)[:, :32], render(edit.target)[:, :32])
        assert not edit.mask()[:, :32].any()


def test_gaps_are_right_and_take_turns(by_type):
    for edit in (*by_type[0], *by_type[1]):
        slot = edit.slots[0]
        assert semantic_gap(nouns(edit.source)[slot], nouns(edit.target)[slot]) == edit.gap
    for edit_type in (0, 1):
        assert [edit.gap for edit in by_type[edit_type]] == list(GAPS) * (COUNT // 10)
    assert {edit.gap for edit_type in range(2, 10) for edit in by_type[edit_type]} == {None}


def test_source_and_target_are_in_the_promised_splits(edits):
    for split, some in edits.items():
        assert {scene_split(edit.target) for edit in some} == {split}
        assert {scene_split(edit.source) for edit in some} <= {split, "train"}


def test_no_picture_shows_two_things_of_one_name():
    for edit in sample_edits("train", 400, seed=5):  # of random pairs one in thirty would
        for scene in (edit.source, edit.target):
            assert len(set(nouns(scene))) == len(nouns(scene))


def test_types_that_allow_them_have_two_object_sources(by_type):
    for edit_type, some in by_type.items():
        counts = {len(edit.source.things) for edit in some}
        assert counts == ({1, 2} if edit_type in TYPES_WITH_PAIRS else {2} if edit_type == 3 else {1})


def test_instructions_hold_their_words(some):
    for edit in some:
        after = edit.target.attributes()
        said = edit.instructions
        wanted = {value for name, value in edit.changed.items() if value not in ("none", "natural")}
        if edit.edit_type == 2:  # place is said as a side; the size follows from the frame
            wanted = {after["object.1"], "right"} | (wanted & {after.get("tint.1"), after.get("skin.1")})
        if not wanted:  # something goes: its name is said
            before = edit.source.attributes()
            wanted = {before[name] for name in edit.changed}
        for tone in ("brief", "expressive"):
            assert wanted <= set(re.findall(r"[\w-]+", said[tone])), (wanted, said[tone])
        for value in wanted - {"right"} - set(nouns(edit.source)):
            assert value not in re.findall(r"[\w-]+", said["ambiguous"]), said["ambiguous"]


def test_instructions_name_the_thing_that_changes(some):
    for edit in some:
        if edit.slots and edit.edit_type not in (2, 3):
            noun = nouns(edit.source)[edit.slots[0]]
            for text in edit.instructions.values():
                assert re.search(rf"\b{noun}\b", text), text


def test_instructions_are_clean_text(some):
    for edit in some:
        for text in edit.instructions.values():
            assert not WRONG_ARTICLE.search(text), text
            assert not re.search(r"[{}]|[?.;,][,;?]|  |None|\bnone\b|natural", text), text


def test_an_ambiguous_swap_fits_its_target(by_type):
    for edit in (*by_type[0], *by_type[1]):
        slot = edit.slots[0]
        old, new = nouns(edit.source)[slot], nouns(edit.target)[slot]
        assert f"put {kind_of(new, old)} in place of the {old}" in edit.instructions["ambiguous"]
        assert ("another" in edit.instructions["ambiguous"]) == (category(new) == category(old)) or edit.edit_type == 0


def test_content_edits_say_what_happens(edits):
    """Hair is no color; what is worn already comes off first."""
    seen = set()
    for edit in (edit for edit in sample_edits("train", 600, seed=2) if edit.edit_type == 4):
        thing, new = edit.source.things[0], edit.target.things[0]
        said = edit.instructions["brief"]
        if thing.noun in PEOPLE:
            seen.add("hair")
            assert (said, "color" in edit.instructions["ambiguous"]) == (f"make the {thing.noun} {new.hair}", False)
        elif "none" not in (thing.accessory, new.accessory):
            seen.add("other")
            assert said == f"take the {thing.accessory} off the {thing.noun} and give it a {new.accessory}"
        elif new.accessory == "none":
            seen.add("off")
            assert said == f"take the {thing.accessory} off the {thing.noun}"
        else:
            seen.add("on")
            assert said == f"give the {thing.noun} a {new.accessory}"
    assert seen == {"hair", "other", "off", "on"}


def test_questions_are_answered_as_the_target_answers_them(some):
    for edit in some:
        after = edit.target.attributes()
        true = {question(name, value, after) for name, value in after.items() if value != "none"}
        asked = edit.questions()
        assert {text for text, answer in asked if answer == "yes"} == true
        assert not {text for text, answer in asked if answer == "no"} & true
        assert {answer for _, answer in asked} <= {"yes", "no"}
        assert len({text for text, _ in asked}) == len(asked)
        assert not any(WRONG_ARTICLE.search(text) for text, _ in asked)


def test_what_is_gone_is_asked_for(by_type):
    for edit_type, kind in ((0, "object"), (1, "object"), (3, "object"), (8, "background")):
        for edit in by_type[edit_type]:
            before, asked = edit.source.attributes(), dict(edit.questions())
            for name in edit.changed:
                if name.startswith(kind):
                    assert asked[question(name, before[name], before)] == "no"


def test_captions_differ(some):
    for edit in some:
        assert caption(edit.source) != caption(edit.target)


def test_an_unknown_split_is_refused():
    with pytest.raises(InputError, match="world split: found 'validation'; expected one of train, tune, test"):
        next(sample_edits("validation", 1))
