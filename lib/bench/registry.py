"""The table of benchmarks. A new one is a file beside this one and a row here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from lib.bench import flowedit_set as flowedit
from lib.bench import photos, pie_bench, pie_plus, world
from lib.bench.cases import EditCase
from lib.bench.flowedit_set import flowedit_cases
from lib.bench.photos import photo_cases
from lib.bench.pie_bench import LazyCases, pie_bench_cases
from lib.bench.pie_plus import pie_plus_cases
from lib.core.errors import InputError
from lib.core.paths import resolve

WORLD_CASES = 200  # of a world that has no end, unless a count is given


@dataclass(frozen=True)
class Benchmark:
    """A benchmark: `read(folder)` gives its cases, `verify(folder)` reads every one of them and counts.

    Both are None for the world, which is drawn and not read. `count` is the number of cases, None if there is no end of
    them; `default` the folder that is taken when none is given.
    """

    name: str
    read: Callable[[Path], Sequence[EditCase]] | None
    verify: Callable[[Path], Mapping[Any, int]] | None
    needs_folder: bool
    count: int | None
    licence: str
    homepage: str
    default: Path | None = None


# fmt: off
BENCHMARKS: dict[str, Benchmark] = {row.name: row for row in (
    #         name           read             verify            folder count licence            homepage
    Benchmark("world",       None,            None,             False, None, world.LICENCE,     ""),
    Benchmark("photos",      photo_cases,     photos.verify,    False, 3,    photos.LICENCE,    photos.HOMEPAGE,
              default=photos.FOLDER),
    Benchmark("pie-bench",   pie_bench_cases, pie_bench.verify, True,  700,  pie_bench.LICENCE, pie_bench.HOMEPAGE),
    Benchmark("pie-bench++", pie_plus_cases,  pie_plus.verify,  True,  700,  pie_plus.LICENCE,  pie_plus.HOMEPAGE),
    Benchmark("flowedit",    flowedit_cases,  flowedit.verify,  True,  281,  flowedit.LICENCE,  flowedit.HOMEPAGE),
)}
# fmt: on


def benchmark_named(name: str) -> Benchmark:
    """The row of this name, or InputError listing the names there are."""
    if not isinstance(name, str) or name not in BENCHMARKS:
        raise InputError("benchmark", found=repr(name), expected=f"one of {', '.join(BENCHMARKS)}")
    return BENCHMARKS[name]


def open_benchmark(
    name: str, *, folder: str | Path | None = None, split: str = "test", count: int | None = None, seed: int = 0
) -> Sequence[EditCase]:
    """Cases of the benchmark of this name, in its own order.

    The world draws `count` edits (WORLD_CASES if None) of `split` with `seed`. What is read from a folder, relative to
    the repository's root unless absolute, has the split "test" alone; `count` takes that many of its cases, chosen by
    `seed` so that more cases include the fewer, and None takes all. Pictures on disk are read when they are asked for.

    Raises:
        InputError: an unknown name or split, a count that cannot be met, a folder that is missing or not asked for, or
            anything in it that is not as it must be: see the readers.
    """
    row = benchmark_named(name)
    if count is not None and (type(count) is not int or count < 1):
        raise InputError(f"number of cases of {name!r}", found=repr(count), expected="a whole number of 1 or more")
    if row.read is None:
        if folder is not None:
            raise InputError(f"folder of benchmark {name!r}", found=folder, expected="none: it is drawn, not read")
        return world.world_cases(split, WORLD_CASES if count is None else count, seed=seed)
    if split != "test":
        raise InputError(f"split of benchmark {name!r}", found=repr(split), expected="'test', the only one")
    cases = row.read(_folder(row, folder))
    if count is None:
        return cases
    if count > len(cases):
        raise InputError(f"number of cases of {name!r}", found=count, expected=f"at most {len(cases)}")
    order = list(range(len(cases)))
    Random(f"benchmark/{name}/{seed}").shuffle(order)
    return LazyCases(sorted(order[:count]), cases.__getitem__)


def verify_benchmark(name: str, folder: str | Path | None = None) -> Mapping[Any, int]:
    """Read every case of a benchmark on disk and count by kind. InputError if anything is broken, missing or too much.

    It is one too for the world, which has nothing to verify.
    """
    row = benchmark_named(name)
    if row.verify is None:
        raise InputError("benchmark to verify", found=repr(name), expected="one that is read from a folder")
    return row.verify(_folder(row, folder))


def _folder(row: Benchmark, folder: str | Path | None) -> Path:
    if folder is None and row.default is None:
        expected = f"the folder that holds it; it is to be had from {row.homepage}"
        raise InputError(f"folder of benchmark {row.name!r}", found="none", expected=expected)
    return resolve(row.default if folder is None else folder)
