"""What the notebooks on LORE measure beside scores: attention to a word inside the mask, solvers, cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pandas as pd
import torch
from torch import Tensor

from lib.backbones.attention import TextMaps, hooked, latent_mask, resolve_layers, token_mask
from lib.bench.cases import Batch, EditCase, form_batches
from lib.bench.local import REPLACE
from lib.core.errors import InputError
from lib.core.noise import Noise
from lib.editors.lore import LORE, attention_loss, lore_nfe, optimised, real_tokens, renoised, word_weights
from lib.editors.rf_solver import RFSolverEdit, rf_solver_edit_nfe
from lib.editors.run import padded_batches
from lib.editors.solvers import SOLVERS, Evaluate, follow, intervals, midpoint
from lib.metrics.pixels import target_psnr
from lib.metrics.sweep import COLUMNS

if TYPE_CHECKING:
    from lib.backbones.base import Backbone, Conditioning

SECOND_DRAW = 1  # step of the noise stream for fresh noise; LORE renoises with step 0


@dataclass(frozen=True, eq=False)
class Noises:
    """The latents [B, C, h, w] at t = 1 that LORE makes of a batch one after the other, and fresh noise beside them."""

    inverted: Tensor
    fresh: Tensor
    renoised: Tensor
    optimised: Tensor


class Watch:
    """A batch as LORE sees it at t = 1: the noises it starts from and the attention a word gets inside the mask."""

    def __init__(self, backbone: Backbone, batch: Batch, settings: LORE, seed: int = 0) -> None:
        self.backbone, self.batch, self.settings = backbone, batch, settings
        with torch.no_grad():
            x = backbone.encode(batch.image)
            self.times = backbone.times(settings.steps, like=x)
            self.inside = latent_mask(backbone, token_mask(backbone, batch.mask, x, soft=settings.soft_mask), x)
            source = backbone.embed(batch.source_prompt, settings.source_guidance)
            self._target = backbone.embed(batch.target_prompt, settings.target_guidance)
            self._inverted = midpoint(follow(backbone, source), x, self.times.flip(0))
        self._maps = self._maps_of(batch.cases)
        self._noise = Noise(batch.ids, seed)

    def noises(self) -> Noises:
        """All four."""
        return Noises(self._inverted, self._noise.draw(SECOND_DRAW, self._inverted), self.renoised(), self.optimised())

    def renoised(self) -> Tensor:
        """The inverted noise, drawn anew inside the mask as far as the settings say."""
        s, eps = self.settings.renoise, self._noise.draw(0, self._inverted)
        return renoised(self._inverted, eps, self.inside, s, self.settings.preserve_variance)

    def optimised(self, iterations: int | None = None) -> Tensor:
        """The renoised noise after so many iterations (those of the settings)."""
        settings = self.settings if iterations is None else replace(self.settings, iterations=iterations)
        return optimised(self.backbone, self.renoised(), self.times, self._target, self._maps, self.inside, settings)

    def attention(self, z: Tensor) -> list[float]:
        """Of the target object under the target prompt, per case: 1 - LORE's loss, in [0, 1]."""
        return self._attention(z, self._target, self._maps)

    def source_attention(self) -> list[float]:
        """Of the source object under the source prompt, from inverted noise at the same guidance; NaN without one
        (any word is looked at in its place).
        """
        cases = [
            replace(
                case,
                target_prompt=case.source_prompt,
                extras={"target_object": case.extras["source_object"] or case.source_prompt.split()[0]},
            )
            for case in self.batch.cases
        ]
        cond = self.backbone.embed(self.batch.source_prompt, self.settings.target_guidance)
        found = self._attention(self._inverted, cond, self._maps_of(cases))
        named = [case.extras["source_object"] is not None for case in self.batch.cases]
        return [value if there else float("nan") for value, there in zip(found, named, strict=True)]

    def _maps_of(self, cases: Sequence[EditCase]) -> TextMaps:
        words = torch.stack([word_weights(self.backbone, case, self.settings) for case in cases])
        prompts = [case.target_prompt for case in cases]
        real = None if self.settings.padding else torch.stack([real_tokens(self.backbone, text) for text in prompts])
        return TextMaps(words, real)

    def _attention(self, z: Tensor, cond: Conditioning, maps: TextMaps) -> list[float]:
        layers = resolve_layers(self.backbone, self.settings.loss_from, self.settings.loss_to)
        with torch.no_grad(), hooked(self.backbone, layers, maps.hook):
            loss = attention_loss(self.backbone, z, self.times, cond, maps, self.inside, max(layers))
        return (1 - loss).tolist()


def attention_rows(
    backbone: Backbone, cases: Sequence[EditCase], settings: LORE, *, seeds: Sequence[int] = (0,), batch_size: int = 25
) -> pd.DataFrame:
    """Tidy `in_mask_attention` of the arms source-word, fresh-noise, inverted-noise, lore-no-optimisation (renoised)
    and lore, at t = 1; of lore also `latent_change`, the mean |optimised - renoised| of the elements that may move.

    The first and the third draw no noise: the same under every seed. Batches are those of `run_editor`, so that the
    noise is the one that the edits start from.
    """
    rows: list[tuple[str, str, int, str, float]] = []
    for batch, real in padded_batches(cases, batch_size):
        drawless: dict[str, list[float]] = {}
        for seed in seeds:
            watch = Watch(backbone, batch, settings, seed)
            made = watch.noises()
            if not drawless:
                drawless = {"source-word": watch.source_attention(), "inverted-noise": watch.attention(made.inverted)}
            found = {
                **drawless,
                "fresh-noise": watch.attention(made.fresh),
                "lore-no-optimisation": watch.attention(made.renoised),
                "lore": watch.attention(made.optimised),
            }
            moving = (watch.inside > 0).expand_as(made.inverted)
            moved = ((made.optimised - made.renoised).abs() * moving).flatten(1).sum(1) / moving.flatten(1).sum(1)
            for i, name in enumerate(batch.ids[:real]):
                rows += [(name, arm, seed, "in_mask_attention", values[i]) for arm, values in found.items()]
                rows.append((name, "lore", seed, "latent_change", moved[i].item()))
    return pd.DataFrame(rows, columns=COLUMNS)


def loss_curve(
    backbone: Backbone, cases: Sequence[EditCase], settings: LORE, iterations: Sequence[int], *, seed: int = 0
) -> pd.DataFrame:
    """LORE's loss of each case of one batch after so many iterations: columns case, iterations, loss."""
    watch = Watch(backbone, form_batches(cases, len(cases))[0], settings, seed)
    rows = [
        (name, k, 1 - value)
        for k in iterations
        for name, value in zip(watch.batch.ids, watch.attention(watch.optimised(k)), strict=True)
    ]
    return pd.DataFrame(rows, columns=["case", "iterations", "loss"])


@torch.no_grad()
def distance_rows(
    backbone: Backbone, cases: Sequence[EditCase], arm: str, *, seeds: Sequence[int] = (0,)
) -> pd.DataFrame:
    """How far each replacement's right answer is from its source, in the rows of an arm, the same under every seed.

    `text_distance`: 1 - cos of the pooled embeddings of both nouns; `visual_distance`: mean |difference| of the
    autoencoder's latents inside the mask.
    """
    rows: list[tuple[str, str, int, str, float]] = []
    for case in (case for case in cases if case.edit_type == REPLACE):
        nouns = backbone.embed([str(case.extras[name]) for name in ("source_object", "target_object")]).pooled.float()
        before, after = (backbone.encode(picture[None]) for picture in (case.image, case.target_image))
        inside = latent_mask(backbone, token_mask(backbone, case.mask[None], before), before) > 0
        found = {
            "text_distance": 1 - torch.cosine_similarity(*nouns, dim=0).item(),
            "visual_distance": (after - before).abs()[inside.expand_as(before)].mean().item(),
        }
        rows += [(case.id, arm, seed, metric, value) for seed in seeds for metric, value in found.items()]
    return pd.DataFrame(rows, columns=COLUMNS)


# The solvers LORE stands on, and its cost


def taylor(evaluate: Evaluate, x: Tensor, times: Tensor) -> Tensor:
    """RF-Solver's step as its paper writes it: x + h v1 + h²/2 (v2 - v1) / (h/2)."""
    for t, t_next, i in intervals(times):
        h = t_next - t
        v = evaluate(x, t, i, "first")
        slope = (evaluate(x + h / 2 * v, t + h / 2, i, "mid") - v) / (h / 2)
        x = x + h * v + h**2 / 2 * slope
    return x


@torch.no_grad()
def solver_rows(backbone: Backbone, cases: Sequence[EditCase], steps: int, *, batch_size: int = 25) -> pd.DataFrame:
    """Tidy `identity_error` of rf-solver: greatest |Taylor - midpoint| of inverted latents; `reconstruction_psnr` of
    fireflow in `steps` steps and of ode-inversion (Euler) in one more: equal evaluations.
    """
    rows: list[tuple[str, str, int, str, float]] = []
    for batch in form_batches(cases, batch_size):
        x = backbone.encode(batch.image)
        evaluate = follow(backbone, backbone.embed(batch.source_prompt, 1.0))
        up = backbone.times(steps, like=x).flip(0)
        errors = (taylor(evaluate, x, up) - midpoint(evaluate, x, up)).abs().flatten(1).amax(1)
        rows += [
            (name, "rf-solver", 0, "identity_error", e) for name, e in zip(batch.ids, errors.tolist(), strict=True)
        ]
        for arm, solver, n in (("fireflow", "fireflow", steps), ("ode-inversion", "euler", steps + 1)):
            times = backbone.times(n, like=x)
            back = SOLVERS[solver](evaluate, SOLVERS[solver](evaluate, x, times.flip(0)), times)
            psnr = target_psnr(backbone.decode(back).cpu(), batch.image).tolist()
            rows += [(name, arm, 0, "reconstruction_psnr", v) for name, v in zip(batch.ids, psnr, strict=True)]
    return pd.DataFrame(rows, columns=COLUMNS)


def compute_ratio(backbone: Backbone, like: Tensor, backward: float = 2.0) -> float:
    """Forward passes of one LORE edit at the paper's settings, in those of RF-Solver in 15 steps.

    `backward` is what the way back of one evaluation counts: 1 for its gradient with respect to the noise alone, 2 if
    blocks are computed again on the way, as they are of a large model (`within_memory`). The evaluation that ends early
    counts in full.
    """
    settings = LORE()
    passes = lore_nfe(backbone, settings, like) + backward * 2 * settings.iterations
    return passes / rf_solver_edit_nfe(backbone, RFSolverEdit(steps=15), like)


def constant_rows(cases: Sequence[EditCase], arm: str, metric: str, value: float) -> pd.DataFrame:
    """Tidy rows of a number that is the same for all cases."""
    return pd.DataFrame([(case.id, arm, 0, metric, value) for case in cases], columns=COLUMNS)


def seed_std_rows(table: pd.DataFrame, arms: Sequence[str], metric: str = "attribute_accuracy") -> pd.DataFrame:
    """`seed_std`: standard deviation of a metric over the seeds of a case, one row per case and arm.

    InputError if an arm has fewer than two seeds.
    """
    parts = []
    for arm in arms:
        rows = table[(table["arm"] == arm) & (table["metric"] == metric)]
        if rows["seed"].nunique() < 2:
            raise InputError(f"seeds of {arm}", found=rows["seed"].nunique(), expected="at least 2")
        spread = rows.groupby("case")["value"].std(ddof=1)
        parts.append(pd.DataFrame({"case": spread.index, "value": spread.to_numpy()}).assign(arm=arm))
    return pd.concat(parts, ignore_index=True).assign(seed=0, metric="seed_std")[COLUMNS]
