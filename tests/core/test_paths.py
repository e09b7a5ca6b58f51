from pathlib import Path

from lib.core import paths


def test_root_is_the_repository():
    assert (paths.ROOT / "lib" / "core" / "paths.py").samefile(paths.__file__)
    assert {folder.parent for folder in (paths.DATA, paths.MODELS, paths.RUNS, paths.STORE)} == {paths.ROOT}


def test_resolve_does_not_look_at_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert paths.resolve("models/tiny-flux") == paths.MODELS / "tiny-flux"
    assert paths.resolve(tmp_path / "x") == tmp_path / "x"
    assert paths.resolve("~/x") == Path.home() / "x"
