"""The whole way with DVC: plan, repro, JupyterLab's saves, a fresh clone, kills, the store, the pages."""

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from lib.core.errors import InputError
from lib.stages.config import load_yaml
from lib.stages.plan import look
from lib.stages.repro import repro
from lib.stages.ship import ship
from lib.stages.store import check_objects

from .conftest import WORK, Project


def states(project: Project) -> list[tuple[str, bool]]:
    return [(step.name, step.certain) for step in look(project.root)]


def test_a_long_stage_is_announced_and_waits_for_leave(pipeline: Project) -> None:
    assert states(pipeline) == [("sources", True), ("long", True), ("two", True)]
    plan = pipeline.must("lib.stages", "plan")
    assert "30 min   never run" in plan
    assert "31.1 min" in plan
    stopped = pipeline.run("lib.stages", "repro")
    assert stopped.returncode == 3
    assert "long" in stopped.stdout
    assert "LONG=1" in stopped.stdout
    assert not (pipeline.root / "runs").exists()


def test_minutes_may_differ_by_scale(pipeline: Project) -> None:
    text = (pipeline.root / "dvc.yaml").read_text()
    (pipeline.root / "dvc.yaml").write_text(text.replace("{minutes: 30}", "{minutes: {smoke: 2, default: 30}}"))
    assert "2 min   never run" in pipeline.must("lib.stages", "plan")
    pipeline.must("lib.stages", "scale", "default")
    assert "30 min   never run" in pipeline.must("lib.stages", "plan")


def test_the_second_run_does_nothing_and_says_so(done: Project) -> None:
    assert states(done) == []
    assert "Nothing would run" in done.must("lib.stages", "plan")
    before = {path: path.stat().st_mtime_ns for path in (done.root / "runs").rglob("*") if path.is_file()}
    printed = done.must("lib.stages", "repro")
    assert "Nothing to do" in printed
    assert "runs/two/executed.ipynb" in printed
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert done.git("status", "--porcelain") == ""


def test_a_save_in_jupyterlab_runs_the_stripping_and_nothing_else(done: Project) -> None:
    path = done.root / "notebooks" / "two.ipynb"
    saved = json.loads(path.read_text())
    saved["cells"][1] |= {"execution_count": 5, "outputs": [{"output_type": "stream", "name": "stdout", "text": "1"}]}
    path.write_text(json.dumps(saved, indent=1))
    assert states(done) == [("sources", True), ("long", False), ("two", False)]
    printed = done.must("lib.stages", "repro")
    assert "Ran: sources\n" in printed
    assert states(done) == []


def test_an_edit_that_makes_a_long_stage_due_stops_before_it(done: Project) -> None:
    done.write_notebook("two", WORK + "\n# edited")
    stopped = done.run("lib.stages", "repro")
    assert stopped.returncode == 3, stopped.stdout + stopped.stderr
    assert states(done) == [("long", True), ("two", True)]


def test_a_fresh_clone_runs_what_is_live_and_pulls_the_rest(done: Project) -> None:
    root = done.root.with_name("clone")
    done.git("clone", "--quiet", str(done.root), str(root))
    clone = Project(root)
    assert states(clone) == [("two", True)]
    assert (root / "product.txt").read_bytes() == (done.root / "product.txt").read_bytes()
    assert "Ran: two\n" in clone.must("lib.stages", "repro")
    for name in ("executed.ipynb", "table.csv", "metrics.json"):
        assert (root / "runs" / "two" / name).read_bytes() == (done.root / "runs" / "two" / name).read_bytes()
    assert clone.git("status", "--porcelain") == ""


def test_a_bad_parameter_is_an_error_before_anything_runs(done: Project) -> None:
    file = done.root / "params.yaml"
    good = file.read_text()
    file.write_text(good.replace("rate: 1e-1", "rate: fast"))
    for verb in ("plan", "repro"):
        stopped = done.run("lib.stages", verb)
        assert stopped.returncode == 2
        assert "parameter `rate` of notebook two: found 'fast'" in stopped.stderr
    assert (done.root / "runs" / "two" / "executed.ipynb").is_file()
    file.write_text(good)
    assert states(done) == []


def test_what_git_keeps_and_a_failed_run_removed_comes_back(done: Project) -> None:
    metrics = done.root / "runs" / "two" / "metrics.json"
    content = metrics.read_bytes()
    metrics.unlink()
    assert states(done) == []
    assert metrics.read_bytes() == content
    metrics.unlink()
    done.git("rm", "--quiet", "--cached", "runs/two/metrics.json")
    done.git("commit", "--quiet", "-m", "without")
    assert states(done) == [("two", True)]
    done.must("lib.stages", "repro")
    assert metrics.read_bytes() == content


def test_going_back_to_a_scale_fetches_its_results(done: Project) -> None:
    done.must("lib.stages", "scale", "full")
    assert [step.cached for step in look(done.root)] == [False]
    done.must("lib.stages", "repro")
    assert (done.root / "runs" / "two" / "table.csv").read_text() == "count,rate\n4,0.1\n"
    done.must("lib.stages", "scale", "smoke")
    assert [step.cached for step in look(done.root)] == [True]
    assert "from DVC's cache" in done.must("lib.stages", "plan")
    done.must("lib.stages", "repro")
    assert done.git("status", "--porcelain") == ""


def test_changed_data_is_not_taken_over_silently(done: Project) -> None:
    (done.root / "data").mkdir()
    (done.root / "data" / "a.txt").write_text("1")
    done.must("dvc", "add", "--quiet", "data")
    pipeline = (done.root / "dvc.yaml").read_text()
    (done.root / "dvc.yaml").write_text(pipeline.replace("deps: [notebooks]", "deps: [notebooks, data]"))
    assert ("sources", True) in states(done)
    (done.root / "data" / "a.txt").write_text("2")
    with pytest.raises(InputError, match=r"folder data: found changed files.*dvc checkout data\.dvc"):
        look(done.root)


@pytest.mark.parametrize("victim", ["make", "dvc"])
def test_nothing_outlives_a_killed_make_or_dvc(pipeline: Project, victim: str) -> None:
    pipe = pipeline.root / "pipe"
    os.mkfifo(pipe)
    hold = "import os\nfrom lib.core.paths import ROOT\nif (ROOT / 'pipe').exists():\n"
    hold += "    out = open(ROOT / 'pipe', 'w')\n    out.write('at work\\n')\n    out.flush()\n"
    hold += "    import signal\n    signal.pause()\n"
    pipeline.write_notebook("two", hold + WORK)
    (pipeline.root / "Makefile").write_text(f"repro:\n\t@LONG=1 {sys.executable} -m lib.stages repro\n")
    command = {"make": ["make", "repro"], "dvc": [sys.executable, "-m", "dvc", "repro"]}[victim]
    output = subprocess.DEVNULL
    with subprocess.Popen(command, cwd=pipeline.root, env=pipeline.environment, stdout=output, stderr=output) as child:
        with pipe.open() as events:
            assert events.readline() == "at work\n"
            others = psutil.Process(child.pid).children(recursive=True)
            child.send_signal(signal.SIGKILL)
            assert events.read() == ""  # returns when the kernel, the last of them, is gone
        child.wait()
    _, alive = psutil.wait_procs(others, timeout=60)
    assert alive == []
    assert not (pipeline.root / "runs" / "two" / "executed.ipynb").exists()
    pipe.unlink()
    again = pipeline.must("lib.stages", "repro", LONG="1")
    assert "Ran: two\n" in again


def test_of_two_runs_at_once_the_second_waits(pipeline: Project) -> None:
    command = [sys.executable, "-m", "lib.stages", "repro"]
    where = {"cwd": pipeline.root, "env": pipeline.environment | {"LONG": "1"}, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **where) as one, subprocess.Popen(command, **where) as other:
        told = sorted([one.communicate()[0], other.communicate()[0]], key=lambda text: "waiting" in text)
    assert (one.returncode, other.returncode) == (0, 0)
    assert "Ran: " in told[0]
    assert "Another run is at work here; waiting for it to end." in told[1]
    assert "Nothing to do" in told[1]


def test_locks_of_processes_that_are_gone_do_not_block(done: Project) -> None:
    entry = {"pid": os.getpid(), "cmd": "dvc repro"}  # alive, but younger than the lock
    lock = done.root / ".dvc" / "tmp" / "rwlock"
    lock.write_text(json.dumps({"write": {str(done.root / "product.txt"): entry}, "read": {}}))
    os.utime(lock, (1, 1))
    (done.root / "product.txt").unlink()
    assert states(done) == []
    assert (done.root / "product.txt").exists()


def test_nor_do_locks_of_the_dead_whom_nobody_has_asked_after(done: Project) -> None:
    with subprocess.Popen(["true"]) as dead:
        os.waitid(os.P_PID, dead.pid, os.WEXITED | os.WNOWAIT)  # ended, and left in the process table
        entry = {"pid": dead.pid, "cmd": "dvc repro"}
        lock = done.root / ".dvc" / "tmp" / "rwlock"
        lock.write_text(json.dumps({"write": {str(done.root / "product.txt"): entry}, "read": {}}))
        (done.root / "product.txt").unlink()
        assert states(done) == []
        assert (done.root / "product.txt").exists()


def flip(file: Path) -> None:
    """Another bit in one byte of a file."""
    content = bytearray(file.read_bytes())
    content[10] ^= 1
    file.chmod(0o644)
    file.write_bytes(content)


def in_store(project: Project, product: str) -> Path:
    digest = hashlib.md5((project.root / product).read_bytes()).hexdigest()
    return project.root / "store" / "files" / "md5" / digest[:2] / digest[2:]


def test_a_damaged_object_in_the_store_is_named_and_never_used(done: Project) -> None:
    root = done.root.with_name("clone")
    done.git("clone", "--quiet", str(done.root), str(root))
    clone, damaged = Project(root), in_store(done, "product.txt").relative_to(done.root)
    flip(root / damaged)
    stopped = clone.run("lib.stages", "repro", LONG="1")
    assert stopped.returncode == 2
    assert stopped.stderr.splitlines()[-1].startswith(f"error: file {damaged}: found other bytes; expected bytes of ")
    assert not (root / "product.txt").exists()
    clone.git("restore", "store")
    clone.must("lib.stages", "repro")
    assert (root / "product.txt").read_bytes() == (done.root / "product.txt").read_bytes()


def test_shipping_makes_a_damaged_object_whole(done: Project) -> None:
    """DVC does it, told to verify; what it leaves is looked at."""
    damaged = in_store(done, "runs/two/table.csv")
    flip(damaged)
    with pytest.raises(InputError, match=rf"file {damaged.relative_to(done.root)}: found other bytes"):
        check_objects(done.root, [damaged.parent.name + damaged.name])
    ship(done.root)
    assert damaged.read_bytes() == (done.root / "runs" / "two" / "table.csv").read_bytes()


def test_a_damaged_file_of_a_shipped_folder_is_found(done: Project) -> None:
    lock = load_yaml(done.root / "dvc.lock")
    (folder,) = [out["md5"] for out in lock["stages"]["sources"]["outs"]]
    check_objects(done.root, [folder])
    damaged = in_store(done, "runs/sources/two.ipynb")
    flip(damaged)
    with pytest.raises(InputError, match=rf"file {damaged.relative_to(done.root)}: found other bytes"):
        check_objects(done.root, [folder])
    flip(in_store(done, "runs/two/table.csv").parents[1] / folder[:2] / folder[2:])
    with pytest.raises(InputError, match=rf"{folder[2:]}: found other bytes"):
        check_objects(done.root, [folder])


def test_a_stage_whose_output_persists_can_be_planned(pipeline: Project) -> None:
    """DVC's run cache knows no such stage, nor one without dependencies."""
    text = (
        (pipeline.root / "dvc.yaml").read_text().replace("outs: [product.txt]", "outs: [product.txt: {persist: true}]")
    )
    (pipeline.root / "dvc.yaml").write_text(text + "  alone: {cmd: touch alone.txt, outs: [alone.txt]}\n")
    assert states(pipeline) == [("alone", True), ("sources", True), ("long", True), ("two", True)]


def test_a_run_with_nothing_to_do_writes_nothing_into_runs(done: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, mode: int) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(self))

    done.must("lib.stages", "repro")
    monkeypatch.setattr("lib.stages.repro.die_with_parent", lambda: None)
    monkeypatch.setattr(Path, "chmod", refuse)
    assert repro(done.root) == 0


def test_shipping_keeps_what_is_referred_to_and_drops_the_rest(done: Project) -> None:
    store = done.root / "store"
    kept = {path for path in store.rglob("*") if path.is_file()}
    executed = (done.root / "runs" / "two" / "executed.ipynb").read_bytes()
    assert executed not in [path.read_bytes() for path in kept]
    assert (done.root / "product.txt").read_bytes() in [path.read_bytes() for path in kept]
    assert "runs" not in {path.name for path in store.iterdir()}  # the run cache is never pushed
    stale = store / "files" / "md5" / "00" / "1122"
    stale.parent.mkdir(exist_ok=True)
    stale.write_text("of an older result")
    ship(done.root)
    assert {path for path in store.rglob("*") if path.is_file()} == kept
    assert not stale.parent.exists()
    with pytest.raises(InputError, match="at most 1e-06 MB"):
        ship(done.root, limit=1e-6)


def test_shipping_refuses_stale_results_and_other_remotes(done: Project, tmp_path: Path) -> None:
    done.must("dvc", "remote", "add", "--local", "--default", "mine", str(tmp_path / "mine"))
    with pytest.raises(InputError, match="default DVC remote"):
        ship(done.root)
    done.must("dvc", "remote", "default", "--local", "store")
    done.must("lib.stages", "scale", "full")
    with pytest.raises(InputError, match="two to be run"):
        ship(done.root)


def test_the_environment_of_dvc_is_not_needed(project: Project) -> None:
    """Every stage is also a plain command."""
    shutil.rmtree(project.root / ".dvc", ignore_errors=True)
    project.must("lib.stages.sources")
    project.must("lib.stages.notebook", "two")
    assert (project.root / "runs" / "two" / "executed.ipynb").is_file()
