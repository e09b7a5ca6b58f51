"""What the notebook `world` measures: splits, the spread of right answers, the errors of judge and autoencoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from random import Random

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from lib.learning.parser import HEADS, Parser, to_unit
from lib.metrics.pixels import target_psnr
from lib.studio.figures import PALETTE
from lib.world.edits import EDIT_TYPES, Edit
from lib.world.render import render_all
from lib.world.scenes import Scene, Thing, composition_split, thing_split
from lib.world.vocabulary import BACKGROUNDS, IDENTITIES, OBJECTS, SPLITS, tints_of


def split_table() -> pd.DataFrame:
    """Per split the number of (object, tint, background) compositions and of identities that belong to it."""
    words = [(noun, tint, ground) for noun, ground in product(OBJECTS, BACKGROUNDS) for tint in tints_of(noun)]
    compositions = pd.Series([composition_split(*each) for each in words]).value_counts()
    people = pd.Series([thing_split(_person(identity), "red") for identity in IDENTITIES]).value_counts()
    table = pd.DataFrame({"object × tint × background": compositions, "identities": people}).reindex(SPLITS)
    return table.fillna(0).astype(int).rename_axis("split")


def _person(identity: tuple[str, str, str]) -> Thing:
    noun, skin, hair = identity
    return Thing(noun, skin=skin, hair=hair)


def right_answers(edit: Edit, count: int, *, seed: int = 0) -> Tensor:
    """`count` right answers to one edit: pictures [count, 3, 64, 64] of its target with what no word fixes drawn anew.

    Jitter and angle of the things that change, tone and phase of a background that changes; all else is the source's.
    """
    rng = Random(f"answers/{seed}")
    scenes = []
    for _ in range(count):
        things = list(edit.target.things)
        for slot in (slot for slot in edit.slots if slot < len(things)):
            free = {"dx": rng.randint(-2, 2), "dy": rng.randint(-2, 2), "angle": 5 * rng.randint(-2, 2)}
            things[slot] = replace(things[slot], **free)
        scene = replace(edit.target, things=tuple(things))
        if edit.ground and edit.source.style == edit.target.style:
            tone = (rng.randint(-10, 10), rng.randint(-10, 10), rng.randint(-10, 10))
            scene = replace(scene, tone=tone, phase=(rng.randint(0, 15), rng.randint(0, 15)))
        scenes.append(scene)
    return to_unit(render_all(scenes))


def spread(edits: Sequence[Edit], *, draws: int = 8) -> pd.DataFrame:
    """Per edit its type and two PSNRs to the renderer's own target: of other right answers (mean) and of the source."""
    rows = []
    for index, edit in enumerate(edits):
        wanted = to_unit(render_all([edit.target]))
        answers = right_answers(edit, draws, seed=index)
        rows.append({
            "type": EDIT_TYPES[edit.edit_type],
            "another right answer": target_psnr(answers, wanted.expand_as(answers)).mean().item(),
            "the untouched source": target_psnr(to_unit(render_all([edit.source])), wanted).item(),
        })  # fmt: skip
    return pd.DataFrame(rows)


def spread_figure(table: pd.DataFrame) -> Figure:
    """`spread`'s table: a dot per edit, by type, both PSNRs beside each other with their means as bars."""
    kinds, names = list(dict.fromkeys(table["type"])), ("another right answer", "the untouched source")
    figure, axes = plt.subplots(figsize=(9, 3.4), layout="constrained")
    for side, (name, colour) in enumerate(zip(names, PALETTE, strict=False)):
        for place, kind in enumerate(kinds):
            values = table.loc[table["type"] == kind, name].to_numpy()
            middle = place + 0.36 * side - 0.18
            scatter = middle + 0.24 * (np.arange(len(values)) * 0.618 % 1 - 0.5)  # spread out, the same on every run
            axes.plot(scatter, values, ".", color=colour, markersize=4, alpha=0.6, label=None if place else name)
            axes.plot([middle - 0.16, middle + 0.16], [values.mean()] * 2, color=colour, linewidth=2)
    axes.set_xticks(range(len(kinds)), kinds)
    axes.set(ylabel="PSNR to the target, dB")
    axes.legend(frameon=False, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    plt.close(figure)
    return figure


@torch.inference_mode()
def readings(parser: Parser, images: Tensor, scenes: Sequence[Scene]) -> pd.DataFrame:
    """One row per scene and attribute that it has: scene, kind, wanted, read, confidence (top probability), right."""
    probabilities = {name: logits.softmax(1).max(1) for name, logits in parser(images).items()}
    rows = [
        (i, name.partition(".")[0], wanted, HEADS[name][best.indices[i]], best.values[i].item())
        for i, scene in enumerate(scenes)
        for name, wanted in scene.attributes().items()
        for best in (probabilities[name],)
    ]
    table = pd.DataFrame(rows, columns=["scene", "kind", "wanted", "read", "confidence"])
    return table.assign(right=table["wanted"] == table["read"])


def accuracy_table(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Share of right readings per kind of attribute (rows) and set of pictures (columns), in percent."""
    shares = {name: table.groupby("kind", sort=False)["right"].mean() for name, table in tables.items()}
    return pd.DataFrame(shares).map("{:.1%}".format).rename_axis("attribute")


def confusions(table: pd.DataFrame, most: int = 10) -> pd.DataFrame:
    """The `most` frequent misreadings, with their share of the pictures that should be read so."""
    asked = table.groupby(["kind", "wanted"]).size()
    wrong = table[~table["right"]].groupby(["kind", "wanted", "read"]).size()
    found = wrong.rename("times").reset_index()
    found["share"] = [times / asked[(kind, wanted)] for kind, wanted, _, times in found.itertuples(index=False)]
    found["share"] = found["share"].round(4)
    return found.sort_values(["times", "kind", "wanted", "read"], ascending=[False, True, True, True]).head(most)


def calibration_error(table: pd.DataFrame, bins: int = 10) -> float:
    """Expected calibration error (Guo et al., 1706.04599): mean |accuracy - confidence| over bins, weighted by size."""
    right = table["right"].to_numpy(float)
    place = np.minimum((table["confidence"].to_numpy() * bins).astype(int), bins - 1)
    sizes = np.bincount(place, minlength=bins)
    gaps = np.bincount(place, right - table["confidence"].to_numpy(), minlength=bins)  # sums: sizes cancel
    return float(np.abs(gaps).sum() / sizes.sum())


def reliability(tables: Mapping[str, pd.DataFrame], bins: int = 10) -> Figure:
    """Accuracy against confidence per set of pictures; a dot's area is its share of the readings."""
    figure, axes = plt.subplots(figsize=(4.6, 4.2), layout="constrained")
    axes.plot([0, 1], [0, 1], color="0.75", linewidth=1)
    for colour, (name, table) in zip(PALETTE, tables.items(), strict=False):
        place = np.minimum((table["confidence"] * bins).astype(int), bins - 1)
        groups = table.groupby(place)
        points = groups.agg(x=("confidence", "mean"), y=("right", "mean"), n=("right", "size"))
        label = f"{name} (error {calibration_error(table, bins):.3f})"
        axes.plot(points["x"], points["y"], color=colour, linewidth=1.2, label=label)
        axes.scatter(points["x"], points["y"], 10 + 240 * points["n"] / points["n"].sum(), color=colour)
    axes.set(xlabel="confidence of the reading", ylabel="share of right readings", xlim=(0, 1.03), ylim=(0, 1.03))
    axes.legend(frameon=False, loc="upper left")
    plt.close(figure)
    return figure


def blurred(images: Tensor, radius: int) -> Tensor:
    """Pictures [B, 3, H, W] averaged over squares of 2 radius + 1 pixels: what a weak sampler does to edges."""
    padded = torch.nn.functional.pad(images, (radius,) * 4, mode="replicate")
    return torch.nn.functional.avg_pool2d(padded, 2 * radius + 1, stride=1)


def losses_by(values: Sequence[float], scenes: Sequence[Scene], names: Sequence[str]) -> pd.DataFrame:
    """Mean of a value per scene, by each value of each attribute named; slots other than the first are left out."""
    rows = [
        (name, scene.attributes().get(name), value)
        for scene, value in zip(scenes, values, strict=True)
        for name in names
    ]
    table = pd.DataFrame(rows, columns=["attribute", "value", "mean"]).dropna()
    return table.groupby(["attribute", "value"], sort=False)["mean"].agg(["mean", "size"]).reset_index()
