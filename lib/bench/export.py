"""Cases and results in PIE-Bench's layout on disk, for the official scorer; and cases read back from it.

A picture of 64 x 64 is enlarged 8 times by repeating pixels and written as JPEG of quality 100 without colour
subsampling: every 8 x 8 block that JPEG codes is then one flat colour, and the mean over it is the pixel again up to
rounding. PIE-Bench's layout has no place for right answers or attributes: they stay behind.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.nn.functional import avg_pool2d, max_pool2d

from lib.bench.cases import EditCase
from lib.bench.pie_bench import (
    COUNTS,
    FOLDERS,
    MAPPING,
    ORIGIN,
    PICTURES,
    LazyCases,
    check_unique,
    pie_bench_cases,
    read_entries,
    read_mapping,
    unbracket,
)
from lib.bench.rle import SIDE, encode
from lib.core.errors import InputError
from lib.core.images import check_images, check_masks, to_pil

SMALL = 64
FACTOR = SIDE // SMALL
SCENE = ("1", "1_artificial/4_outdoor", "4")  # PIE-Bench files by look and scene too; drawings without a room are this


def export_cases(cases: Sequence[EditCase], folder: str | Path) -> Path:
    """Write cases of 64 x 64 as a new folder in PIE-Bench's layout; it appears whole or not at all.

    Keys have PIE-Bench's 12 digits; id, benchmark and licence of a case go along, so that `pie_bench_cases` and
    `read_back` restore them. The words that the target prompt has and the source prompt has not stand in brackets.

    Raises:
        InputError: the folder is there already, there is no case, an id occurs twice, or a case is of another size or
            lacks a mask, a source prompt or an edit type, or has brackets in a prompt.
    """
    if not cases:
        raise InputError("cases to export", found="none", expected="at least one")
    check_unique((case.id for case in cases), "ids of the cases to export")
    mapping: dict[str, Any] = {}
    seen: Counter[int] = Counter()
    with _new_folder(folder) as scratch:
        for case in cases:
            _check_case(case)
            key, place = _key_and_place(case.edit_type, seen[case.edit_type])
            seen[case.edit_type] += 1
            mapping[key] = _sample(case, place)
            _save_jpeg(case.image, scratch / PICTURES / place)
        _save_json(mapping, scratch / MAPPING)
    return Path(folder)


def read_back(folder: str | Path) -> LazyCases:
    """The cases of 64 x 64 of a folder in PIE-Bench's layout: images by the mean of each 8 x 8 block, masks by any.

    InputError as in `pie_bench_cases`.
    """
    large = pie_bench_cases(folder)
    return LazyCases(range(len(large)), lambda index: shrink(large[index]))


def shrink(case: EditCase) -> EditCase:
    """A case of 512 x 512 at 64 x 64: a pixel is the mean of its 8 x 8 block, and may change if any of these may."""
    mask = None if case.mask is None else max_pool2d(case.mask.float(), FACTOR).bool()
    extras = {name: value for name, value in case.extras.items() if name != "ring_mask"}
    return replace(case, image=avg_pool2d(case.image, FACTOR).clamp(0, 1), mask=mask, extras=extras)


def export_edited(images: Mapping[str, Tensor], benchmark: str | Path, folder: str | Path) -> Path:
    """Write edited images, case id -> [3, H, W] of 64 or 512 pixels a side, as a new folder for the official scorer.

    `benchmark` is the folder in PIE-Bench's layout that the cases are of. The new folder has `annotation_images/` with
    the names of that one, and a `mapping_file.json` with just the samples that were edited, in its order: the two go to
    the scorer as its target folder and as `--annotation_mapping_file`. It appears whole or not at all.

    Raises:
        InputError: the folder is there already, there is no image, an id is none of the benchmark's, or an image is
            outside the image contract or of another size.
    """
    entries = {entry.id: entry for entry in read_entries(benchmark)}
    unknown = [name for name in images if name not in entries]
    if unknown or not images:
        found = f"case {unknown[0]!r}" if unknown else "none"
        raise InputError("edited images", found=found, expected=f"one or more of the cases of {benchmark}")
    edited = [entry for name, entry in entries.items() if name in images]
    samples = read_mapping(benchmark)
    with _new_folder(folder) as scratch:
        for entry in edited:
            _check_image(images[entry.id], f"edited image of case {entry.id!r}", (SMALL, SIDE))
            _save_jpeg(images[entry.id], scratch / PICTURES / entry.texts["image_path"])
        _save_json({entry.key: samples[entry.key] for entry in edited}, scratch / MAPPING)
    return Path(folder)


def mark_words(source: str, target: str) -> str:
    """The target prompt with the words that the source prompt has not in brackets, neighbours in one pair."""
    before, after = source.split(" "), target.split(" ")
    words: list[str] = []
    for kind, _, _, start, end in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        phrase = " ".join(after[start:end])
        if start < end:
            words.append(phrase if kind == "equal" else f"[{phrase}]")
    return " ".join(words)


def _check_case(case: EditCase) -> None:
    thing = f"case {case.id!r} to export"
    _check_image(case.image, f"{thing}, image", (SMALL,))
    for name in ("mask", "source_prompt", "edit_type"):
        if getattr(case, name) is None:
            raise InputError(f"{thing}, {name}", found="none", expected="one: PIE-Bench's layout requires it")
    check_masks(case.mask[None], case.image[None], f"{thing}, mask")
    if case.edit_type not in COUNTS:
        raise InputError(f"{thing}, edit_type", found=case.edit_type, expected="a number from 0 to 9")
    for name in ("source_prompt", "target_prompt"):
        prompt = getattr(case, name)
        if unbracket(prompt)[0] != prompt or not prompt.strip():
            raise InputError(f"{thing}, {name}", found=repr(prompt), expected="words without brackets")


def _check_image(image: Tensor, thing: str, sides: tuple[int, ...]) -> None:
    check_images(image[None] if isinstance(image, Tensor) else image, thing)
    if image.shape[1:] not in {(side, side) for side in sides}:
        expected = " or ".join(f"{side} x {side}" for side in sides)
        raise InputError(thing, found=f"{list(image.shape)}", expected=f"{expected} pixels")


def _key_and_place(edit_type: int, number: int) -> tuple[str, str]:
    """The 12 digits of a sample, and where its picture lies: type 0 counts through, the others by look and scene."""
    if edit_type == 0:
        key = f"{number:012d}"
        return key, f"{FOLDERS[0]}/{key}.jpg"
    look, folders, scene = SCENE
    key = f"{edit_type}{look}{scene}{number:09d}"
    return key, f"{FOLDERS[edit_type]}/{folders}/{key}.jpg"


def _sample(case: EditCase, place: str) -> dict[str, Any]:
    return {
        "image_path": place,
        "original_prompt": case.source_prompt,
        "editing_prompt": mark_words(case.source_prompt, case.target_prompt),
        "editing_instruction": case.instruction or "",
        "editing_type_id": str(case.edit_type),
        "blended_word": "",
        "mask": encode(_enlarge(case.mask)),
        ORIGIN: {"id": case.id, "benchmark": case.benchmark, "licence": case.licence},
    }


def _enlarge(x: Tensor) -> Tensor:
    """[C, 64, 64] as [C, 512, 512], every pixel a block."""
    return x.repeat_interleave(FACTOR, dim=-2).repeat_interleave(FACTOR, dim=-1)


def _save_jpeg(image: Tensor, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    large = _enlarge(image) if image.shape[-1] == SMALL else image
    to_pil(large).save(path, format="JPEG", quality=100, subsampling=0)


def _save_json(mapping: Mapping[str, Any], path: Path) -> None:
    path.write_text(json.dumps(mapping), encoding="utf-8")


@contextmanager
def _new_folder(folder: str | Path) -> Iterator[Path]:
    """A scratch folder beside `folder` that becomes it at the end, by rename; after an error nothing is left."""
    folder = Path(folder)
    if folder.exists():
        raise InputError(folder, found="something there already", expected="the name of a new folder")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    except OSError as error:
        raise InputError(folder, found=error.strerror, expected="a folder that can be made") from error
    try:
        yield scratch
        os.chmod(scratch, 0o755)
        os.rename(scratch, folder)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
