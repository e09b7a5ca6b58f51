"""What an edit came to: attributes as the parser reads them, scores beside the anchors, and the words a model knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any

import pandas as pd
from torch import Tensor

from lib.bench.cases import EditCase
from lib.editors.anchors import ANCHORS, run_anchor
from lib.editors.run import Edited
from lib.metrics.score import Parser, score
from lib.studio.figures import EDITOR_COLOURS, Reading, side_by_side
from lib.studio.tables import DECIMALS, TITLES, WORLD_SCORES, cell
from lib.world.language import vocabulary
from lib.world.render import SIDE
from lib.world.vocabulary import (
    ACCESSORIES,
    BACKGROUNDS,
    HAIRS,
    OBJECTS,
    PATTERNS,
    PEOPLE,
    PLACES,
    SIZES,
    SKINS,
    STYLES,
    TINTS,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lib.backbones.base import Backbone

UNSAID = {"natural", "none", "normal"}  # names of values that a caption leaves out


def parser_for(case: EditCase, folder: str) -> Parser | None:
    """The parser of a folder, for pictures of the world's size; None for others, which it cannot read."""
    from lib.learning.parser import load_parser

    return load_parser(folder) if _readable(case.image) else None


def show_edit(case: EditCase, edited: Edited, parser: Parser | None = None) -> Figure:
    """Source, edit and, where it is known, the right answer, with what the parser reads in each."""
    editor = edited.recipe["editor"]
    pictures = {"source": case.image, editor: edited.image, "right answer": case.target_image}
    captions = {"source": case.source_prompt or "", editor: case.target_prompt}
    readings = {title: read(image, case, parser, before=title == "source") for title, image in pictures.items()}
    colours = {editor: EDITOR_COLOURS[editor]} if editor in EDITOR_COLOURS else {}
    return side_by_side(pictures, captions=captions, readings=readings, colours=colours)


def read(image: Tensor | None, case: EditCase, parser: Parser | None, *, before: bool = False) -> list[Reading]:
    """What the parser reads in a picture of the case [3, H, W], attribute by attribute.

    Judged, where the case knows its attributes, by those of the source (`before`) or of the right answer: False if it
    reads otherwise, True if it is a change that was asked for, None if it merely stayed. Empty without a parser, and
    for pictures of another size than the world's, which the parser cannot read.
    """
    if parser is None or image is None or not _readable(image):
        return []
    found = parser.read(image[None].cpu())[0]
    changed: Mapping[str, str] = {} if before else case.extras.get("changed", {})
    if before:
        wanted = case.extras.get("before", {})
    else:
        wanted = {**case.extras.get("protected", {}), **changed}
    pair = any(each.get("object.1", "none") != "none" for each in (found, wanted, changed))
    readings = []
    for name in [*found, *(name for name in wanted if name not in found)]:
        value = found.get(name, "–")
        verdict = None if name not in wanted else False if value != wanted[name] else True if name in changed else None
        if value != "none" or verdict is not None:
            readings.append((_spoken(name, pair), value, verdict))
    return readings


def beside_anchors(
    edited: Edited, backbone: Backbone, case: EditCase, parser: Parser | None = None, *, seed: int = 0
) -> tuple[list[Edited], list[dict[str, Any]]]:
    """The edit and every anchor that the case allows: the results, and their score rows as `score` gives them."""
    has = {"needs_mask": case.mask is not None, "needs_target_image": case.target_image is not None}
    names = [
        name for name, row in ANCHORS.items() if all(there or not getattr(row, need) for need, there in has.items())
    ]
    results = [edited, *(run_anchor(name, backbone, [case], seed=seed, progress=False)[0] for name in names)]
    return results, score(results, [case], parser if _readable(case.image) else None)


def score_table(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Score rows of one case as a table of text: arms down, WORLD_SCORES across, a dash where there is none."""
    values = {(row["arm"], row["metric"]): row["value"] for row in rows}
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    table = {
        TITLES[name]: [
            cell(value := values.get((arm, name), float("nan")), value, value, DECIMALS.get(name, 2)) for arm in arms
        ]
        for name in WORLD_SCORES
    }
    return pd.DataFrame(table, index=arms)


def headline(rows: Sequence[Mapping[str, Any]], arm: str) -> dict[str, dict[str, float]]:
    """The scores of one arm for `write_metrics`, those without a value left out."""
    own = [row for row in rows if row["arm"] == arm and row["metric"] in WORLD_SCORES and isfinite(row["value"])]
    return {arm: {row["metric"]: row["value"] for row in own}}


def known_words() -> str:
    """The words that the world's captions are made of, by what they say, as a Markdown list."""
    words = {
        "objects": OBJECTS,
        "people": PEOPLE,
        "their skin": SKINS,
        "their hair": HAIRS,
        "tint": TINTS,
        "size": SIZES,
        "place": PLACES,
        "worn": ACCESSORIES,
        "background": BACKGROUNDS,
        "pattern": PATTERNS,
        "style": STYLES,
    }
    said = {kind: ", ".join(word for word in group if word not in UNSAID) for kind, group in words.items()}
    return "\n".join(f"* **{kind}**: {group}" for kind, group in said.items())


def unknown_words(prompt: str) -> list[str]:
    """The words of a prompt that no caption of the world holds, in their order, once each."""
    known = {*vocabulary()} - UNSAID
    words = (word.strip(".,;:!?\"'()") for word in prompt.split())
    return list(dict.fromkeys(word for word in words if word and word not in known))


def about_words(prompt: str) -> str:
    """One line on whether the tiny model has ever seen the words of this prompt."""
    unknown = unknown_words(prompt)
    if not unknown:
        return "Every word of this prompt is one of the emoji world's."
    never = "A model trained on it has never met them; a large model may have."
    return f"Not words of the emoji world: {', '.join(unknown)}. {never}"


def _readable(image: Tensor) -> bool:
    return tuple(image.shape[-2:]) == (SIDE, SIDE)


def _spoken(name: str, pair: bool) -> str:
    kind, _, slot = name.partition(".")
    return f"{kind}, {('left', 'right')[int(slot)]}" if slot and pair else kind
