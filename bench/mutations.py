"""Planted faults: does the suite notice? Each is one change of one line, tried on a copy of the tree.

python -m bench.mutations
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from lib.core.paths import ROOT

# fmt: off
MUTATIONS = {  # what is wrong: file, old, new, tests that should notice
    "mask polarity, official": (
        "lib/metrics/official.py", '{"unedit": ~mask, "edit": mask', '{"unedit": mask, "edit": ~mask', "tests/metrics"),
    "mask polarity, strict": (
        "lib/metrics/pixels.py", "background = (~mask).double()", "background = mask.double()", "tests/metrics"),
    "structure distance fed 0 to 1 instead of 0 to 255": (
        "lib/metrics/official.py", "keys, scale=255.0", "keys, scale=1.0", "tests/metrics"),
    "LPIPS range swapped": (
        "lib/metrics/perceptual.py", "(2 * images - 1 - shift) / scale", "(images - shift) / scale", "tests/metrics"),
    "border ring left out": (
        "lib/metrics/official.py", "mask = with_border(mask) if border else mask", "mask = mask.clone()",
        "tests/metrics"),
    "Holm skipped": (
        "lib/claims/verdict.py", "zip(family, holm(raw).tolist(), strict=True)", "zip(family, raw, strict=True)",
        "tests/claims"),
    "PIE runs read down the columns": (
        "lib/bench/rle.py", "mask = mask.view(1, SIDE, SIDE)", "mask = mask.view(SIDE, SIDE).T.clone()[None]",
        "tests/bench/test_rle.py"),
    "FlowEdit's source velocity left out": (
        "lib/editors/flowedit.py", "backbone.velocity(y, t, target) - backbone.velocity(x, t, source)",
        "backbone.velocity(y, t, target) - 0 * backbone.velocity(x, t, source)", "tests/editors/test_flowedit.py"),
    "sync-SDE without its contraction": (
        "lib/editors/sync_sde.py", "(dx + r * (scaled - dx))", "dx", "tests/editors/test_sync_sde.py"),
    "noise keyed without the seed": (
        "lib/core/noise.py", '{case_id}\\0{self.seed}\\0{int(step)}', '{case_id}\\0{int(step)}',
        "tests/core/test_noise.py"),
}
# fmt: on


def noticed(file: str, old: str, new: str, tests: str) -> bool:
    """Whether the tests fail on a copy of the tree with this one change. AssertionError if the line is not there."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "tree"
        ignored = shutil.ignore_patterns(".git", ".venv", ".dvc", ".scratch", "store", "runs", "models", "__pycache__")
        shutil.copytree(ROOT, copy, ignore=ignored)
        text = (copy / file).read_text(encoding="utf-8")
        assert text.count(old) == 1, (file, old)
        (copy / file).write_text(text.replace(old, new), encoding="utf-8")
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", tests]
        environment = os.environ | {"PYTHONPATH": str(copy)}
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
        return done.returncode == 1 and " failed" in done.stdout


def main() -> int:
    missed = 0
    for name, (file, old, new, tests) in MUTATIONS.items():
        seen = noticed(file, old, new, tests)
        missed += not seen
        print(f"{'noticed' if seen else 'MISSED ':8} {name} ({file})", flush=True)
    print(f"{len(MUTATIONS) - missed} of {len(MUTATIONS)} noticed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
