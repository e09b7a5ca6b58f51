"""Where things lie. Everything is relative to the repository, never to the working directory."""

from pathlib import Path

from lib.core.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "data"
MODELS = ROOT / "models"
RUNS = ROOT / "runs"
STORE = ROOT / "store"


def resolve(path: str | Path) -> Path:
    """`path` itself if it is absolute (`~` is expanded), else the path below the repository's root.

    InputError if it begins with the home folder of somebody who has none.
    """
    try:
        return ROOT / Path(path).expanduser()
    except RuntimeError as error:
        raise InputError(f"path {path}", found=f"no home folder {Path(path).parts[0]}", expected="one") from error
