"""Anchors: results that bound every table, made and scored the same way as the edits.

The source copy changes nothing, the round trip shows what the autoencoder loses, text-to-image keeps nothing of the
source, the pixel paste puts that picture inside the mask, and the ground truth is the right answer where it is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lib.bench.cases import Batch, EditCase
from lib.core.noise import NoiseStream
from lib.editors.base import Callback, EditResult, Settings, notify, rows_per_call
from lib.editors.registry import Editor, row_named
from lib.editors.run import Edited, run_row

if TYPE_CHECKING:
    from lib.backbones.base import Backbone


@dataclass(frozen=True)
class NoSettings(Settings):
    """For anchors that leave nothing to choose."""


@dataclass(frozen=True)
class TextToImage(Settings):
    """Plain sampling, with the defaults that diffusers documents for FLUX.1-dev."""

    steps: int = 28  # diffusers FluxPipeline.__call__
    guidance: float = 3.5  # same


def source_copy(
    backbone: Backbone, batch: Batch, settings: NoSettings, *, noise: NoiseStream, callback: Callback | None = None
) -> EditResult:
    """The source itself."""
    return EditResult(batch.image)


def vae_round_trip(
    backbone: Backbone, batch: Batch, settings: NoSettings, *, noise: NoiseStream, callback: Callback | None = None
) -> EditResult:
    """The source, encoded and decoded."""
    latents = backbone.encode(batch.image)
    return EditResult(backbone.decode(latents), latents=latents)


def text_to_image(
    backbone: Backbone, batch: Batch, settings: TextToImage, *, noise: NoiseStream, callback: Callback | None = None
) -> EditResult:
    """A picture of the target prompt from pure noise (step 0 of the stream, as SDEdit's); the source gives its size."""
    x = noise.draw(0, backbone.encode(batch.image))
    target = backbone.embed(batch.target_prompt, settings.guidance)
    for t, t_next in pairwise(backbone.times(settings.steps, like=x)):
        x = x + (t_next - t) * backbone.velocity(x, t, target)
        notify(callback, t_next, x)
    return EditResult(backbone.decode(x), latents=x)


def pixel_paste(
    backbone: Backbone, batch: Batch, settings: TextToImage, *, noise: NoiseStream, callback: Callback | None = None
) -> EditResult:
    """Text-to-image inside the mask, the source's own pixels outside."""
    made = text_to_image(backbone, batch, settings, noise=noise, callback=callback)
    source = batch.image.to(made.image)
    return EditResult(torch.where(batch.mask.to(source.device), made.image, source), latents=made.latents)


def ground_truth(
    backbone: Backbone, batch: Batch, settings: NoSettings, *, noise: NoiseStream, callback: Callback | None = None
) -> EditResult:
    """The right answer that the case brings."""
    return EditResult(torch.stack([case.target_image for case in batch.cases]))


def no_nfe(backbone: Backbone, settings: NoSettings, latents: Tensor | None) -> float:
    """No transformer evaluation at all."""
    return 0.0


def text_to_image_nfe(backbone: Backbone, settings: TextToImage, latents: Tensor) -> float:
    """Transformer evaluations per image: one velocity per step."""
    return (len(backbone.times(settings.steps, like=latents)) - 1) * rows_per_call(backbone, settings.guidance)


# fmt: off
ANCHORS: dict[str, Editor] = {anchor.name: anchor for anchor in (
    #      name              paper  run             settings     nfe                stochastic
    Editor("source-copy",    "",    source_copy,    NoSettings,  no_nfe,            False),
    Editor("vae-round-trip", "",    vae_round_trip, NoSettings,  no_nfe,            False),
    Editor("text-to-image",  "",    text_to_image,  TextToImage, text_to_image_nfe, True),
    Editor("pixel-paste",    "",    pixel_paste,    TextToImage, text_to_image_nfe, True,  needs_mask=True),
    Editor("ground-truth",   "",    ground_truth,   NoSettings,  no_nfe,            False, needs_target_image=True),
)}
# fmt: on


def run_anchor(
    name: str,
    backbone: Backbone,
    cases: Sequence[EditCase],
    settings: Any = None,
    *,
    seed: int = 0,
    batch_size: int = 32,
    callback: Callback | None = None,
    progress: bool | None = None,
) -> list[Edited]:
    """The anchor of this name for all cases, as `run_editor` gives its results."""
    anchor = row_named(ANCHORS, name, "anchor")
    options = {"seed": seed, "batch_size": batch_size, "callback": callback, "progress": progress}
    return run_row(anchor, backbone, cases, settings, **options)
