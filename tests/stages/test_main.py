import pytest

from lib.stages.__main__ import main

from .conftest import Project


def test_the_scale_is_set_from_the_command_line(project: Project) -> None:
    assert project.must("lib.stages", "scale", "full") == "params.yaml: scale full\n"
    assert "scale: full  # and this" in (project.root / "params.yaml").read_text()
    assert project.must("lib.stages", "scale", "full") == "params.yaml: scale full, as before\n"
    refused = project.run("lib.stages", "scale", "tiny")
    assert refused.returncode == 2
    assert refused.stderr == "error: scale: found tiny; expected one of smoke, default, full\n"


def test_dependencies_are_printed_one_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["deps", "lib.stages.config"]) == 0
    assert capsys.readouterr().out == "lib/core/errors.py\nlib/core/paths.py\nlib/stages/config.py\n"
    assert main(["deps", "lib.nothing"]) == 2
    assert capsys.readouterr().err.startswith("error: module lib.nothing: found no such file")


def test_an_unknown_verb_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["dance"])
    assert stopped.value.code == 2
    assert "invalid choice: 'dance'" in capsys.readouterr().err
