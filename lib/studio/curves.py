"""The fidelity–alignment picture: how much of the background each editor pays for how much of the edit."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse
from scipy.stats import chi2

from lib.metrics.score import METRICS
from lib.stats.bootstrap import Interval, difference_at_equal, mean_interval, per_case
from lib.studio.figures import EDITOR_MARKS, INK
from lib.studio.tables import TITLES

WITHIN = 0.95  # of an ellipse
LINES = {"o": "-", "s": "--", "^": ":", "D": "-."}  # an editor's line goes with its mark


def trade_off(
    summary: pd.DataFrame,
    table: pd.DataFrame,
    curves: Mapping[str, Sequence[str]],
    anchors: Sequence[str],
    colours: Mapping[str, str],
    chosen: Mapping[str, str],
    *,
    x: tuple[str, str] = ("background_psnr", "background PSNR, dB (higher: more kept)"),
    y: tuple[str, str] = ("attribute_accuracy", "attribute accuracy (higher: more edited)"),
) -> Figure:
    """One curve per editor through its settings (with 95 % ellipses), the chosen setting ringed, anchors as crosses."""
    rows = summary.set_index(["arm", "metric"])
    figure, axes = plt.subplots(figsize=(7.2, 4.6), layout="constrained")
    for editor, arms in curves.items():
        look = {"color": colours[editor], "marker": EDITOR_MARKS.get(editor, "o"), "label": editor}
        draw_curve(axes, rows, table, arms, (x[0], y[0]), linestyle=LINES[look["marker"]], **look)
        ring = _points(rows, [chosen[editor]], x[0], y[0])
        axes.plot(ring["x"], ring["y"], "o", markersize=11, markerfacecolor="none", markeredgecolor=colours[editor])
    mark_anchors(axes, rows, anchors, (x[0], y[0]))
    axes.set(xlabel=x[1], ylabel=y[1], ylim=span_of(y[0]))
    axes.legend(title="editor (ring: the setting in use)", loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    plt.close(figure)  # a cell shows it by ending with it, once
    return figure


def span_of(metric: str) -> tuple[float, float] | None:
    """The limits of an axis for a share, which runs from 0 to 1; None, what is drawn decides, for anything else."""
    return (-0.04, 1.06) if METRICS[metric].range == (0, 1) else None


def draw_curve(
    axes: Axes, rows: pd.DataFrame, table: pd.DataFrame, arms: Sequence[str], metrics: tuple[str, str], **look: Any
) -> None:
    """A line through the means of `arms` (rows: a summary by arm and metric), around each its 95 % ellipse."""
    points = _points(rows, arms, *metrics)
    axes.plot(points["x"], points["y"], markersize=4, linewidth=1.6, **look)
    for arm, point in zip(arms, points.itertuples(), strict=True):
        width, height, angle = ellipse(covariance_of_means(table, arm, metrics))
        axes.add_patch(
            Ellipse((point.x, point.y), width, height, angle=angle, color=look["color"], alpha=0.18, linewidth=0)
        )


def covariance_of_means(table: pd.DataFrame, arm: str, metrics: tuple[str, str]) -> np.ndarray:
    """Covariance [2, 2] of the means over cases of two metrics, cases drawn anew within their stratum.

    What the mean of one metric has no value for counts in the other's alone. Strata of one case add nothing.
    """
    values = pd.DataFrame({place: per_case(table, arm, metric) for place, metric in enumerate(metrics)})
    strata = table.drop_duplicates("case").set_index("case")["stratum"].reindex(values.index)
    counts = values.count().to_numpy()
    centred = (values - values.groupby(strata).transform("mean")).fillna(0.0).to_numpy()
    return centred.T @ centred / np.outer(counts, counts)


def ellipse(covariance: np.ndarray) -> tuple[float, float, float]:
    """Width, height and angle in degrees of the ellipse that holds 95 % of a normal law of this covariance [2, 2]."""
    variances, directions = np.linalg.eigh(covariance)
    width, height = 2 * np.sqrt(chi2.ppf(WITHIN, 2) * variances.clip(min=0.0))
    return float(width), float(height), float(np.degrees(np.arctan2(directions[1, 0], directions[0, 0])))


def mark_anchors(axes: Axes, rows: pd.DataFrame, names: Sequence[str], metrics: tuple[str, str]) -> None:
    """Anchors as crosses. Those far right of all that is drawn yet stand at the edge, with their number."""
    left, right = axes.get_xlim()
    points = _points(rows, names, *metrics)
    near = [x for x in points["x"] if x < right + (right - left) / 2]
    edge = max([right, *near]) + 0.12 * (right - left)
    furthest = min(near, default=right)
    if furthest < left + 0.02 * (right - left):
        left = furthest - 0.06 * (right - left)
    axes.set_xlim(left, edge)
    for name, (px, py) in zip(names, points.itertuples(index=False), strict=True):
        beyond = px > edge
        at = edge - 0.02 * (edge - left) if beyond else px
        axes.plot(at, py, ">" if beyond else "x", color="0.35", markersize=6)
        side, shift = ("right", -6) if at > left + 0.6 * (edge - left) else ("left", -3)
        text, up = (f"{name} ({px:.0f})", 11) if beyond else (name, 0 if side == "right" else -11)
        look = {"textcoords": "offset points", "color": "0.35", "fontsize": 8, "ha": side, "va": "center_baseline"}
        axes.annotate(text, (at, py), xytext=(shift, up), **look)


def _points(rows: pd.DataFrame, arms: Sequence[str], x: str, y: str) -> pd.DataFrame:
    return pd.DataFrame([(rows.loc[(arm, x)].value, rows.loc[(arm, y)].value) for arm in arms], columns=["x", "y"])


def by_type(
    table: pd.DataFrame, arms: Mapping[str, str], types: Sequence[str], colours: Mapping[str, str], metric: str
) -> Figure:
    """Mean of a metric per edit type with its 95 % interval over the type's cases, one bar per editor.

    `table` is tidy with a `stratum` column, `arms` editor -> arm.
    """
    figure, axes = plt.subplots(figsize=(9, 3.2), layout="constrained")
    width = 0.8 / len(arms)
    for place, (editor, arm) in enumerate(arms.items()):
        rows = table[(table["arm"] == arm) & (table["metric"] == metric)]
        cases = rows.groupby(["stratum", "case"])["value"].mean().reset_index()
        found = [mean_interval(cases.loc[cases["stratum"] == kind, "value"]) for kind in range(len(types))]
        offsets = [index + (place - (len(arms) - 1) / 2) * width for index in range(len(types))]
        axes.bar(offsets, [each.value for each in found], width * 0.92, color=colours[editor], label=editor)
        axes.vlines(offsets, [each.low for each in found], [each.high for each in found], INK, linewidth=0.8)
    axes.set_xticks(range(len(types)), types)
    axes.set(ylabel=TITLES[metric].removesuffix(" ↑"), ylim=(0, 1) if span_of(metric) else None)
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
