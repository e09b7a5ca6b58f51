"""The plane: members of the difference-flow family on a mixture whose exact answer is known (FlowEdit's third figure).

Two modes to two, each of standard deviation 1. A method can be asked whether it ends in the target's law, and how far
it carries a point.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import matplotlib.pyplot as plt
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from lib.backbones.mixture import Mixture
from lib.bench.cases import EditCase, collate
from lib.core.noise import InjectedNoise
from lib.editors.difference_flow import PRESETS, difference_flow
from lib.studio.figures import EDITOR_COLOURS, FAINT

CORNER = 15 / 2**0.5
SOURCE, TARGET = [[-CORNER, -CORNER], [CORNER, CORNER]], [[-15.0, 0.0], [0.0, 15.0]]
MEMBERS = {  # what the table shows, in its order: preset and start
    "ode-inversion": ("ode-inversion", 1.0),
    "flowedit": ("flowedit", 0.95),
    "sync-sde": ("sync-sde", 0.95),
    "sync-sde-euler": ("sync-sde-released", 0.95),
    "sync-sde-resample": ("sync-sde-resample", 0.95),
    "edit-friendly": ("edit-friendly", 0.95),
    "infedit": ("infedit", 0.95),
}


@dataclass(frozen=True, eq=False)
class Carried:
    """Points of the plane before and after, [N, 2], and what there is to say of them."""

    before: Tensor
    after: Tensor

    @property
    def _mode(self) -> Tensor:
        return (self.after[:, None] - torch.tensor(TARGET)).norm(dim=-1).argmin(dim=1)

    @property
    def in_mode_std(self) -> float:
        """Standard deviation about the nearest mode; the target's is 1."""
        return (self.after - torch.tensor(TARGET)[self._mode]).square().mean().sqrt().item()

    @property
    def cost(self) -> float:
        """Mean squared way of a point."""
        return self.costs.mean().item()

    @property
    def costs(self) -> Tensor:
        """Squared way of each point, [N]."""
        return (self.after - self.before).square().sum(1)

    @property
    def changed(self) -> float:
        """Share of points that end at the mode which is not opposite to theirs."""
        return (self._mode != torch.arange(len(self.after)) % 2).float().mean().item()

    @property
    def first(self) -> float:
        """Share of points at the first mode; the target's is one half."""
        return (self._mode == 0).float().mean().item()


def carry(
    preset: str, *, points: int, steps: int, start: float, shift: float = 1.15, seed: int = 0, **switches: object
) -> Carried:
    """`points` samples of the source mixture edited by a preset of `difference_flow`, without guidance."""
    backbone = Mixture({"source": SOURCE, "target": TARGET}, channels=2, shift=shift)
    generator = torch.Generator().manual_seed(seed)
    x0 = torch.tensor(SOURCE).repeat(points // 2, 1) + torch.randn(points // 2 * 2, 2, generator=generator)
    image = backbone.decode(x0[..., None, None])
    batch = collate([EditCase(str(i), image[i], "target", "source") for i in range(len(x0))])
    noise = InjectedNoise({i: torch.randn(len(x0), 2, 1, 1, generator=generator) for i in range(steps)})
    plain = {"source_guidance": 1.0, "target_guidance": 1.0}
    settings = replace(PRESETS[preset], steps=steps, start=start, **plain, **switches)
    with torch.inference_mode():
        return Carried(x0, difference_flow(backbone, batch, settings, noise=noise).latents[..., 0, 0].clone())


def mixture_table(points: int, *, steps: int = 200, seed: int = 0) -> tuple[pd.DataFrame, dict[str, Carried]]:
    """The numbers of `Carried` per member of the family, a line each, and where its points went."""
    found = {
        name: carry(preset, points=points, steps=steps, start=start, shift=0.0 if start == 1 else 1.15, seed=seed)
        for name, (preset, start) in MEMBERS.items()
    }
    rows = {
        name: {
            "start": MEMBERS[name][1],
            "in-mode deviation (right: 1)": each.in_mode_std,
            "at the first mode, % (right: 50)": 100 * each.first,
            "transport cost": each.cost,
            "changed modes, %": 100 * each.changed,
        }
        for name, each in found.items()
    }
    return pd.DataFrame(rows).T.rename_axis(f"{steps} steps"), found


def mixture_rows(found: Mapping[str, Carried], seed: int = 0) -> pd.DataFrame:
    """The same as tidy rows per point (transport cost) and one per member (in-mode deviation less 1)."""
    parts = [
        pd.DataFrame({
            "case": [f"point-{i:05d}" for i in range(len(each.before))], "arm": name, "seed": seed,
            "metric": "transport_cost", "value": each.costs.double().numpy(),
        })
        for name, each in found.items()
    ]  # fmt: skip
    errors = [("mixture", name, seed, "in_mode_std_error", each.in_mode_std - 1) for name, each in found.items()]
    return pd.concat([*parts, pd.DataFrame(errors, columns=parts[0].columns)], ignore_index=True)


def mixture_figure(found: Mapping[str, Carried], *, shown: int = 150) -> Figure:
    """Where the first points go: from their source (gray) along a line to where the method ends."""
    names = [name for name in ("ode-inversion", "flowedit", "sync-sde", "infedit") if name in found]
    figure, axes = plt.subplots(
        1, len(names), figsize=(2.3 * len(names), 2.5), sharex=True, sharey=True, layout="constrained", squeeze=False
    )
    for axis, name in zip(axes[0], names, strict=True):
        before, after = found[name].before[:shown], found[name].after[:shown]
        colour = EDITOR_COLOURS.get(name, FAINT)
        axis.plot(*torch.stack([before, after]).permute(2, 0, 1).numpy(), color=colour, alpha=0.25, linewidth=0.5)
        axis.plot(*before.T.numpy(), ".", color="0.6", markersize=2)
        axis.plot(*after.T.numpy(), ".", color=colour, markersize=3)
        axis.set_title(f"{name}\ncost {found[name].cost:.0f}, deviation {found[name].in_mode_std:.2f}", fontsize=8)
        axis.set_aspect("equal")
        axis.set(xticks=[], yticks=[])
    plt.close(figure)
    return figure
