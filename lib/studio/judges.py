"""What the notebook `world` measures of the judges beside the parser: tiny-clip and the two identity encoders.

Shares have exact intervals (Clopper & Pearson 1934): a bootstrap of 256 hits in 256 would be sure of 100 %.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from random import Random

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.special import betaincinv
from torch import Tensor

from lib.learning.identity import IdentityEncoder, Pairs, similarities
from lib.learning.identity_data import KINDS, WHOLE_SHARE, Identity, identities, scene_with, verification_pairs, view
from lib.metrics.identity import derangement, identity_score, same_identity_ceiling
from lib.stats.bootstrap import Interval, interval_of, mean_interval
from lib.studio.figures import FAINT, PALETTE, SMALL
from lib.studio.tables import cell

FAR, CLOSE = "another identity", "one word apart"  # who the other one of a different pair is
SETS = [(kind, other) for kind in KINDS for other in (FAR, CLOSE)]


def share(value: float, n: int, *, level: float = 0.95) -> Interval:
    """A share of n independent cases with its exact interval, which has a width at 0 and at 1 too."""
    hits, tail = round(value * n), (1 - level) / 2
    low = float(betaincinv(hits, n - hits + 1, tail)) if hits else 0.0
    high = float(betaincinv(hits + 1, n - hits, 1 - tail)) if hits < n else 1.0
    return Interval(hits / n, low, high, n)


def verified(encoders: Mapping[str, IdentityEncoder], count: int) -> dict[tuple[str, str], pd.DataFrame]:
    """Per (kind, who the other is) `count` held-out pairs, half of them same: column `same`, and two per encoder.

    Those are its cosine, named like the encoder, and whether it is `wrong` at its own threshold ("a wrong").
    """
    tables = {}
    for kind, other in SETS:
        pairs = verification_pairs(kind, "test", count, close=other == CLOSE)
        table = pd.DataFrame({"same": pairs.same.numpy()})
        for name, encoder in encoders.items():
            found = similarities(encoder, pairs)
            table[name] = found.numpy()
            table[f"{name} wrong"] = ((found >= encoder.threshold) != pairs.same).numpy()
        tables[kind, other] = table
    return tables


def accuracy(table: pd.DataFrame, name: str) -> Interval:
    """Verification accuracy of an encoder on one table of `verified`: as many same as different pairs."""
    return share(1 - table[f"{name} wrong"].mean(), len(table))


def accuracy_of(tables: Mapping[tuple[str, str], pd.DataFrame], name: str) -> dict[str, Interval]:
    """An encoder's accuracy on every set of pairs: "people", "people_one_word_apart" and so on."""
    return {
        kind if other == FAR else f"{kind}_{other.replace(' ', '_')}": accuracy(table, name)
        for (kind, other), table in tables.items()
    }


def errors_together(table: pd.DataFrame, one: str, other: str) -> Interval:
    """Correlation of both encoders' errors over pairs, as `lib.learning.identity.error_correlation`, with an interval.

    NaN if one of them is never wrong; bounds are NaN if that happens in many resamples.
    """
    a, b = (table[f"{name} wrong"].to_numpy(float) for name in (one, other))
    return interval_of(np.column_stack([a, b, a * b]), _phi, None, level=0.95, resamples=2000, seed=0)


def _phi(means: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pearson's correlation of two columns of 0 and 1 from the means [..., 3] of both and of their product."""
    a, b, both = np.moveaxis(means, -1, 0)
    scale = np.sqrt(a * (1 - a) * b * (1 - b))
    return np.divide(both - a * b, scale, out=np.full_like(scale, np.nan), where=scale > 0)


def verification_table(tables: Mapping[tuple[str, str], pd.DataFrame], one: str, other: str) -> pd.DataFrame:
    """Sets of pairs in rows: both accuracies, correlation of errors, pairs that both get wrong, how many by chance."""
    rows = {}
    for place, table in tables.items():
        wrong = [table[f"{name} wrong"] for name in (one, other)]
        right = [accuracy(table, name) for name in (one, other)]
        together = errors_together(table, one, other)
        rows[place] = {
            **{f"{name} ↑": _cell(found, 3) for name, found in zip((one, other), right, strict=True)},
            "error correlation": _cell(together, 2),
            "both wrong": int((wrong[0] & wrong[1]).sum()),
            "if independent": round(wrong[0].mean() * wrong[1].mean() * len(table), 1),
            "n": len(table),
        }
    return _told(rows, ["identities", "the other"])


def agreement_figure(tables: Mapping[str, pd.DataFrame], encoders: Mapping[str, IdentityEncoder]) -> Figure:
    """Both encoders' cosines of every pair, a panel per table, with their thresholds: at or above it is called same."""
    (one, x), (other, y) = ((name, encoder.threshold) for name, encoder in encoders.items())
    figure, panels = plt.subplots(
        1, len(tables), figsize=(9, 4.4), sharex=True, sharey=True, layout="constrained", squeeze=False
    )
    low = min(table[name].min() for table in tables.values() for name in encoders) - 0.1
    for panel, (title, table) in zip(panels[0], tables.items(), strict=True):
        panel.axvline(x, color=FAINT, linewidth=0.8)
        panel.axhline(y, color=FAINT, linewidth=0.8)
        for same, mark, colour in ((False, "x", PALETTE[3]), (True, "+", PALETTE[0])):
            shown = table[table["same"] == same]
            both = (shown[f"{one} wrong"] & shown[f"{other} wrong"]).mean()
            label = f"{'same' if same else 'different'}: both wrong {both:.1%}"
            panel.scatter(shown[one], shown[other], 11, colour, mark, linewidths=0.7, alpha=0.7, label=label)
        told = {"fontsize": SMALL, "color": FAINT}
        panel.text(low + 0.03, 1.0, f"only {other} calls them same", va="top", **told)
        panel.text(x + 0.03, low + 0.03, f"only {one}\ncalls them same", **told)
        panel.set(title=title, xlabel=f"cosine by {one}", xlim=(low, 1.05), ylim=(low, 1.05))
        panel.legend(frameon=False, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.14), handletextpad=0.1)
    panels[0, 0].set_ylabel(f"cosine by {other}")
    plt.close(figure)
    return figure


def views(kind: str, *, each: int = 8) -> tuple[Tensor, list[Identity]]:
    """`each` views of every held-out identity of a kind, as pairs to verify have them, and whom each shows."""
    rng = Random(f"views/{kind}")
    shown = [who for who in identities(kind, "test") for _ in range(each)]
    pictures = []
    for who in shown:
        scene, slot = scene_with(who, rng)
        pictures.append(view(scene, slot, whole=len(scene.things) == 1 and rng.random() < WHOLE_SHARE))
    return torch.cat(pictures), shown


def score_range(embeddings: Tensor, who: Sequence[Identity]) -> dict[str, Interval]:
    """The two cosines that an identity score is read between, `impostor` and `ceiling`, with intervals over identities.

    Impostor: another identity's view for the reference (as `lib.metrics.identity.impostor_baseline`); ceiling: another
    view of the same one.
    """
    order = derangement(len(who))
    wrong = pd.Series(identity_score(embeddings, embeddings[order]).numpy())
    named = pd.Series(["/".join(one) for one in who])
    apart = named != named[order].to_numpy()
    strangers = wrong[apart].groupby(named[apart], sort=True).mean()
    ceilings = [
        same_identity_ceiling(embeddings[list(rows)], [who[row] for row in rows])
        for rows in named.groupby(named, sort=True).groups.values()
    ]
    return {"impostor": mean_interval(strangers.to_numpy()), "ceiling": mean_interval(ceilings)}


@torch.inference_mode()
def ranges(encoders: Mapping[str, IdentityEncoder]) -> dict[tuple[str, str], dict[str, Interval]]:
    """`score_range` per (kind, encoder)."""
    found = {}
    for kind in KINDS:
        pictures, who = views(kind)
        for name, encoder in encoders.items():
            found[kind, name] = score_range(encoder.embed(pictures), who)
    return found


def range_table(
    found: Mapping[tuple[str, str], Mapping[str, Interval]], encoders: Mapping[str, IdentityEncoder]
) -> pd.DataFrame:
    """`ranges` with each encoder's threshold between the two, kinds and encoders in rows."""
    rows = {
        (kind, name): {
            "impostor": _cell(row["impostor"], 2),
            "threshold": f"{encoders[name].threshold:.2f}",
            "same identity": _cell(row["ceiling"], 2),
            "identities": row["ceiling"].n,
        }
        for (kind, name), row in found.items()
    }
    return _told(rows, ["kind", "encoder"])


def disguised(encoder: IdentityEncoder, pairs: Pairs, *, radius: float = 4 / 255, steps: int = 8) -> Pairs:
    """The first pictures changed so that the encoder finds them more like the second, by at most `radius` per value.

    Projected gradient ascent of the cosine (Madry et al. 2018, eq. 2.1): what training against a judge does, at its
    worst.
    """
    with torch.no_grad():
        goal = encoder.embed(pairs.second)
    change = torch.zeros_like(pairs.first)
    for _ in range(steps):
        change.requires_grad_(True)
        cosine = (encoder.embed((pairs.first + change).clamp(0, 1)) * goal).sum()
        (slope,) = torch.autograd.grad(cosine, change)
        change = (change.detach() + 2.5 * radius / steps * slope.sign()).clamp(-radius, radius)
    return Pairs((pairs.first + change).clamp(0, 1), pairs.second, pairs.same)


def fooled(
    encoders: Mapping[str, IdentityEncoder], count: int = 100, **attack: float
) -> dict[str, dict[str, Interval]]:
    """Per encoder that pictures are changed against, the share of different pairs that each encoder then calls same.

    `count` pairs of every kind with another identity, without those that an encoder gets wrong unchanged.
    """
    parts = [verification_pairs(kind, "test", 2 * count) for kind in KINDS]
    first, second, same = (torch.cat([getattr(part, name) for part in parts]) for name in ("first", "second", "same"))
    kept = Pairs(first[~same], second[~same], same[~same])
    told_apart = torch.stack([similarities(each, kept) < each.threshold for each in encoders.values()]).all(0)
    kept = Pairs(*(each[told_apart] for each in (kept.first, kept.second, kept.same)))
    found: dict[str, dict[str, Interval]] = {}
    for against, attacked in encoders.items():
        pairs = disguised(attacked, kept, **attack)
        found[against] = {
            name: share((similarities(each, pairs) >= each.threshold).double().mean().item(), len(kept.same))
            for name, each in encoders.items()
        }
    return found


def numbers(found: Mapping[str, Interval]) -> dict[str, float]:
    """Intervals as `write_metrics` takes them; without values that are not there, and bounds that are not known."""
    row: dict[str, float] = {}
    for name, interval in found.items():
        if isfinite(interval.value):
            row[name] = interval.value
        if isfinite(interval.low):
            row |= {f"{name}_low": interval.low, f"{name}_high": interval.high}
    return row


def _cell(found: Interval, decimals: int) -> str:
    value = round(found.value, decimals) + 0.0  # no "-0.00"
    return cell(value, found.low, found.high, decimals)


def _told(rows: Mapping[tuple[str, str], Mapping[str, object]], names: Sequence[str]) -> pd.DataFrame:
    """Rows named by two words, both of them in columns: a page shows such a table in one line of headings."""
    return pd.DataFrame([dict(zip(names, place, strict=True)) | row for place, row in rows.items()]).set_index(names[0])
