"""Gates and cards: what a trained model must show before it is published, and the page that says what it showed."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lib.core.errors import PalimpsestError


@dataclass(frozen=True)
class Gate:
    """A measured number with the level that it must reach to be shipped and the level that is aimed at."""

    name: str
    value: float
    ship: float
    goal: float

    @property
    def passed(self) -> bool:
        """Whether the value is a finite number that reaches the ship level: NaN passes nothing."""
        return math.isfinite(self.value) and self.value >= self.ship

    @property
    def verdict(self) -> str:
        return "failed" if not self.passed else "goal reached" if self.value >= self.goal else "ship reached"

    def __str__(self) -> str:
        number = "" if math.isfinite(self.value) else ", not a finite number"
        return f"{self.name} is {self.value:.4g}{number}, to ship it must be {self.ship:g}"


def check_gates(gates: list[Gate], title: str) -> None:
    """Raise PalimpsestError naming every gate that failed its ship level or whose value is not a finite number."""
    failed = [str(gate) for gate in gates if not gate.passed]
    if failed:
        raise PalimpsestError(f"{title} does not pass: {'; '.join(failed)}")


def rounded(values: Mapping[str, float]) -> dict[str, float]:
    """Values with 4 significant digits, for metrics files."""
    return {name: float(f"{value:.4g}") for name, value in values.items()}


def write_metrics(path: Path, values: Mapping[str, float]) -> Path:
    """A flat JSON of 4-digit numbers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rounded(values), indent=1, sort_keys=True) + "\n")
    return path


def write_card(folder: Path, title: str, paragraphs: Mapping[str, str], gates: list[Gate]) -> None:
    """README.md of a model folder: what it is, its data, its gates, its limits."""
    rows = [f"| {g.name} | {g.value:.4g} | {g.ship:g} | {g.goal:g} | {g.verdict} |" for g in gates]
    table = ["| measured on held-out scenes | value | ship | goal | |", "| --- | --- | --- | --- | --- |", *rows]
    text = [f"# {title}", *(f"## {head}\n{body}" for head, body in paragraphs.items()), "## Gates", "\n".join(table)]
    (folder / "README.md").write_text("\n\n".join(text) + "\n")
