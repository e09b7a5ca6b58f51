"""From tidy scores (columns case, arm, seed, metric, value; optionally a stratum and an image) to one row per unit.

The unit is what is resampled: the case, with its seeds averaged; or, where a column says which cases share an image,
the image, with its cases averaged. Only units that have every series asked for are kept, and the others are counted.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lib.core.errors import InputError
from lib.stats.bootstrap import Array

COLUMNS = ("case", "arm", "seed", "metric", "value")
MIXED = "mixed"  # the stratum of an image whose cases are of several strata
Series = tuple[str, str]  # an arm and a metric


@dataclass(frozen=True, eq=False)
class Units:
    """Values [units, series] without gaps, each unit's name and stratum, and what was counted on the way."""

    values: Array
    names: list[Hashable]
    strata: list[Hashable] | None
    cases: int  # complete cases; the units unless several share an image
    missing: int  # cases dropped: no value, or none in one of the series
    seeds: int  # of the series that has fewest


def check_table(table: pd.DataFrame, extra: Sequence[str] = ()) -> None:
    """InputError unless the columns are there, values are numbers (or NaN), and no row comes twice."""
    absent = [name for name in (*COLUMNS, *extra) if name not in table.columns]
    if absent:
        raise InputError("table", found=f"no column {', '.join(absent)}", expected=f"{', '.join((*COLUMNS, *extra))}")
    if not pd.api.types.is_numeric_dtype(table["value"]):
        raise InputError("column value", found=f"type {table['value'].dtype}", expected="numbers, or NaN for missing")
    if np.isinf(table["value"].to_numpy(dtype=float)).any():
        raise InputError("column value", found="infinite numbers", expected="finite numbers, or NaN for missing")
    unnamed = [name for name in ("case", "arm", "seed", "metric", *extra) if table[name].isna().any()]
    if unnamed:
        raise InputError(f"column {unnamed[0]}", found="empty cells", expected="a name in every row")
    twice = table.duplicated(["case", "arm", "seed", "metric"])
    if twice.any():
        row = table[twice].iloc[0]
        found = f"{int(twice.sum())} rows twice, first {row['case']}, {row['arm']}, {row['seed']}, {row['metric']}"
        raise InputError("table", found=found, expected="one row per case, arm, seed and metric")


def units(
    table: pd.DataFrame, series: Sequence[Series], *, stratum: str | None = None, image: str | None = None
) -> Units:
    """The complete units of all series. Names are sorted: the order of the table's rows does not matter.

    InputError for a bad table, an arm or metric that is not in it, series without a common case, and a case with two
    strata or two images.
    """
    check_table(table, [name for name in (stratum, image) if name])
    columns = [_per_case(table, arm, metric) for arm, metric in series]
    joined = pd.concat([column for column, _ in columns], axis=1, keys=range(len(series)), join="outer").sort_index()
    in_all = joined.index[np.logical_and.reduce([joined.index.isin(column.index) for column, _ in columns])]
    if not len(in_all):
        named = " and ".join(f"{arm}, {metric}" for arm, metric in dict.fromkeys(series))
        raise InputError(f"cases of {named}", found="none in common", expected="the same cases in each")
    complete = joined.dropna()
    labels = None if stratum is None else _one_per_case(table, stratum).loc[complete.index]
    if image is None:
        rows, strata = complete, None if labels is None else labels.tolist()
    else:
        pictures = _one_per_case(table, image).loc[complete.index].to_numpy()
        rows = complete.groupby(pictures).mean()
        strata = None if labels is None else labels.groupby(pictures).agg(_common).loc[rows.index].tolist()
    return Units(
        values=rows.to_numpy(dtype=float),
        names=rows.index.tolist(),
        strata=strata,
        cases=len(complete),
        missing=len(joined) - len(complete),
        seeds=min(count for _, count in columns),
    )


def differences(a: Array, b: Array) -> Array:
    """`a - b`, exactly 0 where the two differ by rounding only (averages of equal values over seeds do)."""
    return np.where(np.abs(a - b) <= 1e-12 * np.maximum(np.abs(a), np.abs(b)), 0.0, a - b)


def _per_case(table: pd.DataFrame, arm: str, metric: str) -> tuple[pd.Series, int]:
    of_arm = table["arm"] == arm
    if not of_arm.any():
        raise InputError("arm", found=repr(arm), expected=f"one of {sorted(map(str, set(table['arm'])))}")
    rows = table[of_arm & (table["metric"] == metric)]
    if rows.empty:
        there = sorted(map(str, set(table.loc[of_arm, "metric"])))
        raise InputError(f"metric of arm {arm}", found=repr(metric), expected=f"one of {there}")
    return rows.groupby("case")["value"].mean(), rows["seed"].nunique()


def _one_per_case(table: pd.DataFrame, column: str) -> pd.Series:
    pairs = table[["case", column]].drop_duplicates()
    twice = pairs["case"].duplicated()
    if twice.any():
        found = f"case {pairs.loc[twice, 'case'].iloc[0]!r} with two of them"
        raise InputError(f"column {column}", found=found, expected="one for each case")
    return pairs.set_index("case")[column]


def _common(labels: pd.Series) -> Hashable:
    return labels.iloc[0] if labels.nunique() == 1 else MIXED
