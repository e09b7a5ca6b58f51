"""Where things lie. Everything is relative to the repository, never to the working directory."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "data"
MODELS = ROOT / "models"
RUNS = ROOT / "runs"
STORE = ROOT / "store"


def resolve(path: str | Path) -> Path:
    """`path` itself if it is absolute (`~` is expanded), else the path below the repository's root."""
    return ROOT / Path(path).expanduser()
