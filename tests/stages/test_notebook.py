import errno
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lib.core.errors import InputError, PalimpsestError
from lib.stages import notebook as stage
from lib.stages.notebook import run_notebook

from .conftest import PARAMETERS, Project

FAILING = "from lib.core.errors import InputError\nraise {}"


def test_two_runs_give_the_same_bytes(project: Project) -> None:
    results = []
    for _ in range(2):
        project.must("lib.stages", "strip")
        done = project.run("lib.stages.notebook", "two")
        assert done.returncode == 0, done.stderr
        assert done.stdout == "two: runs/two/executed.ipynb\n"
        assert "this goes to stderr" in done.stderr
        assert "encryption" not in done.stderr
        files = {path.name: path.read_bytes() for path in (project.root / "runs" / "two").iterdir()}
        assert json.loads(files.pop("timing.json"))["seconds"] > 0
        results.append(files)
    assert results[0] == results[1]
    assert sorted(results[0]) == ["executed.ipynb", "metrics.json", "table.csv"]
    assert results[0]["table.csv"] == b"count,rate\n2,0.1\n"
    assert json.loads(results[0]["metrics.json"]) == {"arm": {"score": 2.1, "score_low": 0.1235}}
    executed = json.loads(results[0]["executed.ipynb"])
    assert executed["metadata"]["palimpsest"] == {"parameters": {"count": 2, "rate": 0.1}}
    assert [cell["id"] for cell in executed["cells"]] == ["cell-000", "cell-001", "cell-002"]
    (stdout,) = executed["cells"][2]["outputs"]
    assert stdout["text"] == "one <object object at 0x…> data/x.png runs/two/y.png\nstep 2\n"
    assert stat.S_IMODE((project.root / "runs" / "two" / "executed.ipynb").stat().st_mode) == 0o444
    assert not (project.root / ".scratch" / "two").exists()


def test_settings_from_the_command_line_come_last(project: Project) -> None:
    project.must("lib.stages", "strip")
    project.must("lib.stages.notebook", "two", "--set", "rate=1e-2", "--set", "count=7", "--into", "mine")
    assert (project.root / "mine" / "table.csv").read_text() == "count,rate\n7,0.01\n"
    assert not (project.root / "runs" / "two").exists()


@pytest.mark.parametrize(
    ("raised", "status", "said", "traceback"),
    [
        ("ZeroDivisionError('by\\nnought')", 1, "error: two: cell 3 (`from lib.core.errors import InputError`): "
         "ZeroDivisionError: by nought", True),
        ("InputError('mask', found=1, expected=2)", 1, "InputError: mask: found 1; expected 2", False),
    ],
)  # fmt: skip
def test_a_failing_cell_is_one_last_line(
    project: Project, raised: str, status: int, said: str, traceback: bool
) -> None:
    project.write_notebook("two", FAILING.format(raised))
    project.must("lib.stages", "strip")
    done = project.run("lib.stages.notebook", "two")
    assert done.returncode == status
    assert done.stderr.strip().split("\n")[-1].endswith(said)
    assert ("Traceback" in done.stderr) == traceback
    assert ".scratch/two/failed.ipynb" in done.stderr
    failed = json.loads((project.root / ".scratch" / "two" / "failed.ipynb").read_text())
    assert any(output["output_type"] == "error" for cell in failed["cells"] for output in cell.get("outputs", []))
    assert not (project.root / "runs" / "two").exists()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"),
         "error: notebook a/b, whose unfinished work is .scratch/a.b: found No space left on device; expected a disk"),
        (OSError(errno.EROFS, "Read-only file system", "runs/a/b/.executed.ipynb.publishing"),
         "error: file runs/a/b/.executed.ipynb.publishing: found Read-only file system; expected a disk with room"),
        (OSError(errno.ENOSPC, "No space left on device", ".scratch/a.b/w", None, "runs/a/b/.w.publishing"),
         "error: file runs/a/b/.w.publishing: found No space left on device; expected a disk with room"),
        (shutil.Error([("a/w", "runs/w", "[Errno 28] No space left on device: 'a/w' -> 'runs/w'")]),
         "error: file runs/w: found No space left on device; expected a disk with room"),
    ],
)  # fmt: skip
def test_what_the_disk_did_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: OSError, said: str
) -> None:
    def run(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(stage, "run_notebook", run)
    monkeypatch.setattr(stage, "die_with_parent", lambda: None)
    assert stage.main(["a/b"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(said)


@pytest.mark.parametrize("error", [OSError(errno.ENOENT, "No such file"), KeyError("a fault of ours")])
def test_a_fault_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def run(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(stage, "run_notebook", run)
    monkeypatch.setattr(stage, "die_with_parent", lambda: None)
    with pytest.raises(type(error)):
        stage.main(["a/b"])


@pytest.mark.parametrize(
    ("overrides", "said"),
    [({"cuont": 1}, "no such name"), ({"count": "1"}, "expected int"), ({"rate": True}, "expected float")],
)
def test_wrong_parameters_are_refused_before_a_kernel_starts(
    project: Project, overrides: dict, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_kernel(*_: object, **__: object) -> None:
        raise AssertionError("a kernel was started")

    monkeypatch.setattr("lib.stages.notebook._execute", no_kernel)
    project.must("lib.stages", "strip")
    with pytest.raises(InputError, match=said):
        run_notebook("two", overrides, root=project.root)
    with pytest.raises(AssertionError, match="a kernel was started"):
        run_notebook("two", root=project.root)


def test_a_source_must_be_there_and_fresh(project: Project) -> None:
    with pytest.raises(InputError, match=r"no runs/sources/two\.ipynb.*python -m lib\.stages\.sources"):
        run_notebook("two", root=project.root)
    project.must("lib.stages", "strip")
    project.write_notebook("two", "pass")
    with pytest.raises(InputError, match="older than the notebook"):
        run_notebook("two", root=project.root)
    with pytest.raises(InputError, match="notebook three"):
        run_notebook("three", root=project.root)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Path], object]], None]:
    """Let a function, given the output folder, stand in for the notebook's run: no kernel."""

    def put(work: Callable[[Path], object]) -> None:
        def execute(name: str, source: dict, values: dict, *, out: Path, **_: object) -> dict:
            work(out)
            return source

        monkeypatch.setattr("lib.stages.notebook._execute", execute)

    return put


def test_metrics_are_asked_for(project: Project, stand_in: Callable) -> None:
    project.must("lib.stages", "strip")
    stand_in(lambda out: (out / "table.csv").touch())
    with pytest.raises(InputError, match=r"no metrics\.json; expected a call of `write_metrics`"):
        run_notebook("two", root=project.root)
    stand_in(lambda out: (out / "metrics.json").write_text('{"arm": {"a": 0.123456}}'))
    with pytest.raises(InputError, match="4 significant digits"):
        run_notebook("two", root=project.root)
    assert not (project.root / "runs" / "two").exists()
    stand_in(lambda out: (out / "metrics.json").write_text('{"arm": {"a": 0.1235}}'))
    run_notebook("two", root=project.root)
    assert (project.root / "runs" / "two" / "metrics.json").is_file()


@pytest.mark.parametrize(("file", "said"), [("params.yaml", "the parameters"), ("lib/stages/outputs.py", "lib/stages")])
def test_an_edit_during_the_run_publishes_nothing(project: Project, stand_in: Callable, file: str, said: str) -> None:
    def work(out: Path) -> None:
        (out / "metrics.json").write_text('{"arm": {"a": 1}}')
        edited = project.root / file
        edited.write_text(edited.read_text().replace("smoke: 2", "smoke: 3") + "# edited\n")

    project.must("lib.stages", "strip")
    stand_in(work)
    with pytest.raises(PalimpsestError, match=f"changed while the stage ran: {said}"):
        run_notebook("two", root=project.root)
    assert not (project.root / "runs" / "two").exists()


def test_a_killed_run_leaves_no_kernel_and_the_next_one_resumes(project: Project) -> None:
    pipe = project.root / "pipe"
    os.mkfifo(pipe)
    project.write_notebook(
        "two",
        "import os\nfrom lib.core.paths import ROOT\nfrom lib.stages.outputs import scratch_dir, write_metrics\n"
        "begun = (scratch_dir() / 'begun').exists()\n(scratch_dir() / 'begun').touch()\n"
        "if not begun:\n    out = open(ROOT / 'pipe', 'w')\n    out.write(f'{os.getpid()}\\n')\n    out.flush()\n"
        "    import signal\n    signal.pause()\n"
        "write_metrics({'arm': {'resumed': int(begun)}})",
        parameters=PARAMETERS,
    )
    project.must("lib.stages", "strip")
    command = [sys.executable, "-m", "lib.stages.notebook", "two"]
    with subprocess.Popen(command, cwd=project.root, env=project.environment, stderr=subprocess.DEVNULL) as child:
        with pipe.open() as events:
            events.readline()
            child.send_signal(signal.SIGKILL)
            assert events.read() == ""  # returns when the kernel, which holds the other end until it ends, is gone
        child.wait()
    assert not (project.root / "runs" / "two").exists()
    project.must("lib.stages.notebook", "two")
    metrics = json.loads((project.root / "runs" / "two" / "metrics.json").read_text())
    assert metrics == {"arm": {"resumed": 1}}


def test_the_library_of_the_project_is_the_one_that_runs(project: Project) -> None:
    code = "import lib, os\nfrom pathlib import Path\nfrom lib.stages.outputs import out_dir, write_metrics\n"
    code += "(out_dir() / 'where.txt').write_text(f'{lib.__file__}\\n{os.getcwd()}')\nwrite_metrics({'a': {'b': 1}})"
    project.write_notebook("paper/method", code)
    project.must("lib.stages", "strip")
    project.must("lib.stages.notebook", "paper/method")
    where, folder = (project.root / "runs" / "paper" / "method" / "where.txt").read_text().split("\n")
    assert Path(where) == project.root / "lib" / "__init__.py"
    assert Path(folder) == project.root
