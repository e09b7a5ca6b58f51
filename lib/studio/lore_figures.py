"""The figures of the notebooks on LORE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lib.editors.anchors import ANCHORS
from lib.stats.bootstrap import mean_interval, per_case
from lib.stats.paired import Difference
from lib.studio.curves import draw_curve, mark_anchors, span_of
from lib.studio.figures import EDITOR_COLOURS, EDITOR_MARKS, FAINT, PALETTE
from lib.world.edits import GAPS

# Those that are given the mask share a panel: colours of their own, and lore's in both panels.
GIVEN_COLOURS = {
    "lore": EDITOR_COLOURS["lore"],
    "kv-edit": "#009E73",
    "kv-edit@share=latents": "#E69F00",
    "rf-solver@values=masked": "#D55E00",
}
GIVEN_MARKS = {"lore": "o", "kv-edit": "s", "kv-edit@share=latents": "^", "rf-solver@values=masked": "D"}
STARTS = {  # what attention is read from
    "source-word": "source word\nsource prompt",
    "fresh-noise": "fresh\nnoise",
    "inverted-noise": "inverted\nnoise",
    "lore-no-optimisation": "renoised",
    "lore": "renoised,\noptimised",
}
JITTER = 0.618  # of a golden section: spread out, the same on every run


def tracks(
    summary: pd.DataFrame,
    table: pd.DataFrame,
    free: Mapping[str, Sequence[str]],
    given: Mapping[str, Sequence[str]],
    anchors: Sequence[str],
    *,
    x: tuple[str, str] = ("background_psnr", "background PSNR, dB (higher: more kept)"),
    y: tuple[str, str] = ("attribute_accuracy", "attribute accuracy (higher: more edited)"),
) -> Figure:
    """Alignment over fidelity in two panels: editors without the mask, editors with it; 95 % ellipses. What is kept
    differs too much between them for one scale of fidelity.

    `free` and `given` map a name to its arms along one setting (one arm: a point). Anchors are crosses, those that need
    the mask only beside its owners.
    """
    rows = summary.set_index(["arm", "metric"])
    figure, panels = plt.subplots(1, 2, figsize=(7.6, 4.8), sharey=True, layout="constrained")
    looks = (
        (free, {name: EDITOR_COLOURS[name] for name in free}, EDITOR_MARKS),
        (given, GIVEN_COLOURS, GIVEN_MARKS),
    )
    for axes, title, (curves, colours, marks) in zip(
        panels, ("without the mask", "given the mask"), looks, strict=True
    ):
        for name, arms in curves.items():
            look = {"color": colours[name], "marker": marks[name], "linestyle": "--" if marks[name] in "sD" else "-"}
            draw_curve(axes, rows, table, arms, (x[0], y[0]), label=name, **look)
        axes.set(title=title, xlabel=x[1], ylim=span_of(y[0]))
        axes.legend(frameon=False, fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)
    for axes, owned in zip(panels, (False, True), strict=True):
        mark_anchors(axes, rows, [name for name in anchors if owned or not ANCHORS[name].needs_mask], (x[0], y[0]))
    panels[0].set_ylabel(y[1])
    plt.close(figure)  # a cell shows it by ending with it, once
    return figure


def attention_figure(rows: pd.DataFrame, curve: pd.DataFrame) -> Figure:
    """Left: `in_mask_attention` per case and what it is read from, means with intervals. Right: LORE's loss per case
    (thin) and its mean, over iterations.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.6, 3.2), width_ratios=[1.5, 1], layout="constrained")
    for place, arm in enumerate(STARTS):
        values = per_case(rows, arm, "in_mask_attention").dropna()
        spread = 0.3 * (np.arange(len(values)) * JITTER % 1 - 0.5)
        colour = EDITOR_COLOURS["lore"] if arm.startswith("lore") else FAINT
        left.plot(place + spread, values, ".", color=colour, alpha=0.35, markersize=4)
        found = mean_interval(values)
        bars = [[found.value - found.low], [found.high - found.value]]
        left.errorbar(place, found.value, bars, fmt="_", color="black", markersize=22, capsize=4, linewidth=1.4)
    left.set_xticks(range(len(STARTS)), list(STARTS.values()))
    left.set(ylabel="attention inside the mask", ylim=(0, None))
    wide = curve.pivot(index="iterations", columns="case", values="loss")
    right.plot(wide.index, wide.to_numpy(), color=EDITOR_COLOURS["lore"], alpha=0.25, linewidth=0.8)
    right.plot(wide.index, wide.mean(axis=1), "o-", color="black", markersize=3, linewidth=1.6, label="mean")
    right.set_xticks(wide.index)
    right.set(xlabel="iterations", ylabel="LORE's loss")
    right.legend(frameon=False)
    plt.close(figure)
    return figure


def gap_figure(table: pd.DataFrame, arms: Sequence[str], suppression: pd.Series, distance: pd.Series) -> Figure:
    """Replacements by semantic gap. Left: accuracy per bin and arm. Right: how much more attention the word gets from
    fresh noise than from inverted noise, over the distance of the two words; both by case id.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.6, 3.2), width_ratios=[1.5, 1], layout="constrained")
    colours, marks = EDITOR_COLOURS | GIVEN_COLOURS, EDITOR_MARKS | GIVEN_MARKS
    for place, arm in enumerate(arms):
        found = [mean_interval(per_case(table[table["gap"] == gap], arm, "attribute_accuracy")) for gap in GAPS]
        middle = np.arange(len(GAPS)) + 0.12 * (place - (len(arms) - 1) / 2)
        values = np.array([each.value for each in found])
        bars = [values - [each.low for each in found], [each.high for each in found] - values]
        left.errorbar(
            middle,
            values,
            bars,
            color=colours[arm],
            marker=marks[arm],
            markersize=4,
            capsize=2,
            linewidth=1.2,
            label=arm,
        )
    left.set_xticks(range(len(GAPS)), GAPS)
    left.set(xlabel="gap of the two nouns in the category tree", ylabel="attribute accuracy", ylim=(-0.04, 1.04))
    left.legend(frameon=False, fontsize=7, loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
    bins = table.drop_duplicates("case").set_index("case")["gap"]
    for gap, colour, marker in zip(GAPS, PALETTE, "os^", strict=False):
        names = [name for name in distance.index if bins[name] == gap]
        right.plot(distance[names], suppression[names], marker, color=colour, markersize=4, alpha=0.7, label=gap)
    right.axhline(0, color="0.75", linewidth=1)
    right.set(xlabel="1 - cos of the words' embeddings", ylabel="attention: fresh - inverted")
    right.legend(frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
    plt.close(figure)
    return figure


def differences_figure(found: Mapping[str, Mapping[str, Difference]], titles: Mapping[str, str], base: str) -> Figure:
    """Paired differences to an arm, a line per other arm and a panel per metric; bars are 95 % intervals."""
    arms = list(next(iter(found.values())))
    size = (7.6, 0.22 * len(arms) + 0.7)
    figure, panels = plt.subplots(1, len(found), figsize=size, sharey=True, layout="constrained", squeeze=False)
    for axes, (metric, differences) in zip(panels[0], found.items(), strict=True):
        axes.axvline(0, color="0.75", linewidth=1)
        for place, arm in enumerate(arms):
            each = differences[arm]
            told = each.low > 0 or each.high < 0
            colour = EDITOR_COLOURS["lore"] if told else FAINT
            axes.plot([each.low, each.high], [place] * 2, color=colour, linewidth=1.6)
            axes.plot(each.value, place, "o", color=colour, markersize=5, markerfacecolor=colour if told else "white")
        axes.set_yticks(range(len(arms)), arms)
        axes.set(xlabel=f"{titles[metric]}, minus {base}'s", ylim=(len(arms) - 0.4, -0.6))
        axes.spines[["top", "right"]].set_visible(False)
    plt.close(figure)
    return figure
