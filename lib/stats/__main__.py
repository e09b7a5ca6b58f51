"""`python -m lib.stats scores.csv --compare lore rf-solver --metric clip --stratum type`: paired differences, printed.

The CSV has a row per case, arm, seed and metric (columns case, arm, metric, value; seed if there are several).
"""

import argparse
import sys
from pathlib import Path

import pandas as pd

from lib.core.errors import InputError, PalimpsestError
from lib.stats.multiple import holm
from lib.stats.paired import compare


def main(arguments: list[str] | None = None) -> int:
    given = _parser().parse_args(arguments)
    try:
        table = read_scores(given.scores)
        found = difference_table(
            table, given.compare, given.metric, stratum=given.stratum, image=given.image, level=given.level,
            resamples=given.resamples, seed=given.seed,
        )  # fmt: skip
    except PalimpsestError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(found.to_string(index=False, float_format=lambda value: f"{value:.4g}", na_rep="–"))
    unit = f"images ({given.image})" if given.image else "cases"
    within = f", within strata of {given.stratum}" if given.stratum else ""
    print(f"\na − b over {unit}; {given.level:.0%} BCa intervals{within}; p by sign flips, Holm over the rows.")
    if (found["low"] == found["high"]).any():
        print("An interval without width: all differences are equal, there was nothing to resample.")
    return 0


def read_scores(path: str | Path) -> pd.DataFrame:
    """A CSV of tidy scores; without a column seed all rows are of seed 0. InputError if it cannot be read."""
    try:
        table = pd.read_csv(path, dtype={"case": str, "arm": str, "metric": str, "image": str})
    except FileNotFoundError as error:
        raise InputError(f"file {path}", found="no such file", expected="a CSV of scores") from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise InputError(f"file {path}", found=error, expected="a CSV in UTF-8 with a header") from error
    return table if "seed" in table.columns else table.assign(seed=0)


def difference_table(
    table: pd.DataFrame, arms: list[str], metrics: list[str] | None = None, *, stratum: str | None = None,
    image: str | None = None, level: float = 0.95, resamples: int = 10_000, seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """The first arm against each other one, per metric (all of the first arm's if none is named).

    Columns metric, a, b, difference, low, high, p, p_holm, standardised, win, n, missing, seeds. InputErrors as
    `lib.stats.tidy.units` raises them.
    """
    first, *rivals = arms
    if not rivals or len(set(arms)) != len(arms):
        raise InputError("arms to compare", found=f"{arms}", expected="two or more, each once, the reference first")
    if metrics is None:
        absent = {"arm", "metric"} - set(table.columns)
        if absent:
            raise InputError("table", found=f"no column {', '.join(sorted(absent))}", expected="arm and metric")
        metrics = list(dict.fromkeys(table.loc[table["arm"] == first, "metric"]))
    options = {"stratum": stratum, "image": image, "level": level, "resamples": resamples, "seed": seed}
    rows = []
    for metric in metrics:
        for rival in rivals:
            found = vars(compare(table, first, rival, metric, **options))
            rows.append({"metric": metric, "a": first, "b": rival, "difference": found.pop("value"), **found})
    if not rows:
        raise InputError("arm", found=repr(first), expected=f"one of {sorted(set(table['arm']))}")
    shown = pd.DataFrame(rows)
    shown.insert(shown.columns.get_loc("p") + 1, "p_holm", holm(shown["p"]))
    counts = ["n", "missing", "seeds"]
    return shown[[name for name in shown.columns if name not in counts] + counts]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lib.stats", description=__doc__.splitlines()[0])
    parser.add_argument("scores", help="CSV with columns case, arm, metric, value and, if there are several, seed")
    parser.add_argument("--compare", nargs="+", required=True, metavar="ARM", help="the reference, then its rivals")
    parser.add_argument("--metric", nargs="+", metavar="NAME", help="default: all that the reference has")
    parser.add_argument("--stratum", metavar="COLUMN", help="resample within the values of this column (edit types)")
    parser.add_argument("--image", metavar="COLUMN", help="cases with the same value here are one unit")
    parser.add_argument("--level", type=float, default=0.95)
    parser.add_argument("--resamples", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap and of the sign flips")
    return parser


if __name__ == "__main__":
    sys.exit(main())
