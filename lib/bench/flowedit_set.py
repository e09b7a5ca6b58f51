"""The set of FlowEdit (Kulikov et al., arXiv 2412.08629): 77 pictures of 1024 x 1024 with 281 target prompts, no masks.

A folder is `Data` of the paper's repository (commit 457f402): `flowedit.yaml` and `Images/`. Every target prompt of a
picture is a case; of other counts that circulate (280 codes, 272 pairs) none is ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from os.path import isfile
from pathlib import Path, PurePosixPath
from typing import Any

from lib.bench.cases import EditCase
from lib.bench.pie_bench import LazyCases, check_counts, check_folder, check_side, check_unique, field
from lib.core.errors import InputError
from lib.core.images import load_image

NAME = "flowedit"
LICENCE = "each picture its source's; academic use only"
HOMEPAGE = "https://github.com/fallenshock/FlowEdit"
PROMPTS, PICTURES = "flowedit.yaml", "Images"
SIDE = 1024
COUNTS = {"pictures": 77, "prompts": 281}
# The file names two pictures that are not there; these are what it means.
RENAMED = {"meditation1.png": "meditation2.png", "coconut_out.png": "coconut.png"}


@dataclass(frozen=True)
class Pair:
    """One target prompt of one picture. `number` counts the picture's prompts from 1, as the codes do."""

    picture: Path
    number: int
    source_prompt: str
    target_prompt: str
    code: str | None


def flowedit_cases(folder: str | Path) -> LazyCases:
    """One case for each target prompt, in the order of the file, its picture read when it is asked for.

    Prompts are as YAML gives them to the authors' own script, doubled apostrophes included. `extras["code"]` is the
    prompt's short name; None for all prompts of a picture that has another number of codes, for which belongs to which
    is then not known.

    Raises:
        InputError: at once, naming file and key, for a missing folder, file or picture, broken YAML, a key that is
            missing or holds what it must not; when the case is read, for a picture that is broken or of another size.
    """
    return LazyCases(_read_pairs(folder), _case)


def verify(folder: str | Path, counts: Mapping[str, int] = COUNTS) -> dict[str, int]:
    """Read every picture; return the number of pictures and of prompts.

    Raises:
        InputError: anything cannot be read (see `flowedit_cases`) or the numbers differ from `counts`.
    """
    pairs = _read_pairs(folder)
    firsts = [pair for pair in pairs if pair.number == 1]
    for pair in firsts:
        _case(pair)
    found = {"pictures": len(firsts), "prompts": len(pairs)}
    check_counts(Path(folder) / PROMPTS, found, counts)
    return found


def _read_pairs(folder: str | Path) -> list[Pair]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    path = check_folder(folder) / PROMPTS
    if not isfile(path):
        raise InputError(path, found="no such file", expected="the prompts of FlowEdit's folder Data")
    try:
        entries = YAML(typ="safe", pure=True).load(path.read_bytes())
    except (OSError, YAMLError, ValueError, RecursionError) as error:
        raise InputError(path, found=f"unreadable YAML ({error})", expected="a list of pictures") from error
    if not isinstance(entries, list) or not entries:
        raise InputError(path, found=f"{entries!r:.60}", expected="a list of pictures")
    things = [f"{path}, picture {place}" for place in range(len(entries))]
    pairs = [pair for entry, thing in zip(entries, things, strict=True) for pair in _pairs(path.parent, entry, thing)]
    check_unique((str(pair.picture) for pair in pairs if pair.number == 1), f"{path}, pictures")
    return pairs


def _pairs(folder: Path, entry: Any, thing: str) -> list[Pair]:
    # The authors' script wants `input_img` where this file says `init_img`: a copy that was made to run has the former.
    key = "input_img" if isinstance(entry, Mapping) and "input_img" in entry else "init_img"
    picture = _picture(folder, field(entry, key, str, thing), f"{thing}, key {key!r}")
    source = field(entry, "source_prompt", str, thing)
    prompts, codes = (_texts(entry, name, thing) for name in ("target_prompts", "target_codes"))
    if len(codes) != len(prompts):
        codes = [None] * len(prompts)
    return [Pair(picture, i + 1, source, prompt, codes[i]) for i, prompt in enumerate(prompts)]


def _picture(folder: Path, named: str, thing: str) -> Path:
    """The file that is meant: the paths begin with a folder of another name, and two files have other names."""
    name = PurePosixPath(named).name
    for candidate in (name, RENAMED.get(name, name)):
        if isfile(folder / PICTURES / candidate):
            return folder / PICTURES / candidate
    raise InputError(thing, found=f"no file {folder / PICTURES / name}", expected="a picture")


def _texts(entry: Any, key: str, thing: str) -> list[str]:
    texts = field(entry, key, list, thing)
    if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise InputError(f"{thing}, key {key!r}", found=f"{texts!r:.60}", expected="a list of texts, none empty")
    return texts


def _case(pair: Pair) -> EditCase:
    return EditCase(
        id=f"{NAME}-{pair.picture.stem}-{pair.number:02d}",
        image=check_side(load_image(pair.picture), SIDE, f"image {pair.picture}"),
        target_prompt=pair.target_prompt,
        source_prompt=pair.source_prompt,
        benchmark=NAME,
        licence=LICENCE,
        extras={"code": pair.code},
    )
