"""Planted faults: does the suite notice? Each is one change of one line, tried on a copy of the tree.

A control run comes first: on the copy as it is, all the tests that are to notice must pass.

    python -m bench.mutations
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lib.core.paths import ROOT, resolve

LEFT_OUT = (".git", ".venv", ".dvc", ".scratch", "store", "runs", "models", "review", "__pycache__", ".*_cache")
FAILED = re.compile(r"^FAILED (?:\S*/)?(?P<test>test_\w+\.py::[\w:]+)", re.MULTILINE)


@dataclass(frozen=True)
class Mutation:
    """One change of one line, and the test files that should notice."""

    what: str
    file: str
    old: str
    new: str
    tests: str


# fmt: off
MUTATIONS = (
    Mutation("mask polarity, official", "lib/metrics/official.py",
             '{"unedit": ~mask, "edit": mask', '{"unedit": mask, "edit": ~mask', "tests/metrics/test_official.py"),
    Mutation("mask polarity, strict", "lib/metrics/pixels.py",
             "background = (~mask).double()", "background = mask.double()", "tests/metrics/test_pixels.py"),
    Mutation("/255 dropped as a picture is read", "lib/core/images.py",
             ".contiguous().float() / 255", ".contiguous().float()", "tests/core/test_images.py"),
    Mutation("/255 dropped as an edit is rounded", "lib/core/images.py",
             "return to_uint8(x).float() / 255", "return to_uint8(x).float()", "tests/core/test_images.py"),
    Mutation("official structure distance fed 0 to 1 instead of 0 to 255", "lib/metrics/official.py",
             "keys, scale=255.0", "keys, scale=1.0", "tests/metrics/test_official.py"),
    Mutation("the trunk's scale left out of the structure distance", "lib/metrics/perceptual.py",
             "scale=scale, antialias=antialias)", "scale=1.0, antialias=antialias)", "tests/metrics/test_official.py"),
    Mutation("LPIPS fed 0 to 1 instead of -1 to 1", "lib/metrics/perceptual.py",
             "(2 * images - 1 - shift) / scale", "(images - shift) / scale", "tests/metrics/test_perceptual.py"),
    Mutation("border ring left out", "lib/metrics/official.py",
             "mask = with_border(mask) if border else mask", "mask = mask.clone()", "tests/metrics/test_official.py"),
    Mutation("Holm skipped in the ledger", "lib/claims/verdict.py",
             "zip(family, holm(raw).tolist(), strict=True)", "zip(family, raw, strict=True)",
             "tests/claims/test_verdict.py"),
    Mutation("Holm without its running maximum", "lib/stats/multiple.py",
             "np.maximum.accumulate(steps)", "steps", "tests/stats"),
    Mutation("PIE runs read down the columns", "lib/bench/rle.py",
             "mask = mask.view(1, SIDE, SIDE)", "mask = mask.view(SIDE, SIDE).T.clone()[None]",
             "tests/bench/test_rle.py"),
    Mutation("FlowEdit's source velocity left out", "lib/editors/flowedit.py",
             "backbone.velocity(y, t, target) - backbone.velocity(x, t, source)",
             "backbone.velocity(y, t, target) - 0 * backbone.velocity(x, t, source)", "tests/editors/test_flowedit.py"),
    Mutation("sync-SDE without its contraction", "lib/editors/sync_sde.py",
             "(dx + r * (scaled - dx))", "dx", "tests/editors/test_sync_sde.py"),
    Mutation("noise keyed without the seed", "lib/core/noise.py",
             '{case_id}\\0{self.seed}\\0{int(step)}', '{case_id}\\0{int(step)}', "tests/core/test_noise.py"),
)
# fmt: on


def run_tests(tree: Path, *tests: str) -> tuple[int, str]:
    """Exit code and output of pytest in a tree, up to the first failure."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    environment = os.environ | {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


def noticed_by(tree: Path, mutation: Mutation) -> str | None:
    """The first test that fails with the change; None if none does. AssertionError if the line is not there once."""
    file = tree / mutation.file
    text = file.read_text(encoding="utf-8")
    assert text.count(mutation.old) == 1, (mutation.file, mutation.old)
    file.write_text(text.replace(mutation.old, mutation.new), encoding="utf-8")
    try:
        code, said = run_tests(tree, mutation.tests)
    finally:
        file.write_text(text, encoding="utf-8")
    found = FAILED.search(said)
    return found["test"] if code == 1 and found else None


def report(found: dict[Mutation, str | None], control: str) -> str:
    """A Markdown table, a row per mutation."""
    lines = [
        "# Mutations",
        "",
        "`python -m bench.mutations`: one line of the library is changed at a time; the tests that should notice run.",
        f"Control, nothing changed: {control}.",
        "",
        "| what is wrong | file | noticed by |",
        "|---|---|---|",
    ]
    for mutation, test in found.items():
        lines.append(f"| {mutation.what} | `{mutation.file}` | {f'`{test}`' if test else '**nothing**'} |")
    noticed = sum(test is not None for test in found.values())
    return "\n".join([*lines, "", f"{noticed} of {len(found)} noticed."]) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the control and every mutation; print the table and write it. 1 if one was missed, 2 if the control fails."""
    parser = argparse.ArgumentParser(description="Change one line at a time and see whether the tests notice.")
    parser.add_argument("--out", default="bench/mutations.md", help="file to write, relative to the repository")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(*LEFT_OUT))
        code, said = run_tests(tree, *sorted({mutation.tests for mutation in MUTATIONS}))
        if code != 0:
            print(f"the control run fails:\n{said}")
            return 2
        control = re.search(r"\d+ passed.*?(?= in )", said)
        print(f"control: {control[0]}", flush=True)
        found = {}
        for mutation in MUTATIONS:
            found[mutation] = noticed_by(tree, mutation)
            print(f"{'noticed' if found[mutation] else 'MISSED '}  {mutation.what}", flush=True)
    text = report(found, control[0])
    print(text)
    resolve(given.out).write_text(text, encoding="utf-8")
    return 0 if all(found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
