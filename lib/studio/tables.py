"""Tables as readers want them: a value with its interval in one cell, arms in rows."""

from collections.abc import Mapping, Sequence

import pandas as pd

TITLES = {
    "attribute_accuracy": "attribute accuracy ↑",
    "attribute_preservation": "attribute preservation ↑",
    "edit_happened": "edit happened ↑",
    "clip_t": "CLIP similarity ↑",
    "background_psnr": "background PSNR, dB ↑",
    "background_ssim": "background SSIM ↑",
    "target_psnr": "PSNR to target, dB ↑",
    "nfe": "NFE ↓",
}
WORLD_SCORES = ("attribute_accuracy", "attribute_preservation", "background_psnr", "target_psnr")  # in its tables
DECIMALS = {"background_psnr": 1, "target_psnr": 1, "clip_t": 3}


def cell(value: float, low: float, high: float, decimals: int = 2) -> str:
    """ "0.71 [0.66, 0.75]"; only the value if the interval has no width, a dash if there is no value."""
    if pd.isna(value):
        return "–"
    if pd.isna(low) or low == high:
        return f"{value:.{decimals}f}"
    return f"{value:.{decimals}f} [{low:.{decimals}f}, {high:.{decimals}f}]"


def interval_table(
    summary: pd.DataFrame, arms: Sequence[str], metrics: Sequence[str], nfe: Mapping[str, float]
) -> pd.DataFrame:
    """Arms in rows, metrics in columns, from `lib.stats.bootstrap.summarise`'s rows; NFE and n at the end."""
    rows = summary.set_index(["arm", "metric"])
    table = pd.DataFrame(index=pd.Index(arms, name="95 % intervals over cases"))
    for metric in metrics:
        found = [rows.loc[(arm, metric)] for arm in arms]
        table[TITLES[metric]] = [cell(f.value, f.low, f.high, DECIMALS.get(metric, 2)) for f in found]
    table[TITLES["nfe"]] = [f"{nfe[arm]:g}" for arm in arms]
    table["n"] = [int(rows.loc[arm]["n"].max()) for arm in arms]
    return table


def headline(
    summary: pd.DataFrame, arms: Sequence[str], metrics: Sequence[str], nfe: Mapping[str, float]
) -> dict[str, dict[str, float]]:
    """The same as numbers for metrics.json: value, `_low` and `_high` per metric, then NFE and n; missing values are
    left out.
    """
    rows = summary.set_index(["arm", "metric"])
    found: dict[str, dict[str, float]] = {}
    for arm in arms:
        found[arm] = {}
        for metric in metrics:
            row = rows.loc[(arm, metric)]
            if not pd.isna(row.value):
                found[arm] |= {metric: row.value, f"{metric}_low": row.low, f"{metric}_high": row.high}
        found[arm] |= {"nfe": float(nfe[arm]), "n": int(rows.loc[arm]["n"].max())}
    return found


def verdict(name: str, better: str, worse: str, value: float, low: float, high: float) -> str:
    """One sentence on a difference with its interval: higher, lower, or not told apart."""
    if pd.isna(value):
        return f"{better} and {worse} cannot be compared in {name}: no case has both."
    interval = f"{value:+.3f} [{low:+.3f}, {high:+.3f}]"
    if low > 0:
        return f"**{better} lies above {worse}** in {name}: {interval}."
    if high < 0:
        return f"**{better} lies below {worse}** in {name}: {interval}."
    return f"{better} and {worse} cannot be told apart in {name}: {interval}."
