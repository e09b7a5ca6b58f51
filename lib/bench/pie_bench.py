"""PIE-Bench (Ju et al., arXiv 2310.01506): 700 pictures of 512 x 512 in ten types of edit, each with a mask.

A folder holds `mapping_file.json` and the pictures that it names below `annotation_images/`. The tools with which
benchmarks are read from disk are here too: `LazyCases`, `field`, `check_folder`, `check_side`, `target_object`.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from os.path import isdir, isfile
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar, overload

from torch import Tensor

from lib.bench.cases import EditCase
from lib.bench.rle import SIDE, decode, with_ring
from lib.core.errors import InputError
from lib.core.images import load_image

NAME = "pie-bench"
LICENCE = "none stated: not to be redistributed"
HOMEPAGE = "https://github.com/cure-lab/PnPInversion"
MAPPING, PICTURES = "mapping_file.json", "annotation_images"
FOLDERS = (
    "0_random_140",
    "1_change_object_80",
    "2_add_object_80",
    "3_delete_object_80",
    "4_change_attribute_content_40",
    "5_change_attribute_pose_40",
    "6_change_attribute_color_40",
    "7_change_attribute_material_40",
    "8_change_background_80",
    "9_change_style_80",
)
COUNTS: dict[int, int] = {
    int(name[0]): int(name.rsplit("_", 1)[1]) for name in FOLDERS
}  # edit type -> cases, 700 in all
TEXTS = ("image_path", "original_prompt", "editing_prompt", "editing_instruction", "editing_type_id", "blended_word")
ORIGIN = "origin"  # ours alone, in folders that `export` wrote: id, benchmark and licence of the case

Record = TypeVar("Record")


class LazyCases(Sequence[EditCase]):
    """Cases that are read from disk whenever one is asked for, and not kept: `read` makes one of each record."""

    def __init__(self, records: Sequence[Record], read: Callable[[Record], EditCase]) -> None:
        self._records, self._read = records, read

    def __len__(self) -> int:
        return len(self._records)

    @overload
    def __getitem__(self, index: int) -> EditCase: ...
    @overload
    def __getitem__(self, index: slice) -> LazyCases: ...
    def __getitem__(self, index: int | slice) -> EditCase | LazyCases:
        if isinstance(index, slice):
            return LazyCases(self._records[index], self._read)
        return self._read(self._records[index])


@dataclass(frozen=True)
class Entry:
    """One sample of the mapping file, checked, with its prompts as they are written there."""

    id: str  # of the case
    key: str  # in the file
    picture: Path
    texts: Mapping[str, str]
    runs: Sequence[int]
    benchmark: str = NAME
    licence: str = LICENCE

    @property
    def edit_type(self) -> int:
        return int(self.texts["editing_type_id"])


def pie_bench_cases(folder: str | Path, *, ring: bool = False) -> LazyCases:
    """The cases of a folder in PIE-Bench's layout, in the order of its file, each read when it is asked for.

    Prompts come without brackets. `mask` is the annotator's, or has the border ring of the official scorer if `ring`;
    `extras["ring_mask"]` always has it. Other extras: `key`, `image_path` and `blended_word` of the file,
    `local_phrase`, what the target prompt has in brackets, and `target_object` and `source_object` where they are told
    (`target_object`).

    Raises:
        InputError: at once, naming file and key, for a missing folder, file or picture, broken JSON, a key that is
            missing or holds what it must not; when the case is read, for a picture that is broken or of another size.
    """
    return LazyCases(read_entries(folder), lambda entry: _case(entry, ring))


def verify(folder: str | Path, counts: Mapping[int, int] = COUNTS) -> dict[int, int]:
    """Read every case of the folder; return the number of cases of each edit type.

    Raises:
        InputError: anything cannot be read (see `pie_bench_cases`) or the numbers differ from `counts`, PIE-Bench's.
    """
    found = Counter(case.edit_type for case in pie_bench_cases(folder))
    check_counts(Path(folder) / MAPPING, found, counts)
    return dict(found)


def check_counts(path: Path, found: Mapping[Any, int], expected: Mapping[Any, int]) -> None:
    """Raise InputError naming the file, the kind and its numbers unless there are as many of each kind as expected."""
    for kind in (*expected, *(kind for kind in found if kind not in expected)):
        if found.get(kind, 0) != expected.get(kind, 0):
            thing = f"{path}, number of cases of type {kind}"
            raise InputError(thing, found=found.get(kind, 0), expected=expected.get(kind, 0))


def read_mapping(folder: str | Path) -> dict[str, Any]:
    """`mapping_file.json` of the folder as it stands there: key -> sample. InputError unless it is a JSON object."""
    path = check_folder(folder) / MAPPING
    if not isfile(path):
        raise InputError(path, found="no such file", expected="the mapping file of a PIE-Bench folder")
    try:
        samples = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_unique)
    except InputError as error:
        raise InputError(f"{path}, key {error.thing}", found=error.found, expected=error.expected) from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(path, found=f"unreadable JSON ({error})", expected="one JSON object") from error
    if not isinstance(samples, dict) or not samples:
        found = "an empty object" if samples == {} else f"a {type(samples).__name__}"
        raise InputError(path, found=found, expected="an object: id -> sample")
    return samples


def read_entries(folder: str | Path) -> list[Entry]:
    """The samples of the mapping file in its order, checked whole: every key, every mask, every picture's existence."""
    entries = [_entry(Path(folder), key, sample) for key, sample in read_mapping(folder).items()]
    check_unique((entry.id for entry in entries), f"{Path(folder) / MAPPING}, ids")
    check_unique((entry.texts["image_path"] for entry in entries), f"{Path(folder) / MAPPING}, image paths")
    return entries


def unbracket(prompt: str) -> tuple[str, str | None]:
    """The prompt without the characters `[` and `]`, and what stood in brackets (phrases joined by a comma), or None.

    The inner words stay and no blank is touched, as in the official scorer. Of nested brackets the outer ones hold the
    phrase; one that is never closed holds none.
    """
    return _plain(prompt), ", ".join(bracketed(prompt)) or None


def bracketed(prompt: str) -> list[str]:
    """The phrases in brackets, each without those inside it, in their order; see `unbracket`."""
    phrases, depth, start = [], 0, 0
    for match in re.finditer(r"[\[\]]", prompt):
        if match[0] == "[":
            start = match.end() if depth == 0 else start
            depth += 1
        elif depth:
            depth -= 1
            if depth == 0:
                phrases.append(_plain(prompt[start : match.start()]).strip())
    return [phrase for phrase in phrases if phrase]


def target_object(target: str, source: str, blended: Any) -> dict[str, str]:
    """{"target_object": words of the target prompt that name what the edit is about}, or {} where nothing tells them.

    The prompts are the file's, with brackets. First choice is what blended words change to: `blended` is a text "source
    target" or "source,target", a list of such texts or of pairs, or anything else, which says nothing. Second is the
    first phrase in brackets of the target prompt with a word that the source prompt lacks. What does not occur in the
    target prompt, whole and ignoring case, is passed over.
    """
    plain, known = _plain(target), {word.lower() for word in re.findall(r"\w+", _plain(source))}
    new = [phrase for phrase in bracketed(target) if not {*re.findall(r"\w+", phrase.lower())} <= known]
    for words in (*_blended_into(blended), *new):
        if words and re.search(rf"(?<!\w){re.escape(words)}(?!\w)", plain, re.IGNORECASE):
            return {"target_object": words}
    return {}


def _blended_into(blended: Any) -> list[str]:
    """What may be the second half of blended words, the longer first: a comma says where it begins, or nothing does."""
    if isinstance(blended, str):
        words = blended.split()
        return (
            [blended.rsplit(",", 1)[1].strip()]
            if "," in blended
            else [" ".join(words[i:]) for i in range(1, len(words))]
        )
    if not isinstance(blended, list | tuple):
        return []
    if _is_pair(blended) and not any(re.search(r"[\s,]", word.strip()) for word in blended):
        return [blended[1].strip()]
    texts = [
        [one[1].strip()] if _is_pair(one) else _blended_into(one)
        for one in blended
        if _is_pair(one) or isinstance(one, str)
    ]
    return [words for found in texts for words in found]


def _is_pair(thing: Any) -> bool:
    return isinstance(thing, list | tuple) and len(thing) == 2 and all(isinstance(word, str) for word in thing)


def field(sample: Any, key: str, kind: type, thing: str) -> Any:
    """`sample[key]`, which must be of this type. InputError names `thing` and the key."""
    if not isinstance(sample, Mapping):
        raise InputError(thing, found=f"a {type(sample).__name__}", expected=f"an object with the key {key!r}")
    if key not in sample:
        raise InputError(f"{thing}, key {key!r}", found="no such key", expected=f"a {kind.__name__}")
    if type(sample[key]) is not kind:
        found = f"{sample[key]!r:.60} (a {type(sample[key]).__name__})"
        raise InputError(f"{thing}, key {key!r}", found=found, expected=f"a {kind.__name__}")
    return sample[key]


def check_folder(folder: str | Path) -> Path:
    """The folder as a path. InputError if there is no such folder."""
    if not isdir(folder):
        raise InputError(f"folder {folder}", found="no such folder", expected="the folder of a benchmark")
    return Path(folder)


def check_unique(names: Iterable[str], thing: str) -> None:
    """Raise InputError if a name occurs twice."""
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InputError(thing, found=f"{twice[0]!r} more than once", expected="each of them once")


def check_side(image: Tensor, side: int, thing: object) -> Tensor:
    """The image or mask [C, H, W] itself if it is `side` pixels a side, else InputError."""
    if image.shape[1:] != (side, side):
        found = f"{' x '.join(str(length) for length in image.shape[1:])} pixels"
        raise InputError(thing, found=found, expected=f"{side} x {side} pixels")
    return image


def _entry(folder: Path, key: str, sample: Any) -> Entry:
    thing = f"{folder / MAPPING}, sample {key!r}"
    texts = {name: field(sample, name, str, thing) for name in TEXTS}
    runs = field(sample, "mask", list, thing)
    decode(runs, name=f"{thing}, key 'mask'")
    if texts["editing_type_id"] not in {str(edit_type) for edit_type in COUNTS}:
        found = repr(texts["editing_type_id"])
        raise InputError(f"{thing}, key 'editing_type_id'", found=found, expected='one of "0" to "9"')
    if not _plain(texts["editing_prompt"]).strip():
        raise InputError(f"{thing}, key 'editing_prompt'", found="no words", expected="a prompt")
    place = PurePosixPath(texts["image_path"])
    if place.is_absolute() or ".." in place.parts:
        raise InputError(f"{thing}, key 'image_path'", found=repr(str(place)), expected=f"a path below {PICTURES}")
    picture = folder / PICTURES / place
    if not isfile(picture):  # False too where the path itself is impossible
        raise InputError(f"{thing}, key 'image_path'", found=f"no file {picture}", expected="a picture")
    named = {"id": f"{NAME}-{key}"}
    if ORIGIN in sample:
        origin = field(sample, ORIGIN, dict, thing)
        named = {name: field(origin, name, str, f"{thing}, {ORIGIN}") for name in ("id", "benchmark", "licence")}
    return Entry(key=key, picture=picture, texts=texts, runs=runs, **named)


def _case(entry: Entry, ring: bool) -> EditCase:
    mask = decode(entry.runs)
    target, phrase = unbracket(entry.texts["editing_prompt"])
    return EditCase(
        id=entry.id,
        image=check_side(load_image(entry.picture), SIDE, f"image {entry.picture}"),
        target_prompt=target,
        source_prompt=_plain(entry.texts["original_prompt"]),
        instruction=entry.texts["editing_instruction"] or None,
        mask=with_ring(mask) if ring else mask,
        edit_type=entry.edit_type,
        benchmark=entry.benchmark,
        licence=entry.licence,
        extras={
            "key": entry.key,
            "image_path": entry.texts["image_path"],
            "blended_word": entry.texts["blended_word"],
            "local_phrase": phrase,
            "ring_mask": with_ring(mask),
        }
        | _objects(*(entry.texts[name] for name in ("editing_prompt", "original_prompt", "blended_word"))),
    )


def _objects(target: str, source: str, blended: str) -> dict[str, str]:
    """What the edit is about in either prompt; of the source prompt its brackets alone tell."""
    was = target_object(source, target, None).get("target_object")
    return target_object(target, source, blended) | ({"source_object": was} if was else {})


def _plain(prompt: str) -> str:
    return prompt.replace("[", "").replace("]", "")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose keys must differ; Python's own reader would keep the last of two."""
    twice = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
    if twice:
        raise InputError(repr(twice[0]), found="the key more than once", expected="each key once")
    return dict(pairs)
