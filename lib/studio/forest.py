"""Effects with their intervals for the eye: the ledger's claims and verdicts, and an ablation's arms against a base."""

from __future__ import annotations

import html
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lib.claims.verdict import VERDICTS
from lib.core.errors import InputError
from lib.studio.figures import PALETTE

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Claimed = Mapping[str, Any]  # a row of claims.json, or vars() of a `lib.claims.verdict.Row`
MARKS = dict(zip(VERDICTS, (("#009E73", "o"), ("#D55E00", "X"), ("#7A7A7A", "s"), ("#BBBBBB", "x")), strict=True))
HEADER = ("claim", "statement", "effect [95 %]", "paper", "n (× seeds)", "p (Holm)", "verdict", "seen in")


def forest(rows: Sequence[Claimed]) -> Figure:
    """A panel per measure (a metric, its slope, its correlation), a line per claim that has an effect.

    To the right is as claimed. Colour and marker give the verdict, filled for confirmatory claims; the bar is the 95 %
    interval, the gray line the margin (0 unless the claim has one), the black tick the paper's own value where it has
    the unit of the test. What was not tested is counted in the legend. InputError without rows.
    """
    from matplotlib import pyplot as plt

    if not rows:
        raise InputError("rows of the ledger", found="none", expected="one at least")
    panels: dict[str, list[Claimed]] = {}
    for row in rows:
        if row["effect"] is not None:
            panels.setdefault(row["measure"], []).append(row)
    sizes = [len(panel) for panel in panels.values()] or [1]
    figure, grid = plt.subplots(
        len(sizes), 1, figsize=(7.2, 1.1 + sum(0.24 * size + 0.62 for size in sizes)), layout="constrained",
        squeeze=False, gridspec_kw={"height_ratios": [size + 1 for size in sizes]},
    )  # fmt: skip
    for axes, (measure, panel) in zip(grid[:, 0], panels.items(), strict=False):
        _panel(axes, measure, panel)
    if not panels:
        grid[0, 0].set_axis_off()
    _legend(figure, rows)
    plt.close(figure)  # a cell shows it by ending with it, once
    return figure


def against_base(differences: pd.DataFrame, metrics: Mapping[str, str]) -> Figure:
    """A panel per metric (name -> title), a line per arm: its difference from the base arm with the 95 % interval.

    `differences` has columns axis, arm, metric, value, low, high; arms stand in its order, those of one axis together,
    a gap and the other of two colours tell an axis from its neighbours. The gray line is the base: no difference.
    """
    from matplotlib import pyplot as plt

    arms = differences[["axis", "arm"]].drop_duplicates()
    axes_named = list(dict.fromkeys(arms["axis"]))
    heights = [place + 0.7 * axes_named.index(axis) for place, axis in enumerate(arms["axis"])]
    figure, panels = plt.subplots(
        1,
        len(metrics),
        figsize=(7.2, 0.8 + 0.21 * (max(heights) + 1)),
        sharey=True,
        layout="constrained",
        squeeze=False,
    )
    for panel, (metric, title) in zip(panels[0], metrics.items(), strict=True):
        rows = differences[differences["metric"] == metric].set_index("arm").loc[arms["arm"]]
        for height, (arm, row) in zip(heights, rows.iterrows(), strict=True):
            colour = PALETTE[axes_named.index(row["axis"]) % 2]
            panel.plot([row["low"], row["high"]], [height] * 2, color=colour, linewidth=1.6)
            panel.plot(row["value"], height, "o", color=colour, markersize=4, label=arm)
        panel.axvline(0, color="0.6", linewidth=1, zorder=0)
        panel.set_title(title, fontsize="medium")
        panel.spines[["top", "right"]].set_visible(False)
    panels[0, 0].set_yticks(heights, arms["arm"])
    panels[0, 0].set_ylim(max(heights) + 0.8, -0.8)
    plt.close(figure)
    return figure


def ledger_markdown(rows: Sequence[Claimed], page: str = "{notebook}.html") -> str:
    """The ledger as a Markdown table, a line per claim; `page` makes the address of a notebook's page."""
    lines = [_line(HEADER), _line(["---"] * len(HEADER))]
    for row in rows:
        target = _target(row, page)
        seen = f"[{row['notebook']}]({target})" if target else row["notebook"]
        lines.append(_line([text.replace("|", "\\|") for text in _cells(row)] + [seen]))
    return "\n".join(lines) + "\n"


def ledger_html(rows: Sequence[Claimed], page: str = "{notebook}.html") -> str:
    """The same table as HTML, verdicts in their colours."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in HEADER)
    body = []
    for row in rows:
        *cells, verdict = (html.escape(text) for text in _cells(row))
        colour, target = MARKS[row["verdict"]][0], _target(row, page)
        seen = html.escape(row["notebook"])
        seen = f'<a href="{html.escape(target)}">{seen}</a>' if target else seen
        cells = [*cells, f'<span style="border-left: 0.6em solid {colour}; padding-left: 0.4em">{verdict}</span>', seen]
        body.append(f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def tally(rows: Sequence[Claimed]) -> dict[str, int]:
    """How many claims got each verdict, in the order of the verdicts, zeros included."""
    counted = Counter(row["verdict"] for row in rows)
    return {verdict: counted[verdict] for verdict in VERDICTS}


def _panel(axes: Axes, measure: str, rows: Sequence[Claimed]) -> None:
    for height, row in enumerate(rows):
        sign = -1.0 if row["direction"] == "lower" else 1.0
        colour, marker = MARKS[row["verdict"]]
        if row["ci_low"] is not None:
            axes.plot([sign * row["ci_low"], sign * row["ci_high"]], [height] * 2, color=colour, linewidth=1.6)
        face = colour if row["confirmatory"] else "white"
        axes.plot(
            sign * row["effect"], height, marker, color=colour, markerfacecolor=face, markersize=5.5, label=row["id"]
        )
        edges = {"equivalence": (-1, 1), "identity": (1,)}.get(row["kind"], (sign,))
        for edge in edges:
            limit = edge * (row["margin"] or 0.0)
            axes.plot([limit] * 2, [height - 0.45, height + 0.45], color="0.6", linewidth=1.0)
        if row["paper_value"] is not None:
            axes.plot(sign * row["paper_value"], height, "|", color="black", markersize=11, markeredgewidth=1.6)
    axes.set_yticks(range(len(rows)), [row["id"] for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_title(measure.replace("_", " "), loc="left", fontsize="medium")
    axes.spines[["top", "right"]].set_visible(False)


def _legend(figure: Figure, rows: Sequence[Claimed]) -> None:
    from matplotlib.lines import Line2D

    counted = tally(rows)
    handles = [
        Line2D([], [], color=colour, marker=marker, linestyle="none", label=f"{verdict} ({counted[verdict]})")
        for verdict, (colour, marker) in MARKS.items()
        if counted[verdict]
    ]
    handles.append(Line2D([], [], color="black", marker="|", linestyle="none", label="the paper's value"))
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False, fontsize="small")
    figure.supxlabel(
        "effect, 95 % interval, sign turned where less is claimed: to the right is as claimed (hollow: exploratory)",
        fontsize="small",
    )


def _cells(row: Claimed) -> list[str]:
    """All cells of a row but the link."""
    effect = _number(row["effect"])
    if row["kind"] == "identity" and row["effect"] is not None:
        effect = f"largest {effect}"
    if row["ci_low"] is not None:
        effect += f" [{_number(row['ci_low'])}, {_number(row['ci_high'])}]"
    verdict = row["verdict"] + (f": {row['reason']}" if row["reason"] else "")
    name = row["id"] if row["confirmatory"] else f"{row['id']} (exploratory)"
    counts = f"{row['n']} × {row['seeds']}" if row["seeds"] > 1 else str(row["n"] or "–")
    return [name, row["statement"], effect, _number(row["paper_value"]), counts, _number(row["p_holm"]), verdict]


def _target(row: Claimed, page: str) -> str:
    """The address of the notebook's page, at the cell if one is known; nothing if there is no evidence to see."""
    if row["effect"] is None:
        return ""
    return page.format(notebook=row["notebook"]) + (f"#cell-id={row['cell']}" if row["cell"] else "")


def _number(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.3g}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
