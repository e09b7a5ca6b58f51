import errno
import sqlite3
from collections.abc import Callable

import pytest

from lib.stages.__main__ import main

from .conftest import Project


def test_the_scale_is_set_from_the_command_line(project: Project) -> None:
    stays = "scale stays full; make repro SCALE=default goes back\n"
    assert project.must("lib.stages", "scale", "full") == "params.yaml: scale full\n" + stays
    assert "scale: full  # and this" in (project.root / "params.yaml").read_text()
    assert project.must("lib.stages", "scale", "full") == "params.yaml: scale full, as before\n" + stays
    assert project.must("lib.stages", "scale", "default") == "params.yaml: scale default\n"
    refused = project.run("lib.stages", "scale", "tiny")
    assert refused.returncode == 2
    assert refused.stderr == "error: scale: found tiny; expected one of smoke, default, full\n"


def test_dependencies_are_printed_one_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["deps", "lib.stages.config"]) == 0
    assert capsys.readouterr().out == "lib/core/errors.py\nlib/core/paths.py\nlib/stages/config.py\n"
    assert main(["deps", "lib.nothing"]) == 2
    assert capsys.readouterr().err.startswith("error: module lib.nothing: found no such file")


def test_what_the_disk_did_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(error: Exception) -> Callable[[], None]:
        def look() -> None:
            raise error

        return look

    monkeypatch.setattr("lib.stages.plan.look", full(OSError(errno.ENOSPC, "No space left on device")))
    assert main(["fetch"]) == 2
    expected = "a disk with room, and leave to write there"
    said = capsys.readouterr().err
    assert said == f"error: what `fetch` writes: found No space left on device; expected {expected}\n"
    monkeypatch.setattr("lib.stages.plan.look", full(sqlite3.OperationalError("database or disk is full")))
    assert main(["fetch"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(
        "error: what `fetch` writes, in DVC's records below .dvc/tmp: found database or disk is full"
    )
    monkeypatch.setattr("lib.stages.plan.look", full(OSError(errno.ENOENT, "No such file")))
    with pytest.raises(OSError, match="No such file"):
        main(["fetch"])


def test_an_unknown_verb_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["dance"])
    assert stopped.value.code == 2
    assert "invalid choice: 'dance'" in capsys.readouterr().err
