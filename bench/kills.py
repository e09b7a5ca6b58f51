"""Kill `make repro` at random moments, run it again at once, and compare every output with an undisturbed run.

The pipeline is the small one of the tests (notebooks as stages, scratch, publishing, DVC: all real; only the work in
the notebook is short). The victim is the whole process group, make, DVC or the stage; the signal is KILL or TERM.

    python -m bench.kills --trials 30 --seed 0
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil

from tests.stages.conftest import Project, begin_pipeline

VICTIMS = {"group": None, "make": "make", "dvc": "dvc repro", "stage": "lib.stages.notebook"}
PRODUCTS = ("runs/two/executed.ipynb", "runs/two/table.csv", "runs/two/metrics.json", "runs/sources/two.ipynb")


def hashes(root: Path) -> dict[str, str]:
    """SHA-256 of every product that is there."""
    return {
        name: hashlib.sha256((root / name).read_bytes()).hexdigest() for name in PRODUCTS if (root / name).is_file()
    }


def due(done: Path, place: Path) -> Project:
    """A copy of the finished project in which two of the stages are due."""
    project = Project(shutil.copytree(done, place, symlinks=True))
    (project.root / "Makefile").write_text(f"repro:\n\t@LONG=1 {sys.executable} -m lib.stages repro\n")
    params = project.root / "params.yaml"
    params.write_text(params.read_text().replace("rate: 1e-1", "rate: 2e-1"))
    return project


def start(project: Project) -> subprocess.Popen[bytes]:
    quiet = subprocess.DEVNULL
    return subprocess.Popen(
        ["make", "repro"], cwd=project.root, env=project.environment, stdout=quiet, stderr=quiet, start_new_session=True
    )


def strike(child: subprocess.Popen[bytes], victim: str, how: signal.Signals) -> bool:
    """Send the signal to the victim; False if it is not (or no longer) there."""
    if victim == "group":
        os.killpg(child.pid, how)
        return True
    for process in [psutil.Process(child.pid), *psutil.Process(child.pid).children(recursive=True)]:
        try:
            if VICTIMS[victim] in " ".join(process.cmdline()):
                process.send_signal(how)
                return True
        except psutil.Error:
            continue
    return False


def trial(done: Path, place: Path, wanted: dict[str, str], seconds: float, rng: random.Random) -> str:
    """One kill and one re-run: "equal", "missed" (nothing to kill at that moment) or what went wrong."""
    victim, how = rng.choice(list(VICTIMS)), rng.choice([signal.SIGKILL, signal.SIGTERM])
    project = due(done, place)
    child = start(project)
    moment = time.monotonic() + rng.uniform(0.05, 0.95) * seconds
    while time.monotonic() < moment and child.poll() is None:
        time.sleep(0.01)
    hit = child.poll() is None and strike(child, victim, how)
    if victim != "group" or not hit:  # make and DVC may outlive a stage that dies: they end by themselves
        child.wait(timeout=120)
    again = subprocess.run(
        ["make", "repro"], cwd=project.root, env=project.environment, capture_output=True, text=True, check=False
    )
    child.wait()
    verdict = "missed" if not hit else "equal"
    if again.returncode != 0:
        verdict = f"the re-run failed after {how.name} of {victim}: {again.stdout[-300:]}{again.stderr[-300:]}"
    elif hashes(project.root) != wanted:
        verdict = f"other outputs after {how.name} of {victim}"
    print(f"{how.name} of {victim}: {verdict}", flush=True)
    shutil.rmtree(place)
    return verdict


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rng = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        begun = begin_pipeline(home / "done")
        begun.must("lib.stages", "repro", LONG="1")
        undisturbed = due(begun.root, home / "undisturbed")
        before = time.monotonic()
        start(undisturbed).wait()
        seconds, wanted = time.monotonic() - before, hashes(undisturbed.root)
        found = Counter(trial(begun.root, home / "trial", wanted, seconds, rng) for _ in range(given.trials))
    print(f"undisturbed: {seconds:.1f} s; {dict(found)}")
    return 0 if set(found) <= {"equal", "missed"} else 1


if __name__ == "__main__":
    sys.exit(main())
