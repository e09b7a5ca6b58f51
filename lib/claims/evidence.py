"""What the notebooks left behind: scores, the cell that speaks of a claim, and whether the weights were real."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from lib.claims.ledger import SETTING, Claim
from lib.core.errors import InputError
from lib.core.paths import RUNS
from lib.stats.bootstrap import Array
from lib.stats.tidy import Units, check_table, units

OWN_MODELS = "models/"  # where the backbones lie that this repository trains


class MissingEvidence(Exception):
    """A claim cannot be tested on what is there; the message says what is missing."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """Tidy scores by notebook, the cells tagged `claim:<id>` by claim, and the notebooks that ran on other weights."""

    tables: Mapping[str, pd.DataFrame]
    cells: Mapping[str, str] = field(default_factory=dict)
    real: frozenset[str] = frozenset()

    def table(self, notebook: str) -> pd.DataFrame:
        if notebook not in self.tables:
            raise MissingEvidence(
                f"runs/{notebook}/results.parquet is not there: dvc repro {notebook.replace('/', '-')}"
            )
        return self.tables[notebook]


def read_evidence(notebooks: list[str], runs: Path = RUNS) -> Evidence:
    """The evidence of those notebooks that have left results. InputError for a file that is no table of scores."""
    tables, cells, real = {}, {}, set()
    for notebook in dict.fromkeys(notebooks):
        folder = runs / notebook
        if not (folder / "results.parquet").is_file():
            continue
        try:
            tables[notebook] = pd.read_parquet(folder / "results.parquet")
            check_table(tables[notebook])
        except InputError as error:
            thing = f"runs/{notebook}/results.parquet"
            raise InputError(thing, found=error.found, expected=error.expected) from error
        except (OSError, ValueError) as error:  # pyarrow's errors are of these
            raise InputError(f"runs/{notebook}/results.parquet", found=error, expected="a Parquet table") from error
        if (folder / "executed.ipynb").is_file():
            executed = json.loads((folder / "executed.ipynb").read_text(encoding="utf-8"))
            cells |= _tagged(executed)
            backbone = str(_parameters(executed).get("backbone", OWN_MODELS))
            if not backbone.startswith(OWN_MODELS):
                real.add(notebook)
    return Evidence(tables, cells, frozenset(real))


@dataclass(frozen=True, eq=False)
class Sample:
    """The numbers that a claim is judged by: `values` [units, series], and how they are laid out.

    Series are the arms in order; then, of a trend across cases, the covariate; of curves, x and y of the points of the
    first arm, then of the second (`points` of each). Of an interaction, the arms at the first level, then at the
    second, NaN where a unit has no case of that level.
    """

    claim: Claim
    values: Array
    strata: list | None
    missing: int
    seeds: int
    points: tuple[int, int] = (0, 0)


def sample_of(claim: Claim, evidence: Evidence) -> Sample:
    """Gather a claim's numbers, one row per unit. MissingEvidence if the notebook, an arm or a metric is not there."""
    test, table = claim.test, evidence.table(claim.test.notebook)
    for column in (test.strata, test.image, test.between and test.between.column):
        if column and column not in table.columns:
            raise MissingEvidence(f"the scores of {test.notebook} have no column {column}")
    curves = [_curve(table, arm, along) for arm, along in zip(test.arms, test.along or (), strict=False)]
    series = [(arm, test.metric) for arm in test.arms]
    points = (0, 0)
    if test.at_equal:
        points = (len(curves[0]), len(curves[1]))
        series = [(arm, metric) for curve in curves for metric in (test.at_equal, test.metric) for arm in curve]
    if test.across:
        series.append((test.arms[0], test.across))
    _require(table, series, test.notebook)
    if test.between:
        return _between(claim, table, series)
    kept = _units(table, series, test.strata, test.image)
    return Sample(claim, kept.values, kept.strata, kept.missing, kept.seeds, points)


def identity_errors(claim: Claim, evidence: Evidence) -> tuple[Array, int]:
    """Each case's largest |value| or |difference| over its seeds, NaN where one is missing; and the number of seeds."""
    test, table = claim.test, evidence.table(claim.test.notebook)
    _require(table, [(arm, test.metric) for arm in test.arms], test.notebook)
    rows = table[table["metric"] == test.metric].set_index(["case", "seed"])
    sides = [rows.loc[rows["arm"] == arm, "value"].astype(float) for arm in test.arms]
    both = pd.concat(sides, axis=1, join="outer")
    gaps = (both.iloc[:, 0] - both.iloc[:, 1] if len(sides) == 2 else both.iloc[:, 0]).abs().groupby(level="case")
    worst = gaps.max().where(gaps.count() == gaps.size())
    return worst.to_numpy(), min(side.index.get_level_values("seed").nunique() for side in sides)


def _curve(table: pd.DataFrame, arm: str, along: str) -> list[str]:
    """The arm and its variants `arm@along=…`, in order of name."""
    there = set(table["arm"].unique())
    variants = [name for name in there if name.startswith(f"{arm}@")]
    curve = sorted(name for name in variants if (found := SETTING.search(name)) and found["name"] == along)
    curve = [arm, *curve] if arm in there else curve
    if len(curve) < 2:
        raise MissingEvidence(f"arm {arm} has {len(curve)} settings of {along}: a curve needs 2")
    return curve


def _require(table: pd.DataFrame, series: list[tuple[str, str]], notebook: str) -> None:
    there = set(table["arm"].unique())
    absent = sorted({arm for arm, _ in series} - there)
    if absent:
        raise MissingEvidence(f"the scores of {notebook} have no arm {', '.join(absent)}")
    for arm, metric in series:
        if metric not in table.loc[table["arm"] == arm, "metric"].unique():
            raise MissingEvidence(f"the scores of {notebook} have no metric {metric} of arm {arm}")


def _units(table: pd.DataFrame, series: list[tuple[str, str]], strata: str | None, image: str | None) -> Units:
    wanted = table[table["arm"].isin([arm for arm, _ in series])]
    wanted = wanted[wanted["metric"].isin([metric for _, metric in series])]
    try:
        found = units(wanted, series, stratum=strata, image=image)
    except InputError as error:  # no case in common, two strata for a case: this claim's loss, not the ledger's
        raise MissingEvidence(str(error)) from error
    if not len(found.values):
        named = ", ".join(dict.fromkeys(metric for _, metric in series))
        raise MissingEvidence(f"no case has {named} in all arms")
    return found


def _between(claim: Claim, table: pd.DataFrame, series: list[tuple[str, str]]) -> Sample:
    test = claim.test
    sides, missing, seeds = [], 0, []
    for level in test.between.levels:
        rows = table[table[test.between.column] == level]
        if rows.empty:
            raise MissingEvidence(f"no case of {test.notebook} has {test.between.column} {level}")
        _require(rows, series, test.notebook)
        kept = _units(rows, series, None, test.image)
        sides.append(pd.DataFrame(kept.values, index=kept.names))
        missing, seeds = missing + kept.missing, [*seeds, kept.seeds]
    both = pd.concat(sides, axis=1)
    return Sample(claim, both.to_numpy(dtype=float), None, missing, min(seeds))


def _tagged(executed: Mapping[str, Any]) -> dict[str, str]:
    return {
        tag.removeprefix("claim:"): cell["id"]
        for cell in executed.get("cells", [])
        for tag in cell.get("metadata", {}).get("tags", [])
        if tag.startswith("claim:")
    }


def _parameters(executed: Mapping[str, Any]) -> Mapping[str, Any]:
    return executed.get("metadata", {}).get("palimpsest", {}).get("parameters", {})
