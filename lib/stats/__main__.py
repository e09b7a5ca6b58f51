"""`python -m lib.stats scores.csv --compare lore rf-solver --metric clip --stratum type`: paired differences, printed.

`--rank clip` ranks the arms image by image (ties averaged) and prints their mean ranks, `--pareto clip lpips` how sure
each arm's place on the front of two or more metrics is; `--lower lpips` names the metrics of which less is better.
A file of scores has a row per case, arm, seed and metric (columns case, arm, metric, value; seed if there are several),
in CSV or in Parquet, as `python -m lib.stages.edit --score` writes it. Several files are one table.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from pyarrow.lib import ArrowInvalid

from lib.core.errors import InputError, PalimpsestError
from lib.stats.multiple import holm
from lib.stats.paired import compare
from lib.stats.pareto import membership
from lib.stats.ranks import rank
from lib.stats.tidy import check_table


def main(arguments: list[str] | None = None) -> int:
    parser = _parser()
    given = parser.parse_args(arguments)
    if not (given.compare or given.rank or given.pareto):
        parser.error("nothing to do: give --compare, --rank or --pareto")
    try:
        if stray := set(given.lower) - {given.rank, *given.pareto}:
            raise InputError("--lower", found=f"{sorted(stray)}", expected="metrics of --rank or --pareto")
        table = pd.concat([read_scores(path) for path in given.scores], ignore_index=True)
        shown = [part(table, given) for asked, part in PARTS.items() if getattr(given, asked)]
    except PalimpsestError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n\n".join(shown))
    return 0


def read_scores(path: str | Path) -> pd.DataFrame:
    """Tidy scores, CSV or .parquet; without a column seed all rows are of seed 0. InputError if they cannot be read."""
    try:
        if Path(path).suffix == ".parquet":
            table = pd.read_parquet(path)
        else:
            table = pd.read_csv(path, dtype={"case": str, "arm": str, "metric": str, "image": str})
    except FileNotFoundError as error:
        raise InputError(f"file {path}", found="no such file", expected="scores in CSV or .parquet") from error
    except ArrowInvalid as error:
        raise InputError(f"file {path}", found=error, expected="whole Parquet") from error
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


def arms_with(table: pd.DataFrame, metrics: Sequence[str]) -> list[str]:
    """The arms that have all of these metrics, in the table's order. InputError if less than two have."""
    check_table(table)
    if absent := [metric for metric in metrics if metric not in set(table["metric"])]:
        raise InputError(f"metric {absent[0]}", found="none such", expected=f"one of {sorted(set(table['metric']))}")
    there = [set(table.loc[table["metric"] == metric, "arm"]) for metric in metrics]
    arms = [arm for arm in dict.fromkeys(table["arm"]) if all(arm in own for own in there)]
    if len(arms) < 2:
        raise InputError(f"arms with {' and '.join(metrics)}", found=f"{arms}", expected="two or more")
    return arms


def _compared(table: pd.DataFrame, given: argparse.Namespace) -> str:
    found = difference_table(
        table, given.compare, given.metric, stratum=given.stratum, image=given.image, level=given.level,
        resamples=given.resamples, seed=given.seed,
    )  # fmt: skip
    unit = f"images ({given.image})" if given.image else "cases"
    said = f"a − b over {unit}; {_intervals(given)}; p by sign flips, Holm over the rows (fewer with --metric);"
    said += "\nwin: the share of cases in which a is higher, ties half; whether higher is better is the metric's own."
    if (found["low"] == found["high"]).any():
        said += "\nAn interval without width: all differences are equal, there was nothing to resample."
    return f"{_text(found)}\n\n{said}"


def _ranked(table: pd.DataFrame, given: argparse.Namespace) -> str:
    better = _direction(given, given.rank)
    found = rank(
        table, given.arms or arms_with(table, [given.rank]), given.rank, better=better, stratum=given.stratum,
        image=given.image, level=given.level, resamples=given.resamples, seed=given.seed,
    )  # fmt: skip
    unit = f"image ({given.image})" if given.image else "case"
    said = f"Mean rank in {given.rank} ({better} is better) over each {unit}, 1 is best, ties averaged;"
    return f"{_text(found.means)}\n\n{said} {_intervals(given)}; Friedman's p of equal ranks: {found.p:.3g}."


def _front(table: pd.DataFrame, given: argparse.Namespace) -> str:
    ways = {metric: _direction(given, metric) for metric in given.pareto}
    if len(ways) < 2:
        raise InputError("--pareto", found=f"{given.pareto}", expected="two metrics or more, each once")
    found = membership(
        table, given.arms or arms_with(table, given.pareto), ways, stratum=given.stratum, image=given.image,
        resamples=given.resamples, seed=given.seed,
    )  # fmt: skip
    found["on_front"] = found["on_front"].map({True: "yes", False: "no"})
    better = ", ".join(f"{metric} ({way})" for metric, way in ways.items())
    unit = "images" if given.image else "cases"
    said = f"On the front of {better}: no arm is as good in all and better in one. Probability: share of"
    return f"{_text(found)}\n\n{said} {given.resamples} bootstrap samples of {unit} in which it is."


PARTS = {"compare": _compared, "rank": _ranked, "pareto": _front}


def _direction(given: argparse.Namespace, metric: str) -> str:
    return "lower" if metric in given.lower else "higher"


def _intervals(given: argparse.Namespace) -> str:
    within = f", within strata of {given.stratum}" if given.stratum else ""
    return f"{given.level:.0%} BCa intervals{within}"


def _text(found: pd.DataFrame) -> str:
    return found.to_string(index=False, float_format=lambda value: f"{value:.4g}", na_rep="–")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lib.stats", description=__doc__.splitlines()[0])
    parser.add_argument(
        "scores", nargs="+", help="CSV or Parquet: columns case, arm, metric, value and, if there are several, seed"
    )
    parser.add_argument("--compare", nargs="+", metavar="ARM", help="paired differences: the reference, then rivals")
    parser.add_argument("--metric", nargs="+", metavar="NAME", help="to compare in (default: all of the reference's)")
    parser.add_argument("--rank", metavar="METRIC", help="mean rank of each arm over images, ties averaged")
    parser.add_argument("--pareto", nargs="+", default=[], metavar="METRIC", help="how often each is on their front")
    parser.add_argument("--arms", nargs="+", metavar="ARM", help="to rank or to look for the front (default: all)")
    parser.add_argument("--lower", nargs="+", default=[], metavar="METRIC", help="metrics of which less is better")
    parser.add_argument("--stratum", metavar="COLUMN", help="resample within the values of this column (edit types)")
    parser.add_argument("--image", metavar="COLUMN", help="cases with the same value here are one unit")
    parser.add_argument("--level", type=float, default=0.95)
    parser.add_argument("--resamples", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap and of the sign flips")
    return parser


if __name__ == "__main__":
    sys.exit(main())
