"""Score results against their cases: tidy rows, one per case, arm, seed and metric."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from lib.bench.cases import EditCase
from lib.core.errors import InputError
from lib.metrics.attributes import attribute_accuracy, attribute_preservation, edit_happened
from lib.metrics.clip import clip_t
from lib.metrics.extractors import ImageTextEncoder
from lib.metrics.pixels import PSNR_CEILING, background_psnr, background_ssim, target_psnr

CHUNK = 64  # images scored or parsed at once


class Parser(Protocol):
    """What scoring asks of the attribute parser."""

    def read(self, images: Tensor) -> list[dict[str, str]]:
        """Attributes of each image of [B, 3, H, W] in [0, 1]."""
        ...


class Result(Protocol):
    """What scoring asks of a result; `lib.editors.run.Edited` is one."""

    case_id: str
    image: Tensor
    recipe: dict[str, Any]


@dataclass(frozen=True)
class Metric:
    """How to read a score: its range, its unit, which direction is better, and what a case needs to have it."""

    name: str
    range: tuple[float, float]
    unit: str
    direction: str  # "higher" or "lower" is better
    needs: str  # "mask", "target image", "attributes" (extras of the case, and a parser) or "clip" (an encoder)
    compute: Callable[..., Any]


# fmt: off
METRICS: dict[str, Metric] = {metric.name: metric for metric in (
    Metric("background_psnr",        (0, PSNR_CEILING), "dB", "higher", "mask",         background_psnr),
    Metric("background_ssim",        (-1, 1),           "",   "higher", "mask",         background_ssim),
    Metric("target_psnr",            (0, PSNR_CEILING), "dB", "higher", "target image", target_psnr),
    Metric("attribute_accuracy",     (0, 1),            "",   "higher", "attributes",   attribute_accuracy),
    Metric("attribute_preservation", (0, 1),            "",   "higher", "attributes",   attribute_preservation),
    Metric("edit_happened",          (0, 1),            "",   "higher", "attributes",   edit_happened),
    Metric("clip_t",                 (-1, 1),           "",   "higher", "clip",         clip_t),
)}
# fmt: on


def score(
    results: Sequence[Result],
    cases: Sequence[EditCase],
    parser: Parser | None = None,
    *,
    clip: ImageTextEncoder | None = None,
    arm: str | None = None,
) -> list[dict[str, Any]]:
    """Rows {case, arm, seed, metric, value}, results in their order, metrics in the order of METRICS.

    The arm is the editor's name from the recipe unless given. A metric that a case cannot have (no mask, no target
    image, no attributes, no parser, no `clip`) has no row; one without a value there (nothing outside the mask, nothing
    protected) is NaN, which the statistics drop and count.
    InputError for a result of no known case or of another size than its case.
    """
    known = {case.id: case for case in cases}
    for result in results:
        if result.case_id not in known:
            raise InputError("result", found=f"case {result.case_id!r}", expected="one of the cases given")
        image = known[result.case_id].image
        if result.image.shape != image.shape:
            found = f"an image of {list(result.image.shape)}"
            raise InputError(f"result of case {result.case_id!r}", found=found, expected=f"{list(image.shape)}")
    values: list[dict[str, float]] = [{} for _ in results]
    for places in _chunks([tuple(result.image.shape) for result in results]):
        _score_chunk([results[i] for i in places], known, parser, clip, [values[i] for i in places])
    return [
        {
            "case": result.case_id,
            "arm": arm or result.recipe["editor"],
            "seed": result.recipe["seed"],
            "metric": name,
            "value": scores[name],
        }
        for result, scores in zip(results, values, strict=True)
        for name in METRICS
        if name in scores
    ]


def _chunks(shapes: Sequence[tuple[int, ...]]) -> list[list[int]]:
    groups: dict[tuple[int, ...], list[int]] = {}
    for place, shape in enumerate(shapes):
        groups.setdefault(shape, []).append(place)
    return [group[i : i + CHUNK] for group in groups.values() for i in range(0, len(group), CHUNK)]


def _score_chunk(
    results: Sequence[Result],
    known: dict[str, EditCase],
    parser: Parser | None,
    clip: ImageTextEncoder | None,
    values: list[dict[str, float]],
) -> None:
    """Fill `values` for results of one image size."""
    cases = [known[result.case_id] for result in results]
    images = torch.stack([result.image for result in results])
    has = {
        "mask": [i for i, case in enumerate(cases) if case.mask is not None],
        "target image": [i for i, case in enumerate(cases) if case.target_image is not None],
        "attributes": [i for i, case in enumerate(cases) if parser is not None and "changed" in case.extras],
        "clip": [] if clip is None else list(range(len(cases))),
    }
    for metric in METRICS.values():
        places = has[metric.needs]
        if not places or metric.needs == "attributes":
            continue
        if metric.needs == "mask":
            against = [torch.stack([getattr(cases[i], name) for i in places]) for name in ("image", "mask")]
        elif metric.needs == "clip":
            against = [[cases[i].target_prompt for i in places], clip]
        else:
            against = [torch.stack([cases[i].target_image for i in places])]
        for i, value in zip(places, metric.compute(images[places], *against).tolist(), strict=True):
            values[i][metric.name] = value
    if places := has["attributes"]:
        for i, read in zip(places, parser.read(images[places]), strict=True):
            extras = cases[i].extras
            values[i]["attribute_accuracy"] = attribute_accuracy(read, extras["changed"])
            values[i]["attribute_preservation"] = attribute_preservation(read, extras["protected"])
            values[i]["edit_happened"] = edit_happened(read, extras["before"], extras["changed"])
