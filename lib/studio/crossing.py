"""Where two fidelity–alignment curves cross: an area between them of nearly nothing may be two areas that cancel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd


def crossings(
    summary: pd.DataFrame, ours: Sequence[str], theirs: Sequence[str], metrics: tuple[str, str]
) -> list[tuple[float, bool]]:
    """The places (x, whether ours is the upper one to the left of it) at which two curves of means cross, in order.

    `summary` has columns arm, metric and value, metrics are those of x and y, and a curve is straight lines between its
    arms in the order of x. Curves that touch or have no common range do not cross.
    """
    value = summary.set_index(["arm", "metric"])["value"]
    lines = []
    for arms in (ours, theirs):
        points = sorted((value[arm, metrics[0]], value[arm, metrics[1]]) for arm in arms)
        lines.append(np.array(points, dtype=float).T)
    low, high = max(x[0] for x, _ in lines), min(x[-1] for x, _ in lines)
    if low >= high:
        return []
    bends = np.concatenate([x for x, _ in lines])
    at = np.unique([low, *bends[(bends > low) & (bends < high)], high])
    gap = np.subtract(*[np.interp(at, x, y) for x, y in lines])
    at, gap = at[gap != 0], gap[gap != 0]
    turns = np.flatnonzero(gap[:-1] * gap[1:] < 0)
    return [(float(at[i] - gap[i] * (at[i + 1] - at[i]) / (gap[i + 1] - gap[i])), bool(gap[i] > 0)) for i in turns]


def crossing_told(name: str, rival: str, found: Sequence[tuple[float, bool]], unit: str) -> str:
    """The crossings in a sentence, "" if there is none."""
    if not found:
        return ""
    places = ", ".join(f"{place:.1f}" for place, _ in found)
    upper = name if found[0][1] else rival
    return f"Their curves cross at {places} {unit}: below that {upper} is the upper one."
