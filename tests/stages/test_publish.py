import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lib.core.errors import InputError, PalimpsestError
from lib.core.paths import ROOT
from lib.stages.publish import guard_sources, publish, stage_scratch

STAGE = """\
import sys
from pathlib import Path
from lib.stages.publish import publish, stage_scratch
root = Path(sys.argv[1])
with stage_scratch("work", fingerprint={"seed": sys.argv[2]}, root=root) as scratch:
    done = scratch / "done.txt"
    print("resumed" if done.exists() else "fresh", flush=True)
    done.write_text("half of the work")
    folder = scratch / "model"
    folder.mkdir(exist_ok=True)
    (folder / "weights").write_text("w")
    if sys.argv[3] == "wait":
        print("working", flush=True)
        sys.stdin.read()
    publish({folder: root / "models" / "m", done: root / "runs" / "done.txt"})
"""


def start(root: Path, seed: str, mode: str) -> subprocess.Popen:
    command = [sys.executable, "-c", STAGE, str(root), seed, mode]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def killed_at_work(root: Path) -> None:
    with start(root, "0", "wait") as child:
        assert child.stdout.readline() == "fresh\n"
        assert child.stdout.readline() == "working\n"
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL


def test_a_killed_stage_publishes_nothing_and_resumes(tmp_path: Path) -> None:
    killed_at_work(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".scratch"]
    with start(tmp_path, "0", "go") as child:
        assert child.communicate()[0] == "resumed\n"
    assert (tmp_path / "models" / "m" / "weights").read_text() == "w"
    assert (tmp_path / "runs" / "done.txt").read_text() == "half of the work"
    assert [path.name for path in (tmp_path / ".scratch").iterdir()] == ["work.lock"]


def test_scratch_of_another_fingerprint_is_discarded(tmp_path: Path) -> None:
    killed_at_work(tmp_path)
    with start(tmp_path, "1", "go") as child:
        assert child.communicate()[0] == "fresh\n"


def test_a_second_run_is_told_who_is_at_work(tmp_path: Path) -> None:
    with start(tmp_path, "0", "wait") as child:
        child.stdout.readline(), child.stdout.readline()
        holder = f"stage work: found process {child.pid} at work on it"
        with (
            pytest.raises(InputError, match=holder),
            stage_scratch("work", fingerprint={"seed": "0"}, root=tmp_path, wait=0),
        ):
            pass
        child.communicate("go on")
    with stage_scratch("work", fingerprint={}, root=tmp_path, wait=0) as scratch:
        assert scratch.is_dir()


def test_scratch_stays_after_an_error_and_goes_after_a_good_end(tmp_path: Path) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        stage_scratch("a/b", fingerprint={"a": 1.5, "b": ["x"]}, root=tmp_path) as scratch,
    ):
        (scratch / "kept").touch()
        raise ZeroDivisionError
    with stage_scratch("a/b", fingerprint={"b": ["x"], "a": 1.5}, root=tmp_path) as scratch:
        assert (scratch / "kept").exists()
    assert not scratch.exists()


def test_publishing_replaces_what_is_there(tmp_path: Path) -> None:
    for content in ("old", "new"):
        folder, file = tmp_path / "in" / "folder", tmp_path / "in" / "file"
        folder.mkdir(parents=True)
        (folder / content).touch()
        file.write_text(content)
        publish({folder: tmp_path / "out" / "folder", file: tmp_path / "out" / "file"})
        for path in (folder / content, file):
            path.unlink()
        folder.rmdir()
    assert sorted(path.name for path in (tmp_path / "out").rglob("*")) == ["file", "folder", "new"]
    assert (tmp_path / "out" / "file").read_text() == "new"


def test_publishing_needs_all_outputs_before_it_touches_one(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(InputError, match="output b"):
        publish({tmp_path / "a": tmp_path / "out" / "a", tmp_path / "b": tmp_path / "out" / "b"})
    assert not (tmp_path / "out").exists()


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def half_a_copy(source: str, target: str) -> None:
    Path(target).write_bytes(Path(source).read_bytes()[:1])
    full()


def link_refused(*_: object) -> None:
    raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))  # another file system, so that bytes are copied


@pytest.mark.parametrize("failing", ["copy", "rename"])
@pytest.mark.parametrize("before", [None, "old"])
@pytest.mark.parametrize("folder", [True, False])
def test_a_disk_that_fills_while_publishing_leaves_nothing_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str, before: str | None, folder: bool
) -> None:
    def make(place: Path, content: str) -> None:
        file = place / "weights" if folder else place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)

    def contents() -> dict[str, str]:
        files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
        return {path.relative_to(tmp_path / "out").as_posix(): path.read_text() for path in files}

    rename = Path.rename

    def rename_of_new_ones(self: Path, target: Path) -> Path:
        return full() if self.name.endswith(".publishing") else rename(self, target)

    name = "m/weights" if folder else "m"
    source, target = tmp_path / "in" / "m", tmp_path / "out" / "m"
    make(source, "new")
    if before:
        make(target, before)
    with monkeypatch.context() as patch:
        if failing == "copy":
            patch.setattr(os, "link", link_refused)
            patch.setattr(shutil, "copy2", half_a_copy)
        else:
            patch.setattr(Path, "replace", full)
            patch.setattr(Path, "rename", rename_of_new_ones)
        with pytest.raises(OSError, match="No space left on device"):
            publish({source: target})
    assert contents() == ({name: before} if before else {})
    assert [path.name for path in (tmp_path / "out").iterdir()] == (["m"] if before else [])
    publish({source: target})
    assert contents() == {name: "new"}


def test_a_disk_that_refuses_the_cleaning_too_is_heard_for_what_it_said_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    (tmp_path / "a").touch()
    monkeypatch.setattr(Path, "replace", full)
    monkeypatch.setattr(Path, "unlink", lambda self, missing_ok=False: read_only() if self.exists() else None)
    with pytest.raises(OSError, match="No space left on device"):
        publish({tmp_path / "a": tmp_path / "out" / "a"})


def test_a_kill_between_two_outputs_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    def dying(self: Path, target: Path) -> None:
        if target.name == "b":
            raise Killed
        os.replace(self, target)

    outputs = {}
    with pytest.raises(Killed), stage_scratch("work", fingerprint={}, root=tmp_path) as scratch:
        for name in "ab":
            (scratch / name).write_text(name)
            outputs[scratch / name] = tmp_path / "out" / name
        monkeypatch.setattr(Path, "replace", dying)
        publish(outputs)
    monkeypatch.undo()
    (tmp_path / "out" / "a").unlink()  # as DVC does before it starts the stage again
    with stage_scratch("work", fingerprint={}, root=tmp_path) as scratch:
        publish(outputs)
    assert sorted((path.name, path.read_text()) for path in (tmp_path / "out").iterdir()) == [("a", "a"), ("b", "b")]


def test_a_source_that_changes_during_the_run_is_named(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "used.txt").write_text("1")
    (tmp_path / "lib" / "not_loaded.py").write_text("1")
    values = {"steps": 1}
    guard = guard_sources(["used.txt"], values=lambda: values, root=tmp_path)
    (tmp_path / "lib" / "not_loaded.py").write_text("2")
    guard.check()
    values["steps"] = 2
    with pytest.raises(PalimpsestError, match="changed while the stage ran: the parameters"):
        guard.check()
    values["steps"] = 1
    (tmp_path / "used.txt").unlink()
    with pytest.raises(PalimpsestError, match=r"changed while the stage ran: used\.txt"):
        guard.check()


def test_a_module_that_was_loaded_counts() -> None:
    guard = guard_sources()
    assert "lib/stages/publish.py" in guard.fingerprint["files"]
    guard.check()
    changed = type(guard)({**guard.files, "lib/stages/publish.py": "0"}, guard.named, None, "", guard.root)
    with pytest.raises(PalimpsestError, match=r"lib/stages/publish\.py"):
        changed.check()
