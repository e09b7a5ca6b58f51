"""`python -m lib.bench verify pie-bench /data/PIE-Bench` and `python -m lib.bench export FOLDER --count 200`."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Mapping
from typing import Any

from lib.core.errors import InputError, PalimpsestError


def main(arguments: list[str] | None = None) -> int:
    """Command line. 0: all well; 2: a bad argument, or a benchmark that is not as it must be, said in one line."""
    given = _parser().parse_args(arguments)
    try:
        print(_verify(given) if given.verb == "verify" else _export(given))
    except (PalimpsestError, OSError) as error:  # a full disk, say
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _verify(given: argparse.Namespace) -> str:
    from lib.bench.registry import open_benchmark, verify_benchmark

    if not given.any_number:
        found = verify_benchmark(given.name, given.folder)
        return f"{given.name}: every file read, {_counted(found)}: as many as there should be"
    if given.name == "world":
        raise InputError("benchmark to verify", found="'world'", expected="one that is read from a folder")
    found = Counter(case.edit_type for case in open_benchmark(given.name, folder=given.folder))
    return f"{given.name}: every file read, {_counted(dict(sorted(found.items(), key=str)))}; numbers not compared"


def _export(given: argparse.Namespace) -> str:
    from lib.bench.export import export_cases
    from lib.bench.registry import open_benchmark
    from lib.core.paths import resolve

    cases = open_benchmark("world", split=given.split, count=given.count, seed=given.seed)
    folder = export_cases(cases, resolve(given.folder))
    return f"{len(cases)} edits of the world (split {given.split}, seed {given.seed}) in PIE-Bench's layout: {folder}"


def _counted(found: Mapping[Any, int]) -> str:
    """ "3 photos" of {"photos": 3}; "700 cases (type 0: 140, type 1: 80)" of numbers by edit type."""
    if all(isinstance(kind, str) for kind in found):
        return ", ".join(f"{number} {kind}" for kind, number in found.items())
    kinds = (f"type {kind}: {number}" if kind is not None else f"no type: {number}" for kind, number in found.items())
    return f"{sum(found.values())} cases ({', '.join(kinds)})"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lib.bench",
        description="Benchmarks on disk. Folders are relative to the repository's root.",
        epilog="Exit codes: 0 all well, 2 a bad argument or a benchmark that is not as it must be.",
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    verify = verbs.add_parser("verify", help="read every file of a benchmark and count, against the published numbers")
    verify.add_argument("name", metavar="NAME", help="photos, pie-bench, ...; an unknown name lists them")
    verify.add_argument("folder", metavar="FOLDER", nargs="?", help="where it lies (default: where it is shipped)")
    verify.add_argument("--any-number", action="store_true", help="only read and count: for a part, or an export")
    export = verbs.add_parser("export", help="write edits of the world as a new folder in PIE-Bench's layout")
    export.add_argument("folder", metavar="FOLDER", help="the new folder")
    export.add_argument("--count", type=int, metavar="N", help="number of edits, the ten types in turn (default: 200)")
    export.add_argument("--split", default="test", help="of the world (default: test)")
    export.add_argument("--seed", type=int, default=0, help="of the drawing (default: 0)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
