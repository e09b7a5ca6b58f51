"""Readings, tables and words."""

import math
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from lib.backbones.base import Backbone
from lib.bench.cases import EditCase
from lib.editors.run import Edited, run_editor
from lib.studio.reading import (
    about_words,
    beside_anchors,
    headline,
    known_words,
    parser_for,
    read,
    score_table,
    show_edit,
    unknown_words,
)
from lib.world.language import caption
from lib.world.scenes import sample_scenes

BEFORE = {"background": "red", "object.0": "cat", "size.0": "big", "object.1": "none"}
CHANGED = {"object.0": "dog", "object.1": "pig"}
PROTECTED = {"background": "red", "size.0": "big"}


class Reader:
    """A parser that reads the same in every picture."""

    def __init__(self, found: Mapping[str, str]) -> None:
        self.found = dict(found)

    def read(self, images: Tensor) -> list[dict[str, str]]:
        assert images.ndim == 4
        return [self.found] * len(images)


def case(side: int = 64, **more: object) -> EditCase:
    extras = {"before": BEFORE, "changed": CHANGED, "protected": PROTECTED}
    image = torch.full((3, side, side), 0.5)
    return EditCase(id="a", image=image, source_prompt="a cat", target_prompt="a dog", extras=extras, **more)


def test_a_reading_is_judged_by_what_was_wanted() -> None:
    found = {"background": "blue", "object.0": "dog", "size.0": "big", "object.1": "none"}
    assert read(torch.zeros(3, 64, 64), case(), Reader(found)) == [
        ("background", "blue", False),
        ("object, left", "dog", True),
        ("size, left", "big", None),
        ("object, right", "none", False),
    ]


def test_the_source_is_judged_by_its_own_attributes() -> None:
    found = {"background": "red", "object.0": "dog", "size.0": "big", "object.1": "none"}
    assert read(torch.zeros(3, 64, 64), case(), Reader(found), before=True) == [
        ("background", "red", None),
        ("object", "dog", False),
        ("size", "big", None),
    ]


def test_what_is_wanted_and_not_read_is_wrong() -> None:
    assert ("size, left", "–", False) in read(torch.zeros(3, 64, 64), case(), Reader({"object.0": "dog"}))


def test_without_parser_attributes_or_size_nothing_is_judged() -> None:
    reader = Reader(BEFORE)
    assert read(torch.zeros(3, 64, 64), case(), None) == []
    assert read(torch.zeros(3, 128, 128), case(), reader) == []
    assert read(None, case(), reader) == []
    plain = EditCase(id="a", image=torch.zeros(3, 64, 64), target_prompt="a dog")
    assert {verdict for _, _, verdict in read(plain.image, plain, reader)} == {None}
    assert parser_for(case(128), "no/such/folder") is None


def edit(backbone: Backbone, given: EditCase) -> Edited:
    return run_editor("flowedit", backbone, [given], {"steps": 2})[0]


def test_an_edit_is_shown_with_all_that_is_known(flux: Backbone) -> None:
    full = case(target_image=torch.ones(3, 64, 64))
    edited = edit(flux, full)
    titles = [text.get_text() for text in show_edit(full, edited, Reader(BEFORE)).texts]
    assert {"source", "flowedit", "right answer", "cat", "✗"} <= set(titles)
    bare = [text.get_text() for text in show_edit(case(), edited).texts]
    assert "right answer" not in bare
    assert "cat" in " ".join(bare).split()  # of the prompt
    assert "✗" not in bare


def test_the_edit_stands_beside_every_anchor_that_the_case_allows(flux: Backbone) -> None:
    mask = torch.zeros(1, 64, 64, dtype=torch.bool)
    mask[:, :8] = True
    full = case(mask=mask, target_image=torch.ones(3, 64, 64))
    results, rows = beside_anchors(edit(flux, full), flux, full, Reader({**BEFORE, **CHANGED}))
    arms = ["flowedit", "source-copy", "vae-round-trip", "text-to-image", "pixel-paste", "ground-truth"]
    assert [result.recipe["editor"] for result in results] == arms
    table = score_table(rows)
    assert list(table.index) == arms
    assert table.shape == (6, 4)
    assert table.iloc[-1].tolist() == ["1.00", "1.00", "6.1", "60.0"]  # 128 against 255 outside the mask
    assert set(headline(rows, "flowedit")["flowedit"]) == {row["metric"] for row in rows} - {
        "background_ssim",
        "edit_happened",
    }


def test_large_pictures_and_bare_cases_have_fewer_scores(flux: Backbone) -> None:
    bare = case(128)
    results, rows = beside_anchors(edit(flux, bare), flux, bare, Reader(BEFORE))
    assert [result.recipe["editor"] for result in results] == [
        "flowedit",
        "source-copy",
        "vae-round-trip",
        "text-to-image",
    ]
    assert rows == []


def test_a_score_without_a_value_is_a_dash_in_the_table_and_not_in_the_metrics() -> None:
    rows = [
        {"arm": "flowedit", "metric": "background_psnr", "value": math.nan},
        {"arm": "flowedit", "metric": "target_psnr", "value": 21.04},
    ]
    assert score_table(rows).loc["flowedit"].tolist() == ["–", "–", "–", "21.0"]
    assert headline(rows, "flowedit") == {"flowedit": {"target_psnr": 21.04}}


def test_captions_hold_known_words_only() -> None:
    for objects in (1, 2):
        for scene in sample_scenes("train", 50, objects=objects):
            assert unknown_words(caption(scene)) == []
            assert all(
                word in known_words() for word in caption(scene).split() if len(word) > 4 and word != "background"
            )


@pytest.mark.parametrize("word", ["zebra", "Cat", "natural", "none", "normal"])
def test_other_words_are_named(word: str) -> None:
    assert unknown_words(f"a {word}, a {word} and a cat.") == [word]
    assert f"Not words of the emoji world: {word}." in about_words(f"a {word}")
    assert "Every word" in about_words("a red cat")
