"""store/, the small DVC remote of this repository: where an object lies, and whether it is still what its name says."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from lib.core.errors import InputError


def place(root: Path, md5: str) -> Path:
    """Where store/ keeps the object of this MD5 (with ".dir" behind it: the listing of a folder)."""
    return root / "store" / "files" / "md5" / md5[:2] / md5[2:]


def inside(root: Path, md5: str) -> set[str]:
    """The object itself, and for a whole listing of a folder also the folder's files."""
    if not md5.endswith(".dir") or not _whole(root, md5):
        return {md5}
    return {md5} | {entry["md5"] for entry in json.loads(place(root, md5).read_text(encoding="utf-8"))}


def check_objects(root: Path, outputs: Iterable[str]) -> None:
    """InputError, naming the file, if an object of these outputs (MD5s) lies in store/ with other bytes.

    Whether all are there is not asked: much is not shipped.
    """
    for md5 in sorted({one for output in outputs for one in inside(root, output)}):
        if place(root, md5).is_file() and not _whole(root, md5):
            thing = place(root, md5).relative_to(root)
            expected = "bytes of the MD5 that its path says; `git restore store` brings back what was committed"
            raise InputError(f"file {thing}", found="other bytes", expected=expected)


def _whole(root: Path, md5: str) -> bool:
    there = place(root, md5)
    return there.is_file() and hashlib.md5(there.read_bytes()).hexdigest() == md5.removesuffix(".dir")
