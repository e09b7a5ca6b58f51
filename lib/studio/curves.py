"""The fidelity–alignment picture: how much of the background each editor pays for how much of the edit."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.stats.bootstrap import Interval, difference_at_equal, per_case
from lib.studio.figures import EDITOR_MARKS

LINES = {"o": "-", "s": "--", "^": ":", "D": "-."}  # an editor's line goes with its mark


def trade_off(
    summary: pd.DataFrame,
    curves: Mapping[str, Sequence[str]],
    anchors: Sequence[str],
    colours: Mapping[str, str],
    chosen: Mapping[str, str],
    *,
    x: tuple[str, str] = ("background_psnr", "background PSNR, dB (higher: more kept)"),
    y: tuple[str, str] = ("attribute_accuracy", "attribute accuracy (higher: more edited)"),
) -> Figure:
    """One curve per editor through its settings (95 % bars in both directions), the chosen setting ringed, anchors as
    crosses.
    """
    rows = summary.set_index(["arm", "metric"])
    figure, axes = plt.subplots(figsize=(7.2, 4.6), layout="constrained")
    for editor, arms in curves.items():
        points = _points(rows, arms, x[0], y[0])
        axes.errorbar(
            points["x"], points["y"], xerr=[points["x"] - points["x_low"], points["x_high"] - points["x"]],
            yerr=[points["y"] - points["y_low"], points["y_high"] - points["y"]],
            color=colours[editor], marker=EDITOR_MARKS.get(editor, "o"), markersize=4, linewidth=1.6, elinewidth=0.8,
            linestyle=LINES[EDITOR_MARKS.get(editor, "o")], capsize=2, label=editor,
        )  # fmt: skip
        ring = _points(rows, [chosen[editor]], x[0], y[0])
        axes.plot(ring["x"], ring["y"], "o", markersize=11, markerfacecolor="none", markeredgecolor=colours[editor])
    _mark_anchors(axes, _points(rows, anchors, x[0], y[0]), anchors)
    axes.set(xlabel=x[1], ylabel=y[1], ylim=(-0.04, 1.06))
    axes.legend(title="editor (ring: the setting in use)", loc="center right", frameon=False)
    plt.close(figure)  # a cell shows it by ending with it, once
    return figure


def _mark_anchors(axes: Axes, points: pd.DataFrame, names: Sequence[str]) -> None:
    axes.plot(points["x"], points["y"], "x", color="0.35", markersize=7)
    right = points["x"].max()
    for name, (px, py) in zip(names, points[["x", "y"]].itertuples(index=False), strict=True):
        side, shift = ("right", -6) if px > 0.8 * right else ("left", 6)
        axes.annotate(name, (px, py), xytext=(shift, 5), textcoords="offset points", color="0.35", fontsize=8, ha=side)


def _points(rows: pd.DataFrame, arms: Sequence[str], x: str, y: str) -> pd.DataFrame:
    found = []
    for arm in arms:
        one, other = rows.loc[(arm, x)], rows.loc[(arm, y)]
        found.append((one.value, one.low, one.high, other.value, other.low, other.high))
    return pd.DataFrame(found, columns=["x", "x_low", "x_high", "y", "y_low", "y_high"])


def by_type(
    table: pd.DataFrame, arms: Mapping[str, str], types: Sequence[str], colours: Mapping[str, str], metric: str
) -> Figure:
    """Mean of a metric per edit type, one bar per editor; `table` is tidy with a `stratum` column, `arms` editor ->
    arm.
    """
    figure, axes = plt.subplots(figsize=(9, 3.2), layout="constrained")
    width = 0.8 / len(arms)
    for place, (editor, arm) in enumerate(arms.items()):
        rows = table[(table["arm"] == arm) & (table["metric"] == metric)]
        means = rows.groupby("stratum")["value"].mean().reindex(range(len(types)))
        offsets = [index + (place - (len(arms) - 1) / 2) * width for index in range(len(types))]
        axes.bar(offsets, means, width * 0.92, color=colours[editor], label=editor)
    axes.set_xticks(range(len(types)), types)
    axes.set(ylabel=metric.replace("_", " "), ylim=(0, 1))
    axes.legend(ncols=len(arms), frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    plt.close(figure)
    return figure


def at_equal_fidelity(
    table: pd.DataFrame,
    curves: Mapping[str, Sequence[str]],
    ours: str,
    strata: Sequence[int | None],
    *,
    x: str = "background_psnr",
    y: str = "attribute_accuracy",
) -> dict[str, Interval | None]:
    """Mean of `y` along our curve less a rival's at equal `x`, by rival; None where the two curves do not meet.

    `strata` are those of the cases in order of id.
    """

    def points(editor: str, metric: str) -> list[np.ndarray]:
        return [per_case(table, arm, metric).to_numpy() for arm in curves[editor]]

    own = [points(ours, x), points(ours, y)]
    found: dict[str, Interval | None] = {}
    for rival in curves:
        if rival == ours:
            continue
        theirs = [points(rival, x), points(rival, y)]
        ends = [[np.nanmean(column) for column in side[0]] for side in (own, theirs)]
        meet = max(map(min, ends)) < min(map(max, ends))
        found[rival] = difference_at_equal(*own, *theirs, strata) if meet else None
    return found
