"""requirements.txt: exactly what is installed in this environment, without the project itself and without addresses."""

import re
from importlib import metadata
from pathlib import Path

from lib.core.errors import InputError
from lib.core.paths import ROOT

HEADER = """\
# The exact version of everything, for Linux and Python 3.11. Written by `make lock` (python -m lib.stages lock) from
# the environment that the results were made with; what the code itself asks for stands in pyproject.toml.
"""
LINUX_ONLY = re.compile(r"^(nvidia-|cuda-|triton$)")  # what torch needs on a GPU; other systems have no such packages
LEFT_OUT = {"palimpsest", "pip", "wheel"}


def locked_lines() -> list[str]:
    """`name==version` of each installed package, sorted by name. InputError for a version that only one index has."""
    found = {_plain(entry.metadata["Name"]): entry.version for entry in metadata.distributions()}
    local = [f"{name} {version}" for name, version in found.items() if "+" in version]
    if local:
        raise InputError("installed package", found=", ".join(local), expected="a version without a local part")
    return [
        f"{name}=={version}" + (' ; sys_platform == "linux"' if LINUX_ONLY.match(name) else "")
        for name, version in sorted(found.items())
        if name not in LEFT_OUT
    ]


def write_lock(path: Path = ROOT / "requirements.txt") -> int:
    """Write the lock. Returns the number of packages."""
    lines = locked_lines()
    path.write_text(HEADER + "\n".join(lines) + "\n", encoding="utf-8")
    return len(lines)


def _plain(name: str) -> str:
    """A package's name in the one spelling that indexes use."""
    return re.sub(r"[-_.]+", "-", name).lower()
