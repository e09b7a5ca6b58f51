"""How many claims of each paper came out how, as one picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from lib.claims.verdict import VERDICTS
from lib.studio.forest import MARKS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PALE = 2.0  # red, green and blue together, from which on numbers in a bar are black


def verdict_bars(counts: Mapping[str, Mapping[str, int]]) -> Figure:
    """A bar per paper, in it a piece per verdict with its number of claims; `counts` is paper -> verdict -> number."""
    from matplotlib import pyplot as plt
    from matplotlib.colors import to_rgb

    figure, axes = plt.subplots(figsize=(7.2, 0.9 + 0.42 * len(counts)), layout="constrained")
    for verdict in VERDICTS:
        before = [sum(own.get(each, 0) for each in VERDICTS[: VERDICTS.index(verdict)]) for own in counts.values()]
        numbers = [own.get(verdict, 0) for own in counts.values()]
        colour = MARKS[verdict][0]
        ink = "white" if sum(to_rgb(colour)) < PALE else "black"
        bars = axes.barh(list(counts), numbers, left=before, color=colour, height=0.72, label=verdict)
        axes.bar_label(bars, [str(n) if n else "" for n in numbers], label_type="center", color=ink, fontsize=9)
    axes.invert_yaxis()
    axes.set(xlabel="claims")
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.legend(ncols=len(VERDICTS), frameon=False, loc="lower center", bbox_to_anchor=(0.45, 1.0), handlelength=1)
    plt.close(figure)  # a cell shows it by ending with it, once
    return figure
