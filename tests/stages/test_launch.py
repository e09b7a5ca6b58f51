"""Edits under a real `accelerate launch`: the same bytes from any number of processes, and after one was killed."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lib.core.paths import ROOT
from lib.editors.run_folder import unfinished
from tests import tiny

CASES = 6
EDIT = """\
import os
import random
import signal
import sys

from lib.bench import registry
from lib.editors import shards
from lib.stages.edit import main

real_write, real_open = shards.write_batch, registry.open_benchmark


def write_batch(out, number, *rest):
    if str(number) == os.environ.get("DIE_AT"):
        os.kill(os.getpid(), signal.SIGKILL)
    real_write(out, number, *rest)


def open_benchmark(*arguments, **options):
    cases = list(real_open(*arguments, **options))
    random.Random(1).shuffle(cases)
    return cases


shards.write_batch = write_batch
if "SHUFFLED" in os.environ:
    registry.open_benchmark = open_benchmark
sys.exit(main())
"""  # `python -m lib.stages.edit`, but for a death or another order that the environment asks for
Launch = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def launch(tmp_path_factory: pytest.TempPathFactory) -> Launch:
    """`accelerate launch` of so many processes that edit cases of the world into a folder, one case a batch."""
    home = tmp_path_factory.mktemp("launch")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny, "TEXT_TOKENS", 160)
        backbone = tiny.build_flux(home / "flux")
    (home / "edit.py").write_text(EDIT)
    plain = ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    asked = ["--editor", "sdedit", "--benchmark", "world", "--backbone", str(backbone), "--count", str(CASES)]
    asked += ["--batch-size", "1", "--settings", "steps=2", "start=.5"]

    def run(processes: int, out: Path, **environment: str) -> subprocess.CompletedProcess[str]:
        # `--cpu` would start one process only, whatever the number; `--multi_gpu` starts them all, also without a GPU.
        many = ["--multi_gpu"] if processes > 1 else []
        accelerate = [Path(sys.executable).with_name("accelerate"), "launch", *many, "--num_processes", str(processes)]
        own = os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""} | environment
        command = [*accelerate, *plain, str(home / "edit.py"), *asked, "--out", str(out)]
        return subprocess.run(command, cwd=home, env=own, capture_output=True, text=True, check=False)

    return run


def files(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def whole(launch: Launch, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a run in one process, which would have more threads than the launcher gives to each of several."""
    out = tmp_path_factory.mktemp("whole") / "run"
    done = launch(1, out, OMP_NUM_THREADS="2")
    assert done.returncode == 0, done.stderr
    made = files(out)
    assert made["results.csv"].count(b",done,") == CASES
    return made


def test_two_processes_with_the_cases_in_another_order(launch: Launch, whole: dict[str, bytes], tmp_path: Path) -> None:
    done = launch(2, tmp_path, SHUFFLED="1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("process ") + done.stdout.count("cases expected") >= 2  # each said how it ended
    assert files(tmp_path) == whole


def test_resumed_after_one_of_two_processes_was_killed(launch: Launch, whole: dict[str, bytes], tmp_path: Path) -> None:
    died = launch(2, tmp_path, DIE_AT="3")
    assert died.returncode != 0
    assert "SIGKILL" in died.stderr
    left = unfinished(tmp_path)
    assert {3, 5} <= set(left)  # its share from the one at which it died; the other may have been ended anywhere
    assert 1 not in left
    assert not (tmp_path / "results.csv").exists()
    done = launch(2, tmp_path)
    assert done.returncode == 0, done.stderr
    assert files(tmp_path) == whole
