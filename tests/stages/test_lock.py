from importlib import metadata
from pathlib import Path

from lib.stages.lock import HEADER, locked_lines, write_lock


def test_the_lock_is_what_is_installed(tmp_path: Path) -> None:
    lines = locked_lines()
    assert lines == sorted(lines, key=lambda line: line.split("==")[0])
    assert f"dvc=={metadata.version('dvc')}" in lines
    assert not [line for line in lines if line.startswith(("pip==", "palimpsest=="))]
    assert [line for line in lines if line.startswith("triton==")] == [
        f'triton=={metadata.version("triton")} ; sys_platform == "linux"'
    ]
    assert write_lock(tmp_path / "lock.txt") == len(lines)
    assert (tmp_path / "lock.txt").read_text() == HEADER + "\n".join(lines) + "\n"
