"""The command line of sharded editing, on a random FLUX that reads the world's captions."""

import multiprocessing
import os
import shutil
import signal

import pandas as pd
import pytest
import torch

from lib.backbones.load import load_backbone
from lib.bench.registry import open_benchmark
from lib.core.errors import InputError
from lib.core.images import load_image, save_png
from lib.core.recipe import hash_tensor
from lib.editors import shards
from lib.editors.arguments import read_settings
from lib.editors.run import run_editor
from lib.learning import parser as parsers
from lib.metrics.score import score
from lib.metrics.tables import PLAIN, TABLE
from lib.stages.edit import main, place_among_processes
from lib.stages.edit_scores import score_folder
from tests import tiny

COUNT = 5
BATCH = 2
BARE = ("--clip", "none", "--identity", "none")  # scores that need no network but the parser


class Reads:
    """A parser that always reads the same."""

    def read(self, images):
        return [{"background": "red"} for _ in images]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny, "TEXT_TOKENS", 160)
        return tiny.build_flux(tmp_path_factory.mktemp("flux"))


@pytest.fixture(scope="module")
def command(folder):
    """What a run of five cases of the world in three batches is asked for with, but for its folder."""
    return [
        *("--editor", "sdedit", "--benchmark", "world", "--backbone", str(folder)),
        *("--count", str(COUNT), "--batch-size", str(BATCH), "--settings", "steps=2", "start=.5"),
    ]


@pytest.fixture(scope="module")
def whole(command, tmp_path_factory):
    """The folder of a run in one process. Leave it as it is."""
    out = tmp_path_factory.mktemp("whole") / "run"
    assert main([*command, "--out", str(out)]) == 0
    return out


def start(*arguments, **environment):
    """`main` in a process of its own, as a launcher starts it; ends with the exit code of `main`."""

    def work():
        os.environ.update(environment)
        raise SystemExit(main([str(argument) for argument in arguments]))

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    return process


def files(out):
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_a_run_holds_what_run_editor_gives(whole, command):
    backbone = load_backbone(command[5])
    cases = open_benchmark("world", count=COUNT)
    edited = run_editor("sdedit", backbone, cases, {"steps": 2, "start": 0.5}, batch_size=BATCH)
    for one in edited:
        assert torch.equal(load_image(whole / "images" / f"{one.case_id}.png"), one.image)
    table = pd.read_csv(whole / "results.csv")
    assert list(table["case"]) == [case.id for case in cases]
    assert set(table["status"]) == {"done"}


def test_two_processes_of_a_launcher_give_the_same_bytes(whole, command, tmp_path):
    """Whoever ends last merges."""
    both = [start(*command, "--out", tmp_path, RANK=str(rank), WORLD_SIZE="2") for rank in (0, 1)]
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert files(tmp_path) == files(whole)


def test_a_killed_run_goes_on_to_the_same_bytes(whole, command, tmp_path, monkeypatch):
    real = shards.write_batch

    def dying(out, number, *rest):
        if number == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        real(out, number, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(shards, "write_batch", dying)
        process = start(*command, "--out", tmp_path)
        process.join()
    assert process.exitcode == -signal.SIGKILL
    assert main([*command, "--out", str(tmp_path)]) == 0
    assert files(tmp_path) == files(whole)


def test_a_process_that_ends_first_neither_merges_nor_fails(command, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PMI_RANK", "1")
    monkeypatch.setenv("PMI_SIZE", "2")
    assert main([*command, "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "process 1 of 2 is done; others have 2 batches to go\n"
    assert not (tmp_path / "results.csv").exists()
    assert main(["--merge", "--out", str(tmp_path)]) == 2
    assert "found 3 of 5 cases missing: world-test-0-00000 (batch 0 is not finished)" in capsys.readouterr().err


def test_failures_are_counted_listed_and_tried_again(whole, command, tmp_path, monkeypatch, capsys):
    real = shards.edit_batch

    def failing(editor, backbone, batch, *rest, **options):
        if "world-test-0-00002" in batch.ids:
            raise torch.OutOfMemoryError
        return real(editor, backbone, batch, *rest, **options)

    monkeypatch.setattr(shards, "edit_batch", failing)
    assert main([*command, "--out", str(tmp_path)]) == 3
    said = capsys.readouterr()
    assert said.out == "5 cases expected = 3 edited + 2 failed; see results.csv\n"
    assert "failed: world-test-0-00002: out of memory\n" in said.err
    assert main(["--merge", "--out", str(tmp_path)]) == 3
    cases = open_benchmark("world", count=COUNT)
    assert score_folder(tmp_path, cases, Reads()) == 3
    assert set(pd.read_parquet(tmp_path / "scores.parquet")["case"]) == {cases[i].id for i in (0, 1, 4)}
    for name in ("scores.parquet", "summary.csv"):
        (tmp_path / name).unlink()
    monkeypatch.undo()
    assert main(["--retry", "--out", str(tmp_path)]) == 0
    assert main([*command, "--out", str(tmp_path)]) == 0
    assert files(tmp_path) == files(whole)


def test_scores_are_those_of_the_results_in_memory(whole, command, tmp_path, monkeypatch, capsys):
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr(parsers, "load_parser", lambda folder: Reads())
    assert main(["--score", "--out", str(tmp_path), *BARE]) == 0
    wanted = "5 cases expected = 5 scored + 0 failed; see scores.parquet and summary.csv\n"
    assert capsys.readouterr().out.endswith(wanted)
    cases = open_benchmark("world", count=COUNT)
    edited = run_editor("sdedit", load_backbone(command[5]), cases, {"steps": 2, "start": 0.5}, batch_size=BATCH)
    found = pd.read_parquet(tmp_path / "scores.parquet")
    assert list(found.columns) == ["case", "arm", "seed", "metric", "value", "stratum", "extractor"]
    assert set(found["metric"]) <= {*TABLE, *PLAIN}
    found["metric"] = found["metric"].str.removeprefix("strict/")  # what a notebook shows without its namespace
    keys = ["case", "arm", "seed", "metric"]
    expected = pd.DataFrame(score(edited, cases, Reads())).set_index(keys)["value"]
    assert len(expected) == 6 * COUNT
    own = found.set_index(keys)["value"].loc[expected.index]
    pd.testing.assert_series_equal(own, expected)
    assert set(found.loc[found["metric"] == "nfe", "value"]) == {edited[0].nfe}
    assert dict(zip(found["case"], found["stratum"], strict=True)) == {case.id: case.edit_type for case in cases}
    before = files(tmp_path)
    assert score_folder(tmp_path, cases[::-1], Reads()) == COUNT
    assert files(tmp_path) == before


def test_images_are_scored_only_with_the_cases_they_were_made_from(whole):
    cases = open_benchmark("world", count=COUNT)
    with pytest.raises(InputError, match="1 that are in one but not in the other, world-test-0-00004"):
        score_folder(whole, cases[:4])
    others = [*cases[:4], type(cases[4])(**vars(cases[4]) | {"image": 1 - cases[4].image})]
    with pytest.raises(InputError, match=rf"source_hash of case '{cases[4].id}'.*{hash_tensor(others[4].image)}"):
        score_folder(whole, others)
    assert not (whole / "scores.parquet").exists() and not (whole / "summary.csv").exists()


def test_a_damaged_image_is_neither_scored_nor_merged(whole, tmp_path):
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    save_png(torch.zeros(3, 64, 64), tmp_path / "images" / "world-test-0-00003.png")
    with pytest.raises(InputError, match=r"1 of 5 cases missing: world-test-0-00003 \(its image is gone or damaged\)"):
        score_folder(tmp_path, open_benchmark("world", count=COUNT))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--seed", "1"], "error: seed of the run in "),
        (["--settings", "steps=3"], "error: settings.steps of the run in "),
        (["--count", "4"], "error: count of the run in "),
        (["--editor", "pencil"], "error: editor: found 'pencil'; expected one of "),
        (["--benchmark", "moon"], "error: benchmark: found 'moon'; expected one of "),
        (["--backbone", "models/none"], "error: model models/none: found no such folder"),
        (["--split", "moon"], "error: world split: found 'moon'"),
        (["--folder", "x"], "error: folder of benchmark 'world': found x"),
        (["--settings", "steps"], "error: --settings: found 'steps'; expected key=value"),
        (["--settings", "step=3"], "error: settings of 'sdedit': found unknown step"),
        (["--settings", "steps=x"], "error: setting 'steps': found 'x' (str)"),
        (["--guidance-mode", "none"], "error: guidance_mode: found 'none'"),
        (["--offload"], "found the CPU as its device"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(whole, command, capsys, change, words):
    before = files(whole)
    assert main([*command, *change, "--out", str(whole)]) == 2
    said = capsys.readouterr().err.splitlines()
    assert words in said[-1]
    assert files(whole) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "the following arguments are required: --out"),
        (["--out", "x"], "nothing to do"),
        (["--out", "x", "--editor", "sdedit"], "--editor needs --benchmark and --backbone"),
        (["--out", "x", "--editor", "sdedit", "--benchmark", "world"], "--editor needs --backbone"),
        (["--out", "x", "--merge", "--batch-size", "0"], "argument --batch-size: found '0'; expected a whole number"),
        (["--out", "x", "--merge", "--count", "many"], "argument --count: found 'many'; expected a whole number"),
        (["--out", "x", "--merge", "--dtype", "int8"], "argument --dtype: invalid choice"),
        (["--out", "x", "--score", "--namespace", "pie"], "argument --namespace: invalid choice"),
        (["--out", "x", "--score", "--sets", "vgg"], "argument --sets: invalid choice"),
    ],
)
def test_bad_arguments_end_with_usage(arguments, words, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert words in capsys.readouterr().err


def test_help_names_every_argument_and_exit_code(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    said = capsys.readouterr().out
    words = ("--editor", "--guidance-mode", "--retry", "--namespace", "--clip", "--dino", "--lpips", "--identity")
    assert all(word in said for word in (*words, "3 some cases failed", "accelerate"))


def test_settings_are_read_from_words():
    words = ["steps=5", "start=.5", "a=True", "b=true", "c=false", "d=linear", "e=1e-3", "f=x=y"]
    expected = {"steps": 5, "start": 0.5, "a": True, "b": True, "c": False, "d": "linear", "e": 1e-3, "f": "x=y"}
    assert read_settings(words) == expected
    with pytest.raises(InputError, match="steps twice"):
        read_settings(["steps=5", "steps=6"])


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, (0, 1)),
        ({"RANK": "1", "WORLD_SIZE": "3", "PMI_RANK": "2", "PMI_SIZE": "4"}, (1, 3)),
        ({"OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_SIZE": "3"}, (2, 3)),
    ],
)
def test_a_launcher_says_who_a_process_is(environment, expected):
    assert place_among_processes(environment) == expected


@pytest.mark.parametrize("environment", [{"RANK": "2", "WORLD_SIZE": "2"}, {"RANK": "1"}, {"WORLD_SIZE": "two"}])
def test_a_launcher_that_says_nonsense_is_refused(environment):
    with pytest.raises(InputError, match=r"rank of this process|environment variable WORLD_SIZE"):
        place_among_processes(environment)
