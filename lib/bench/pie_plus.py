"""PIE-Bench++ (Huang et al.): PIE-Bench's 700 pictures with edits of several aspects, as ten parquet files.

`<folder>/<type>/V1-00000-of-00001.parquet`, the types named like PIE-Bench's folders. Cells are strings: `mask` holds
PIE-Bench's runs as numbers between blanks or as a list, the others what JSON or Python literals can say.
"""

from __future__ import annotations

import ast
import io
import json
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from os.path import isfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib.bench.cases import EditCase
from lib.bench.pie_bench import (
    COUNTS,
    FOLDERS,
    LazyCases,
    check_counts,
    check_folder,
    check_side,
    check_unique,
    field,
    target_object,
    unbracket,
)
from lib.bench.rle import SIDE, decode, with_ring
from lib.core.errors import InputError
from lib.core.images import load_image

if TYPE_CHECKING:
    from torch import Tensor

NAME = "pie-bench++"
LICENCE = "CC-BY-SA-4.0"
HOMEPAGE = "https://huggingface.co/datasets/UB-CVML-Group/PIE_Bench_pp"
PARQUET = "V1-00000-of-00001.parquet"
STRUCTURES = ("edit_action", "aspect_mapping", "blended_words")
TEXTS = ("id", "source_prompt", "target_prompt", *STRUCTURES, "mask")


def pie_plus_cases(folder: str | Path, *, ring: bool = False) -> LazyCases:
    """The cases of the ten parquet files, in the order of the types and rows; pictures are decoded when asked for.

    Texts are read and checked at once; of the pictures' compressed bytes those of one type at a time are kept. Masks,
    brackets and `ring` as in `pie_bench_cases`; the extras are `key`, `local_phrase`, `ring_mask`, `target_object`
    where one is told and, parsed, `edit_action`, `aspect_mapping` and `blended_words` (None where the cell is empty).

    Raises:
        InputError: naming file, row and column, for a missing or broken file, a missing column, a cell that cannot be
            read; when the case is read, for a picture that is broken or of another size.
    """
    folder = check_folder(folder)
    rows = [row for name in FOLDERS for row in _read_rows(folder / name / PARQUET)]
    check_unique((row["id"] for row in rows), f"{folder}, ids")
    pictures = lru_cache(maxsize=1)(_column_of_images)  # one type after the other
    return LazyCases(rows, lambda row: _case(row, pictures(row["path"])[row["place"]], ring))


def verify(folder: str | Path, counts: Mapping[int, int] = COUNTS) -> dict[int, int]:
    """Read every case; return the number of cases of each edit type.

    Raises:
        InputError: anything cannot be read (see `pie_plus_cases`) or the numbers differ from `counts`.
    """
    found = Counter(case.edit_type for case in pie_plus_cases(folder))
    check_counts(Path(folder), found, counts)
    return dict(found)


def parse_cell(cell: str, thing: str) -> Any:
    """What a cell says, as JSON, else as a Python literal (which runs nothing); None if it is blank.

    Raises:
        InputError: it is neither.
    """
    if not cell.strip():
        return None
    try:
        return json.loads(cell)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(cell.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise InputError(thing, found=f"{cell!r:.60}", expected="JSON or a Python literal") from error


def _runs(cell: str, thing: str) -> Any:
    """The numbers of a mask cell: "12 5 524 5" or "[12, 5, 524, 5]"."""
    try:
        return [int(word) for word in cell.split()]
    except ValueError:
        return parse_cell(cell, thing)


def _read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of one file without their pictures, checked and parsed; `path` and `place` say where the picture is."""
    rows = []
    for place, row in enumerate(_read(path, list(TEXTS)).to_pylist()):
        thing = f"{path}, row {place}"
        row |= {name: "" for name in STRUCTURES if row[name] is None}
        texts = {name: field(row, name, str, thing) for name in TEXTS}
        parsed = {name: parse_cell(texts[name], f"{thing}, key {name!r}") for name in STRUCTURES}
        runs = _runs(texts["mask"], f"{thing}, key 'mask'")
        decode(runs, name=f"{thing}, key 'mask'")
        if not unbracket(texts["target_prompt"])[0].strip():
            raise InputError(f"{thing}, key 'target_prompt'", found="no words", expected="a prompt")
        rows.append(texts | parsed | {"mask": runs, "path": path, "place": place})
    return rows


def _read(path: Path, columns: list[str]) -> Any:
    """These columns of a parquet file. InputError if the file or a column is not there or cannot be read."""
    import pyarrow
    from pyarrow import parquet

    if not isfile(path):
        raise InputError(path, found="no such file", expected="a parquet file of PIE-Bench++")
    try:
        with parquet.ParquetFile(path) as file:
            missing = [name for name in columns if name not in file.schema_arrow.names]
            if missing:
                found = f"only {', '.join(file.schema_arrow.names)}"
                raise InputError(f"{path}, key {missing[0]!r}", found=found, expected="a column of this name")
            return file.read(columns)
    except (OSError, pyarrow.ArrowException) as error:
        raise InputError(path, found=f"unreadable bytes ({error})", expected="a whole parquet file") from error


def _column_of_images(path: Path) -> list[Any]:
    return _read(path, ["image"])["image"].to_pylist()


def _image(cell: Any, thing: str) -> Tensor:
    data = field(cell, "bytes", bytes, f"{thing}, key 'image'")
    try:
        image = load_image(io.BytesIO(data))  # Pillow opens a file in memory as it opens a path
    except InputError as error:
        raise InputError(f"{thing}, key 'image'", found=error.found, expected=error.expected) from error
    return check_side(image, SIDE, f"{thing}, key 'image'")


def _case(row: Mapping[str, Any], picture: Any, ring: bool) -> EditCase:
    mask = decode(row["mask"])
    target, phrase = unbracket(row["target_prompt"])
    return EditCase(
        id=f"{NAME}-{row['id']}",
        image=_image(picture, f"{row['path']}, row {row['place']}"),
        target_prompt=target,
        source_prompt=unbracket(row["source_prompt"])[0],
        mask=with_ring(mask) if ring else mask,
        edit_type=int(row["path"].parent.name[0]),
        benchmark=NAME,
        licence=LICENCE,
        extras={"key": row["id"], "local_phrase": phrase, "ring_mask": with_ring(mask)}
        | {name: row[name] for name in STRUCTURES}
        | target_object(row["target_prompt"], row["source_prompt"], row["blended_words"]),
    )
