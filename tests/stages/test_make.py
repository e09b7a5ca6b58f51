"""The Makefile's environment and CI's script, with stand-ins for Python and make."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from lib.core.paths import ROOT

STAND_IN = '#!/bin/sh\necho "$@" >> "$LOG"\nexit "${STATUS:-0}"\n'


def stand_in(path: Path) -> None:
    """A program that writes its arguments to $LOG and ends with $STATUS."""
    path.parent.mkdir(parents=True)
    path.write_text(STAND_IN)
    path.chmod(0o755)


def run(folder: Path, *command: str, **environment: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run a command there; also what the stand-in was called with."""
    log = folder / "log"
    log.write_text("")
    own = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
    own |= {"LOG": str(log), **environment}
    done = subprocess.run(command, cwd=folder, env=own, capture_output=True, text=True, check=False)
    return done, log.read_text().splitlines()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("Makefile", "requirements.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    stand_in(tmp_path / ".venv" / "bin" / "python")
    return tmp_path


def test_the_environment_is_made_once(folder: Path) -> None:
    done, calls = run(folder, "make", "env")
    assert done.returncode == 0, done.stderr
    assert "Installing what requirements.txt lists" in done.stdout
    assert [call.split()[1] for call in calls] == ["pip", "compileall", "pip"]
    done, calls = run(folder, "make", "env")
    assert (done.stdout, done.stderr, calls) == ("", "", [])


@pytest.mark.parametrize("days", [-9000, 1, 400])
def test_a_clock_that_was_set_installs_nothing(folder: Path, days: int) -> None:
    run(folder, "make", "env")
    when = time.time() + days * 86400
    for name in ("requirements.txt", "pyproject.toml"):
        os.utime(folder / name, (when, when))
    done, calls = run(folder, "make", "env")
    assert (done.stdout, done.stderr, calls) == ("", "", [])


@pytest.mark.parametrize("name", ["requirements.txt", "pyproject.toml"])
def test_another_version_is_installed_whatever_its_date(folder: Path, name: str) -> None:
    run(folder, "make", "env")
    text = (folder / name).read_text()
    (folder / name).write_text(text + "# another\n")
    os.utime(folder / name, (1, 1))
    assert len(run(folder, "make", "env")[1]) == 3
    assert run(folder, "make", "env")[1] == []
    (folder / name).write_text(text)
    assert len(run(folder, "make", "env")[1]) == 3


def test_an_install_that_failed_is_tried_again(folder: Path) -> None:
    run(folder, "make", "env")
    text = (folder / "requirements.txt").read_text()
    (folder / "requirements.txt").write_text(text + "# another\n")
    assert run(folder, "make", "env", STATUS="1")[0].returncode == 2
    (folder / "requirements.txt").write_text(text)  # what is installed now is neither
    assert len(run(folder, "make", "env")[1]) == 3


def test_a_dry_run_installs_nothing_and_says_what_it_would(folder: Path) -> None:
    done, calls = run(folder, "make", "-n", "repro")
    assert calls == []
    assert "pip install" in done.stdout
    run(folder, "make", "env")
    assert "pip install" not in run(folder, "make", "-n", "repro")[0].stdout


@pytest.mark.parametrize(("aim", "end"), [({}, "1500 s, reached"), ({"AIM": "-1"}, "-1 s, missed")])
def test_ci_says_how_long_each_step_took(tmp_path: Path, aim: dict[str, str], end: str) -> None:
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci" / "run")
    stand_in(tmp_path / "bin" / "make")
    path = os.pathsep.join([str(tmp_path / "bin"), os.environ["PATH"]])
    done, calls = run(tmp_path, ".ci/run", PATH=path, **aim)
    assert calls == ["env", "test", "repro SCALE=smoke"]
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["make env", "make test", "make repro SCALE=smoke", "in all"]
    assert lines[-1].endswith(f"the aim is {end}")


def test_ci_stops_at_a_step_that_fails(tmp_path: Path) -> None:
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci" / "run")
    stand_in(tmp_path / "bin" / "make")
    path = os.pathsep.join([str(tmp_path / "bin"), os.environ["PATH"]])
    done, calls = run(tmp_path, ".ci/run", PATH=path, STATUS="7")
    assert calls == ["env"]
    assert done.returncode == 7
