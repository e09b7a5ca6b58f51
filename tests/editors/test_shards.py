"""Sharded editing: the same bytes however it is dealt out or interrupted; nothing is lost without being listed."""

import errno
import json
import multiprocessing
import os
import signal
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from lib.core.errors import InputError
from lib.core.images import load_image, read_recipe
from lib.editors.anchors import ANCHORS
from lib.editors.registry import EDITORS
from lib.editors.run import run_editor
from lib.editors.run_folder import forget_failures, merge, unfinished
from lib.editors.shards import edit_shards, plan_batches
from tests.editors.analytic import Mixture, some_cases

SETTINGS = {"steps": 2}
BATCHES = [  # of `seven()`, three at a time: two sizes, padding where a size has more than one batch
    ["case-000", "case-001", "case-002"],
    ["case-003", "case-004"],
    ["wide/0", "wide/1"],
]


def seven():
    return some_cases(5) + [replace(case, id=f"wide/{i}") for i, case in enumerate(some_cases(2, size=12))]


class Watched:
    """SDEdit that keeps the ids of every batch it is given, and does something else at some of them."""

    def __init__(self, at=(), action=None):
        self.seen, self.at, self.action = [], at, action
        self.editor = replace(EDITORS["sdedit"], run=self.run)

    def run(self, backbone, batch, settings, **options):
        self.seen.append(list(dict.fromkeys(batch.ids)))
        if len(self.seen) - 1 in self.at:
            self.action()
        return EDITORS["sdedit"].run(backbone, batch, settings, **options)


def edit(out, cases=None, *, editor=EDITORS["sdedit"], settings=SETTINGS, backbone=None, about=None, **options):
    about, options = about or {"benchmark": "test"}, {"batch_size": 3} | options
    edit_shards(
        editor, backbone or Mixture(), seven() if cases is None else cases, settings, out, about=about, **options
    )


def run_watched(out, cases=None, at=(), action=None, **options):
    watched = Watched(at, action)
    edit(out, cases, editor=watched.editor, **options)
    return watched.seen


def exit_code(work):
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join()
    return process.exitcode


def kill_myself():
    os.kill(os.getpid(), signal.SIGKILL)


def files(out):
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The files of a run in one process."""
    out = tmp_path_factory.mktemp("whole") / "run"
    edit(out)
    merge(out)
    return files(out)


def test_a_run_holds_what_run_editor_gives(tmp_path, whole):
    edit(tmp_path)
    rows = {row["case"]: row for row in merge(tmp_path)}
    assert list(rows.values()) == merge(tmp_path)
    edited = run_editor("sdedit", Mixture(), seven(), SETTINGS, batch_size=3)
    assert list(rows) == sorted(one.case_id for one in edited)
    for one in edited:
        path = tmp_path / rows[one.case_id]["file"]
        assert torch.equal(load_image(path), one.image)
        assert read_recipe(path) == one.recipe
        assert rows[one.case_id] | {"seed": "0", "nfe": f"{one.nfe:g}", "status": "done"} == rows[one.case_id]
    assert files(tmp_path) == whole
    assert json.loads(whole["plan.json"])["batches"] == BATCHES
    lines = whole["results.csv"].decode().split("\n")
    assert lines[0] == "case,seed,file,sha256,nfe,status,reason"
    assert lines[6].startswith("wide/0,0,images/wide%2F0.png,")


@pytest.mark.parametrize("processes", [2, 3, 5])
def test_any_number_of_processes_gives_the_same_bytes(tmp_path, whole, processes):
    for rank in reversed(range(processes)):
        edit(tmp_path, rank=rank, processes=processes)
    merge(tmp_path)
    assert files(tmp_path) == whole


def test_two_processes_at_a_time_give_the_same_bytes(tmp_path, whole):
    context = multiprocessing.get_context("fork")
    both = [context.Process(target=edit, args=(tmp_path,), kwargs={"rank": rank, "processes": 2}) for rank in (0, 1)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    merge(tmp_path)
    assert files(tmp_path) == whole


def test_the_order_of_the_cases_does_not_matter(tmp_path, whole):
    edit(tmp_path, seven()[::-1])
    merge(tmp_path)
    assert files(tmp_path) == whole


def test_a_killed_run_goes_on_at_the_next_batch(tmp_path, whole):
    assert exit_code(lambda: run_watched(tmp_path, at=[1], action=kill_myself)) == -signal.SIGKILL
    assert unfinished(tmp_path) == [1, 2]
    assert run_watched(tmp_path) == BATCHES[1:]
    merge(tmp_path)
    assert files(tmp_path) == whole
    assert run_watched(tmp_path) == []


# 0 run.json, 1 plan.json, then the three images and the manifest of the first batch
@pytest.mark.parametrize(("write", "again"), [(0, 0), (1, 0), (2, 0), (4, 0), (5, 0), (6, 1)])
def test_a_run_that_was_killed_while_it_wrote_goes_on(tmp_path, whole, write, again):
    done, real = [], os.replace

    def dying(*paths):
        done.append(paths)
        if len(done) > write:
            kill_myself()
        real(*paths)

    def work():
        os.replace = dying
        edit(tmp_path)

    assert exit_code(work) == -signal.SIGKILL
    assert run_watched(tmp_path) == BATCHES[again:]
    merge(tmp_path)
    assert files(tmp_path) == whole  # with nothing beside it that was begun and never renamed


def test_what_a_killed_process_had_begun_to_write_is_swept_away_and_nothing_else(tmp_path, whole):
    cases = [replace(case, id=f".{case.id}") for case in some_cases(2)]
    edit(tmp_path, cases)
    merge(tmp_path)
    clean = files(tmp_path)
    assert "images/.case-000.png" in clean
    for name in (".run.json.1", ".plan.json.1", ".results.csv.1", "images/.a.png.1", "manifest/.000000.json.1"):
        (tmp_path / name).touch()
    merge(tmp_path)
    assert files(tmp_path) == clean


def test_a_half_that_another_process_swept_away_is_written_again(tmp_path, whole, monkeypatch):
    real, swept = os.replace, set()

    def sweeping(half, path):
        if path not in swept:
            swept.add(path)
            os.unlink(half)
        real(half, path)

    monkeypatch.setattr(os, "replace", sweeping)
    edit(tmp_path)
    merge(tmp_path)
    assert files(tmp_path) == whole
    assert len(swept) == len(whole)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_folder_that_can_no_longer_be_written_to_is_named_and_keeps_what_is_finished(
    tmp_path, whole, monkeypatch, code
):
    real, done = os.replace, []

    def failing(*paths):
        done.append(paths)
        if len(done) > 7:  # in the second batch
            raise OSError(code, os.strerror(code))
        real(*paths)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(InputError, match=rf"case-004\.png: found {os.strerror(code)}; expected a place to write to"):
        edit(tmp_path)
    monkeypatch.undo()
    assert [name for name in files(tmp_path) if ".png." in name or ".json." in name] == []
    assert run_watched(tmp_path) == BATCHES[1:]
    merge(tmp_path)
    assert files(tmp_path) == whole


class Broken(Sequence):
    """Cases on disk, one of which cannot be read."""

    def __init__(self, cases, at):
        self.cases, self.at = cases, at

    def __len__(self):
        return len(self.cases)

    def __getitem__(self, index):
        if index == self.at:
            raise InputError("image x.png", found="unreadable bytes", expected="a whole\nimage file")
        return self.cases[index]


def test_cases_that_cannot_be_edited_are_listed_and_move_no_other(tmp_path, whole):
    spoilt = {
        "case-000a": {"target_prompt": " "},
        "case-000b": {"source_prompt": None},
        "case-000c": {"image": torch.full((3, 8, 8), torch.nan)},
        "case-000d": {"image": torch.zeros(8, 8)},
        "case-000e": {"mask": torch.zeros(1, 8, 9, dtype=torch.bool)},
        "case-000" + "f" * 300: {},
    }
    (case,) = some_cases(1)
    bad = [replace(case, id=name, **change) for name, change in spoilt.items()]
    cases = Broken([*seven()[:4], *bad, replace(case, id="case-000g"), *seven()[4:]], 10)
    flowedit = EDITORS["flowedit"]
    edit(tmp_path / "spoilt", cases, editor=flowedit)
    edit(tmp_path / "clean", editor=flowedit)
    rows, clean = merge(tmp_path / "spoilt"), merge(tmp_path / "clean")
    assert [row for row in rows if row["status"] == "done"] == clean
    reasons = {row["case"]: row["reason"] for row in rows if row["status"] == "failed"}
    assert set(reasons) == {*spoilt, "unread-00010"}
    assert reasons["unread-00010"] == "image x.png: found unreadable bytes; expected a whole image file"
    words = ("target prompt of", "source prompt of", "not finite", "image of case", "mask of case", "308 characters")
    assert [name for name, word in zip(spoilt, words, strict=True) if word not in reasons[name]] == []
    with pytest.raises(InputError, match="cases_hash of the run"):
        edit(tmp_path / "spoilt", Broken(cases.cases, None), editor=flowedit)


def test_a_prompt_that_the_tokenizer_refuses_costs_only_its_own_case(tmp_path, flux):
    cases = [replace(case, target_prompt="a cat", source_prompt="a dog") for case in some_cases(3, size=32)]
    cases[1] = replace(cases[1], target_prompt="a cat " * 30)
    cases[2] = replace(cases[2], source_prompt="a 猫")
    edit(tmp_path / "flowedit", cases, editor=EDITORS["flowedit"], backbone=flux)
    edit(tmp_path / "sdedit", cases, backbone=flux)
    assert [row["status"] for row in merge(tmp_path / "flowedit")] == ["done", "failed", "failed"]
    assert [row["status"] for row in merge(tmp_path / "sdedit")] == ["done", "failed", "done"]  # reads no source prompt


def raising(error):
    def action():
        raise error

    return action


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (torch.OutOfMemoryError("tried to allocate 1234 MiB"), "out of memory"),
        (RuntimeError("one line\n  and another"), "RuntimeError: one line and another"),
        (InputError("a", found="b", expected="c"), "a: found b; expected c"),
    ],
)
def test_a_batch_that_fails_is_listed_case_by_case_and_the_next_goes_on(tmp_path, whole, error, reason):
    assert run_watched(tmp_path, at=[1], action=raising(error)) == BATCHES
    rows = merge(tmp_path)
    assert {row["case"]: row["reason"] for row in rows if row["status"] == "failed"} == dict.fromkeys(
        BATCHES[1], reason
    )
    assert len(rows) == 7
    assert run_watched(tmp_path) == []  # a failure that is listed is finished
    assert forget_failures(tmp_path) == 1
    assert run_watched(tmp_path) == [BATCHES[1]]
    merge(tmp_path)
    assert files(tmp_path) == whole


def test_what_is_not_finite_is_never_written(tmp_path, monkeypatch):
    backbone = Mixture()
    monkeypatch.setattr(backbone, "decode", lambda x: torch.full((len(x), 3, 8, 8), torch.nan))
    edit(tmp_path, some_cases(2), backbone=backbone)
    assert {row["reason"] for row in merge(tmp_path)} == {
        "images edited by sdedit: found values that are not finite; expected values in [0, 1]"
    }
    assert not (tmp_path / "images").exists()


def test_damaged_images_and_manifests_are_made_again(tmp_path, whole):
    edit(tmp_path)
    image, manifest = tmp_path / "images" / "case-004.png", tmp_path / "manifest" / "000002.json"
    image.write_bytes(image.read_bytes()[:-1])
    manifest.write_bytes(manifest.read_bytes()[:-9])
    assert run_watched(tmp_path) == BATCHES[1:]
    (tmp_path / "images" / "case-001.png").unlink()
    other = json.loads((tmp_path / "manifest" / "000000.json").read_text())
    manifest.write_text(json.dumps(other))  # whole, but about other cases
    assert run_watched(tmp_path) == [BATCHES[0], BATCHES[2]]
    merge(tmp_path)
    assert files(tmp_path) == whole


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"settings": {"steps": 3}}, r"settings\.steps of the run in .*: found 3, where its run\.json has 2"),
        ({"seed": 1}, "seed of the run"),
        ({"batch_size": 2}, "batch_size of the run"),
        ({"about": {"benchmark": "other"}}, "benchmark of the run"),
        ({"about": {"benchmark": "test", "split": "tune"}}, "split of the run"),
        ({"editor": EDITORS["ode-inversion"]}, "editor of the run"),
        ({"backbone": Mixture(guidance_mode="classifier-free")}, "guidance_mode of the run"),
        ({"cases": seven()[:6]}, "cases of the run in .*: found 6, where"),
        ({"cases": [replace(seven()[0], target_prompt="x"), *seven()[1:]]}, "cases_hash of the run"),
    ],
)
def test_a_folder_of_another_run_is_refused_and_left_as_it_is(tmp_path, change, words):
    edit(tmp_path)
    before = files(tmp_path)
    with pytest.raises(InputError, match=words):
        edit(tmp_path, **change)
    assert files(tmp_path) == before


def test_folders_that_cannot_be_used_are_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"found file and no run\.json"):
        edit(tmp_path)
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match="a folder to write to"):
            edit(out)
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "run.json").write_text("{")
    with pytest.raises(InputError, match=r"run\.json: found unreadable bytes"):
        edit(tmp_path / "damaged")


def test_an_id_that_occurs_twice_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(InputError, match="'case-000' more than once"):
        edit(tmp_path / "run", some_cases(1) * 2)
    assert not (tmp_path / "run").exists()


def test_merging_names_what_is_missing(tmp_path):
    with pytest.raises(InputError, match=r"run\.json: found no such file"):
        merge(tmp_path)
    edit(tmp_path, rank=1, processes=2)
    with pytest.raises(InputError) as caught:
        merge(tmp_path)
    named = ", ".join(f"{name} (batch {i} is not finished)" for i in (0, 2) for name in BATCHES[i])
    assert caught.value.found == f"5 of 7 cases missing: {named}"
    (tmp_path / "images" / "case-003.png").unlink()
    with pytest.raises(InputError, match=r"6 of 7 cases missing: .*case-003 \(its image is gone.*\), \.\.\.;"):
        merge(tmp_path)
    assert not (tmp_path / "results.csv").exists()


def test_a_plan_that_lost_a_batch_is_not_taken_for_the_whole(tmp_path):
    edit(tmp_path)
    plan = json.loads((tmp_path / "plan.json").read_text())
    (tmp_path / "plan.json").write_text(json.dumps(plan | {"batches": plan["batches"][:2]}))
    with pytest.raises(InputError, match="found 2 of 7 cases missing;"):
        merge(tmp_path)


def test_batches_are_those_of_run_editor_and_hold_no_images():
    plan = plan_batches(EDITORS["sdedit"], Mixture(), seven(), 3)
    assert plan.batches == [
        (tuple(BATCHES[0]), 3),
        ((*BATCHES[1], "case-004"), 2),
        (tuple(BATCHES[2]), 2),
    ]
    assert plan.unfit == {}
    assert plan.fingerprint == plan_batches(EDITORS["sdedit"], Mixture(), seven()[::-1], 2).fingerprint


def test_anchors_run_the_same_way(tmp_path):
    cases = some_cases(3)
    cases[1] = replace(cases[1], target_image=None)
    edit(tmp_path, cases, editor=ANCHORS["ground-truth"], settings=None)
    assert [row["status"] for row in merge(tmp_path)] == ["done", "failed", "done"]
    expected = cases[2].target_image
    assert (load_image(tmp_path / "images" / "case-002.png") - expected).abs().max() < 1 / 255


def test_silent_without_a_terminal(tmp_path, capsys):
    edit(tmp_path, some_cases(1))
    assert capsys.readouterr() == ("", "")
