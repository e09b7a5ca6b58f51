"""The scores of both namespaces in one table, and from results to tidy rows to column summaries.

`pie_official/...` are PIE-Bench's own, quirks kept; `strict/...` are ours. The prefix is part of a score's name, so
that no column ever holds both. What an image shows by its attributes is scored in `lib.metrics.score`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf, isinf, isnan
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from lib.bench.cases import Batch, EditCase, collate
from lib.core.errors import InputError
from lib.metrics import clip, official, pixels, strict
from lib.metrics.extractors import ImageEncoder, ImageTextEncoder, PerceptualNet, TokenKeys, reads
from lib.metrics.identity import identity_score
from lib.metrics.perceptual import feature_distance, lpips
from lib.metrics.score import METRICS

NAMESPACES = ("pie_official", "strict")


@dataclass(frozen=True)
class Extractors:
    """The networks to score with; without one, the scores that need it have no rows.

    PIE-Bench's own are `LPIPSNet("squeeze")`, `dino_keys()` and `hub_clip()`. Every row carries its network's name.
    `lib.metrics.judges` opens them by name.
    """

    perceptual: PerceptualNet | None = None
    keys: TokenKeys | None = None
    clip: ImageTextEncoder | None = None
    identity: ImageEncoder | None = None


@dataclass(frozen=True)
class Row:
    """One score: how to read it, what a case and the extractors must have for it, and when it is NaN."""

    name: str  # with its namespace
    range: tuple[float, float]
    unit: str
    direction: str  # "higher" or "lower" is better; "" where it is a control
    # Of the case: mask, target image, source prompt, target prompt. Of the extractors: a field, and "any words" if
    # Hessel's prefix must be among the words that its encoder reads.
    needs: tuple[str, ...]
    missing: str  # when it is NaN
    compute: Callable[[Batch, Tensor, Extractors], Tensor]

    @property
    def namespace(self) -> str:
        return self.name.split("/")[0]

    @property
    def extractor(self) -> str | None:
        """The field of `Extractors` that it looks through."""
        return next((need for need in self.needs if need in Extractors.__dataclass_fields__), None)


HAS: dict[str, Callable[[EditCase], bool]] = {
    "mask": lambda case: case.mask is not None,
    "target image": lambda case: case.target_image is not None,
    "source prompt": lambda case: case.source_prompt is not None,
    "target prompt": lambda case: True,
}


def _targets(batch: Batch) -> Tensor:
    return torch.stack([case.target_image for case in batch.cases])


def _phrases(batch: Batch) -> list[str]:
    """What should be in the mask: `local_phrase` where the benchmark's reader found one, or else the target prompt."""
    return [official.plain_prompt(str(case.extras.get("local_phrase") or case.target_prompt)) for case in batch.cases]


def _prompts(batch: Batch) -> tuple[list[str], list[str]]:
    """Target and source prompts without their square brackets."""
    prompts = (batch.target_prompt, batch.source_prompt)
    return tuple([official.plain_prompt(text or "") for text in texts] for texts in prompts)


def _who(images: Tensor, batch: Batch, encoder: ImageEncoder) -> Tensor:
    """Vectors of the crops to the masks where the encoder crops and a case has one, or else of the whole images."""
    if not hasattr(encoder, "embed_crops"):
        return encoder.embed_images(images)
    whole = torch.ones(1, *images.shape[2:], dtype=torch.bool)
    return encoder.embed_crops(images, torch.stack([whole if case.mask is None else case.mask for case in batch.cases]))


NEVER, NO_BACKGROUND, NO_MASK = "never", "no background", "the mask is empty"
NO_CHANGE, NO_VECTOR = "images or prompts do not differ", "nothing found to embed"
# fmt: off
TABLE: dict[str, Row] = {row.name: row for row in (
    Row("pie_official/structure_distance", (0, 4), "", "lower", ("keys",), NEVER,
        lambda b, x, e: official.structure(x, b.image, e.keys)),
    Row("pie_official/psnr_unedit_part", (0, inf), "dB", "higher", ("mask",), NO_BACKGROUND,
        lambda b, x, e: official.psnr(x, b.image, b.mask)),
    Row("pie_official/mse_unedit_part", (0, 1), "", "lower", ("mask",), NO_BACKGROUND,
        lambda b, x, e: official.mse(x, b.image, b.mask)),
    Row("pie_official/ssim_unedit_part", (-1, 1), "", "higher", ("mask",), NO_BACKGROUND,
        lambda b, x, e: official.ssim(x, b.image, b.mask)),
    Row("pie_official/lpips_unedit_part", (0, inf), "", "lower", ("mask", "perceptual"), NO_BACKGROUND,
        lambda b, x, e: official.lpips_part(x, b.image, b.mask, e.perceptual)),
    Row("pie_official/clip_similarity_target_image", (-100, 100), "", "higher", ("target prompt", "clip"), NEVER,
        lambda b, x, e: official.clip_whole(x, b.target_prompt, e.clip)),
    Row("pie_official/clip_similarity_target_image_edit_part", (-100, 100), "", "higher",
        ("mask", "target prompt", "clip"), NO_MASK,
        lambda b, x, e: official.clip_edited(x, b.mask, b.target_prompt, e.clip)),
    Row("pie_official/clip_similarity_source_image", (-100, 100), "", "", ("source prompt", "clip"), NEVER,
        lambda b, x, e: official.clip_whole(b.image, b.source_prompt, e.clip)),
    Row("strict/structure_distance", (0, 4), "", "lower", ("keys",), NEVER,
        lambda b, x, e: strict.structure(x, b.image, e.keys)),
    Row("strict/background_mse", (0, 1), "", "lower", ("mask",), NO_BACKGROUND,
        lambda b, x, e: strict.background_mse(x, b.image, b.mask)),
    Row("strict/background_psnr", (0, pixels.PSNR_CEILING), "dB", "higher", ("mask",), NO_BACKGROUND,
        lambda b, x, e: pixels.background_psnr(x, b.image, b.mask)),
    Row("strict/background_ssim", (-1, 1), "", "higher", ("mask",), "no window lies in the background",
        lambda b, x, e: pixels.background_ssim(x, b.image, b.mask)),
    Row("strict/background_lpips", (0, inf), "", "lower", ("mask", "perceptual"), NO_BACKGROUND,
        lambda b, x, e: strict.background_lpips(x, b.image, b.mask, e.perceptual)),
    Row("strict/background_lpips_paste", (0, inf), "", "lower", ("mask", "perceptual"), NO_BACKGROUND,
        lambda b, x, e: strict.background_lpips_paste(x, b.image, b.mask, e.perceptual)),
    Row("strict/lpips_source", (0, inf), "", "lower", ("perceptual",), NEVER,
        lambda b, x, e: lpips(x, b.image, e.perceptual)),
    Row("strict/over_edit_share", (0, 1), "", "lower", ("mask",), NO_BACKGROUND,
        lambda b, x, e: strict.over_edit_share(x, b.image, b.mask)),
    Row("strict/seam_score", (-1, 1), "", "lower", ("mask",), "the mask has no border",
        lambda b, x, e: strict.seam_score(x, b.mask)),
    Row("strict/target_psnr", (0, pixels.PSNR_CEILING), "dB", "higher", ("target image",), NEVER,
        lambda b, x, e: pixels.target_psnr(x, _targets(b))),
    Row("strict/clip_crop", (-100, 100), "", "higher", ("mask", "target prompt", "clip"), NO_MASK,
        lambda b, x, e: strict.clip_crop(x, b.mask, _phrases(b), e.clip)),
    Row("strict/clip_t", (-1, 1), "", "higher", ("target prompt", "clip"), NEVER,
        lambda b, x, e: clip.clip_t(x, _prompts(b)[0], e.clip)),
    Row("strict/clip_i", (-1, 1), "", "higher", ("target image", "clip"), NEVER,
        lambda b, x, e: clip.clip_i(x, _targets(b), e.clip)),
    Row("strict/clip_directional", (-1, 1), "", "higher", ("source prompt", "target prompt", "clip"), NO_CHANGE,
        lambda b, x, e: clip.clip_directional(x, b.image, *_prompts(b), e.clip)),
    Row("strict/feature_distance", (0, 2), "", "lower", ("clip",), NO_VECTOR,
        lambda b, x, e: feature_distance(x, b.image, e.clip)),
    Row("strict/clipscore_hessel", (0, 2.5), "", "higher", ("target prompt", "clip", "any words"), NEVER,
        lambda b, x, e: clip.hessel_clipscore(x, _prompts(b)[0], e.clip)),
    Row("strict/identity_source", (-1, 1), "", "higher", ("identity",), NO_VECTOR,
        lambda b, x, e: identity_score(_who(x, b, e.identity), _who(b.image, b, e.identity))),
    Row("strict/identity_target", (-1, 1), "", "higher", ("target image", "identity"), NO_VECTOR,
        lambda b, x, e: identity_score(_who(x, b, e.identity), _who(_targets(b), b, e.identity))),
)}
# fmt: on
# What has no namespace: what the world's parser reads off an image, and the cost. Name -> (unit, direction).
PLAIN = {name: (row.unit, row.direction) for name, row in METRICS.items() if row.needs == "attributes"}
PLAIN |= {"nfe": ("evaluations", "lower")}


def score_batch(
    batch: Batch,
    edited: Tensor,
    namespace: str,
    extractors: Extractors | None = None,
    *,
    arm: str,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Rows {case, arm, seed, metric, value, extractor} of `edited` [B, 3, H, W], row i being of `batch.cases[i]`.

    Scores in the order of TABLE within each case. What a case or the extractors lack has no row; what has no value
    there is NaN. InputError if the edited images are not float32 RGB in [0, 1] of their cases' number and size, or if a
    case has a text that the encoder refuses.
    """
    if namespace not in NAMESPACES:
        raise InputError("namespace", found=repr(namespace), expected=f"one of {', '.join(NAMESPACES)}")
    pixels.checked(edited, batch.image, None)
    extractors = extractors or Extractors()
    values: list[dict[str, float]] = [{} for _ in batch.cases]
    rows = [row for row in TABLE.values() if row.namespace == namespace]
    for row in rows:
        if row.extractor and getattr(extractors, row.extractor) is None:
            continue
        if "any words" in row.needs and not reads(extractors.clip, clip.HESSEL_PREFIX):
            continue
        wanted = [HAS[need] for need in row.needs if need in HAS]
        places = [i for i, case in enumerate(batch.cases) if all(has(case) for has in wanted)]
        if places:
            found = row.compute(collate([batch.cases[i] for i in places]), edited[places], extractors)
            for i, value in zip(places, found.tolist(), strict=True):
                values[i][row.name] = value
    return [
        {
            "case": case.id,
            "arm": arm,
            "seed": seed,
            "metric": row.name,
            "value": scores[row.name],
            "extractor": getattr(extractors, row.extractor).name if row.extractor else "",
        }
        for case, scores in zip(batch.cases, values, strict=True)
        for row in rows
        if row.name in scores
    ]


def aggregate(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One line per arm and score: mean, finite_mean, median, n, missing, infinite; seeds of a case averaged first.

    NaN is dropped and counted in `missing`, `n` is what is left. An infinite value (an official PSNR of equal images)
    stays: `mean` is then infinite as PIE-Bench's own average is, `infinite` says how many, `finite_mean` is without.
    InputError for a score that is neither in TABLE nor in PLAIN, or one column of two extractors.
    """
    columns: dict[tuple[str, str], dict[str, list[float]]] = {}
    through: dict[tuple[str, str], str] = {}
    for row in rows:
        if row["metric"] not in TABLE and row["metric"] not in PLAIN:
            raise InputError("score", found=repr(row["metric"]), expected="a name in TABLE, with its namespace")
        key = (row["arm"], row["metric"])
        if through.setdefault(key, row.get("extractor", "")) != row.get("extractor", ""):
            found = f"{through[key]} and {row.get('extractor', '')}"
            raise InputError(f"{key[1]} of {key[0]}", found=found, expected="one extractor for a column")
        columns.setdefault(key, {}).setdefault(row["case"], []).append(row["value"])
    lines = []
    for (arm, metric), cases in columns.items():
        by_seed = [[value for value in seeds if not isnan(value)] for seeds in cases.values()]
        means = pd.Series([sum(seeds) / len(seeds) for seeds in by_seed if seeds], dtype=float)
        finite = means[[not isinf(value) for value in means]]
        summary = {"mean": means.mean(), "finite_mean": finite.mean(), "median": means.median(), "n": len(means)}
        counts = {"missing": len(cases) - len(means), "infinite": len(means) - len(finite)}
        lines.append({"arm": arm, "metric": metric, **summary, **counts})
    return pd.DataFrame(lines, columns=["arm", "metric", "mean", "finite_mean", "median", "n", "missing", "infinite"])
