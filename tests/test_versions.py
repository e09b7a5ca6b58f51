"""environment.yml, pyproject.toml, requirements.txt and the list of packages agree with each other."""

import re
import tomllib

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from lib.core.paths import ROOT
from lib.stages.config import load_yaml

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LINES = [
    line
    for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    if line.strip() and not line.startswith("#")
]
LOCK = {canonicalize_name(Requirement(line).name): Requirement(line) for line in LINES}


def asked_for() -> list[Requirement]:
    extras = PROJECT["project"]["optional-dependencies"].values()
    return [Requirement(text) for group in [PROJECT["project"]["dependencies"], *extras] for text in group]


def test_the_lock_pins_every_line_and_names_no_address() -> None:
    assert len(LOCK) == len(LINES)
    assert [
        line for line in LINES if not re.fullmatch(r'[a-z0-9-]+==[0-9a-z.]+( ; sys_platform == "linux")?', line)
    ] == []


def test_the_lock_holds_what_pyproject_asks_for() -> None:
    names = {canonicalize_name(one.name): one for one in asked_for()}
    assert sorted(names.keys() - LOCK.keys()) == []
    versions = {name: next(iter(LOCK[name].specifier)).version for name in names}
    assert [name for name, one in names.items() if versions[name] not in one.specifier] == []


def test_the_lock_builds_the_project_too() -> None:
    for text in PROJECT["build-system"]["requires"]:
        need = Requirement(text)
        assert next(iter(LOCK[canonicalize_name(need.name)].specifier)).version in need.specifier


def test_conda_takes_the_same_python_and_the_same_lock() -> None:
    environment = load_yaml(ROOT / "environment.yml")
    (pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert pip == ["-r requirements.txt", "-e ."]
    (python,) = [entry for entry in environment["dependencies"] if str(entry).startswith("python=")]
    version = python.partition("=")[2]
    assert f"{version}.0" in Requirement(f"python{PROJECT['project']['requires-python']}").specifier
    assert f"PYTHON ?= python{version}" in (ROOT / "Makefile").read_text(encoding="utf-8")
    assert PROJECT["tool"]["ruff"]["target-version"] == "py" + version.replace(".", "")
    assert environment["name"] == PROJECT["project"]["name"]


def test_the_packages_are_the_folders_of_lib() -> None:
    folders = {path.parent.relative_to(ROOT).as_posix() for path in (ROOT / "lib").rglob("__init__.py")}
    assert {name.replace(".", "/") for name in PROJECT["tool"]["setuptools"]["packages"]} == folders
