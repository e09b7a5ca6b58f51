"""The command line of the benchmarks: what it prints, and one clear line where something is not as it must be."""

import subprocess
import sys

import pytest

from lib.bench.__main__ import main
from lib.bench.export import read_back
from lib.bench.world import world_cases
from lib.core.paths import ROOT
from tests.bench.layouts import write_flowedit, write_photos, write_pie


@pytest.fixture(scope="module")
def pie(tmp_path_factory):
    return write_pie(tmp_path_factory.mktemp("pie"))


def said(capsys, *arguments):
    """Exit code, output and errors of a command."""
    code = main([str(argument) for argument in arguments])
    return code, *capsys.readouterr()


def test_the_shipped_photographs_are_verified(capsys):
    wanted = "photos: every file read, 3 photos: as many as there should be\n"
    assert said(capsys, "verify", "photos") == (0, wanted, "")


def test_a_folder_is_verified(tmp_path, capsys):
    assert said(capsys, "verify", "photos", write_photos(tmp_path))[0] == 0
    (tmp_path / "car.png").write_bytes((tmp_path / "car.png").read_bytes()[:-50])
    code, out, err = said(capsys, "verify", "photos", tmp_path)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: image {tmp_path}/car.png: found unreadable bytes") and err.count("\n") == 1


def test_other_numbers_are_an_error_unless_they_do_not_matter(pie, tmp_path, capsys):
    wanted = f"error: {pie}/mapping_file.json, number of cases of type 0: found 1; expected 140\n"
    assert said(capsys, "verify", "pie-bench", pie) == (2, "", wanted)
    wanted = "pie-bench: every file read, 4 cases (type 0: 1, type 1: 1, type 2: 1, type 9: 1); numbers not compared\n"
    assert said(capsys, "verify", "pie-bench", pie, "--any-number") == (0, wanted, "")
    wanted = "flowedit: every file read, 6 cases (no type: 6); numbers not compared\n"
    assert said(capsys, "verify", "flowedit", write_flowedit(tmp_path / "set"), "--any-number") == (0, wanted, "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["verify", "moon"], "benchmark: found 'moon'; expected one of world, photos"),
        (["verify", "world"], "benchmark to verify: found 'world'"),
        (["verify", "world", "--any-number"], "benchmark to verify: found 'world'"),
        (["verify", "pie-bench"], "folder of benchmark 'pie-bench': found none; expected"),
        (["verify", "pie-bench", "no-such-folder"], "no-such-folder: found no such folder"),
        (["export", "README.md"], "README.md: found something there already"),
        (["export", "README.md/x"], "README.md/x: found "),
        (["export", "x" * 300], "File name too long"),
        (["export", "x", "--count", "0"], "number of cases of 'world': found 0"),
        (["export", "x", "--split", "moon"], "world split: found 'moon'"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(arguments, words, capsys):
    code, out, err = said(capsys, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: ") and words in err
    assert not (ROOT / "x").exists()


def test_an_export_is_the_world_and_verifies(tmp_path, capsys):
    code, out, _ = said(capsys, "export", tmp_path / "world", "--count", 10, "--seed", 3, "--split", "tune")
    assert (code, out) == (0, f"10 edits of the world (split tune, seed 3) in PIE-Bench's layout: {tmp_path}/world\n")
    found = {case.id: case.target_prompt for case in read_back(tmp_path / "world")}
    assert found == {case.id: case.target_prompt for case in world_cases("tune", 10, seed=3)}
    assert said(capsys, "verify", "pie-bench", tmp_path / "world", "--any-number")[0] == 0


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, capsys, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lib.bench.export._save_jpeg", full)
    assert said(capsys, "export", tmp_path / "world", "--count", 1) == (
        2,
        "",
        "error: [Errno 28] No space left on device\n",
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("arguments", [[], ["dance"], ["export"], ["export", "x", "--count", "many"]])
def test_bad_arguments_end_with_usage(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "usage: python -m lib.bench" in capsys.readouterr().err


def test_the_command_itself():
    done = subprocess.run(
        [sys.executable, "-m", "lib.bench", "verify", "pie-bench", "nowhere"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: folder {ROOT}/nowhere: found no such folder; expected the folder of a benchmark\n"
