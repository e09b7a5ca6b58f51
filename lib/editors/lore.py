"""LORE (arXiv 2508.03144): optimise the inverted noise until the wanted object gets attention inside the mask.

Invert, re-noise the mask's inside, optimise the noise at t = 1, edit while sharing values outside the mask. Defaults
are the release's; `late_values`, `soft_mask`, `padding` and `preserve_variance` are where one may want otherwise.
Nothing but equal noise and shared values holds the background: the latents are not blended.

Which words are the target object: `extras["target_object"]` of the case; else the setting `target_object`; else the
words of the target prompt that its source prompt lacks. A phrase is looked up whole, ignoring case.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.backbones.attention import (
    SHARED,
    TextMaps,
    ending_after,
    flux_transformer,
    hooked,
    latent_mask,
    one_row_per_image,
    resolve_layers,
    token_mask,
    within_memory,
)
from lib.bench.cases import Batch, EditCase
from lib.core.errors import InputError
from lib.core.noise import NoiseStream
from lib.editors.base import Callback, EditResult, Settings
from lib.editors.rf_solver import share_values
from lib.editors.solvers import check_choices, check_inject, check_ranges, evaluations, follow, midpoint

if TYPE_CHECKING:
    from lib.backbones.base import Backbone, Conditioning


@dataclass(frozen=True)
class LORE(Settings):
    """The release's defaults for FLUX.1-dev, which are also its recipe for adding; `RECIPES` has the others."""

    steps: int = 15
    inject: int = 12  # intervals that share values, from the noise down: 0.8 of the steps in every recipe
    renoise: float = 0.9  # s: how much of the noise inside the mask is drawn anew
    iterations: int = 10
    learning_rate: float = 0.01
    source_guidance: float = 1.0
    target_guidance: float = 2.0
    values: str = "masked"  # none, all (RF-Edit), image or masked: the release's v_inject -1, 0, 1, 2
    value_from: float = 20 / 38  # single blocks 20 to 37 of 38, as shares of their number
    value_to: float = 1.0
    loss_from: float = 8 / 57  # layers 8 to 43 of 57, as shares of their number
    loss_to: float = 44 / 57
    target_object: str = ""  # for cases that do not name theirs
    late_values: bool = True  # share by interval (see `lib.backbones.attention.Sharing`)
    soft_mask: bool = True  # Lanczos' resize of the mask to the tokens, not binary; tokens above 0 move at full speed
    padding: bool = True  # padding takes part in the softmax over the text
    preserve_variance: bool = False  # divide the re-noised part by sqrt((1 - s)² + s²)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_inject(self)
        check_choices(self, values=SHARED)
        check_ranges(self, renoise=(0, 1), iterations=(0, float("inf")), learning_rate=(0, float("inf")))
        check_ranges(self, value_from=(0, self.value_to), value_to=(0, 1))
        check_ranges(self, loss_from=(0, self.loss_to), loss_to=(0, 1))


RECIPES = {
    "add": LORE(),
    "replace": LORE(steps=30, inject=24, renoise=0.1, iterations=5),
    "remove": LORE(steps=10, inject=8, renoise=0.0, iterations=2),  # names a background word inside the mask
}


def lore(
    backbone: Backbone, batch: Batch, settings: LORE, *, noise: NoiseStream, callback: Callback | None = None
) -> EditResult:
    """Images [B, 3, H, W] edited inside their masks. Draws noise of step 0 if `renoise` is above 0.

    Needs gradients (not inference mode). InputError for another model than FLUX, true classifier-free guidance, an
    empty or full mask, a target object that the prompt lacks or that nothing tells.
    """
    flux_transformer(backbone)
    one_row_per_image(backbone, settings.source_guidance, settings.target_guidance)
    with torch.no_grad():
        x = backbone.encode(batch.image)
        m = token_mask(backbone, batch.mask, x, soft=settings.soft_mask)  # [B, N]
        inside = latent_mask(backbone, m, x)  # [B, 1, h, w]
        words = torch.stack([word_weights(backbone, case, settings) for case in batch.cases])
        source = backbone.embed(batch.source_prompt, settings.source_guidance)
        target = backbone.embed(batch.target_prompt, settings.target_guidance)
        times = backbone.times(settings.steps, like=x)
        shared = share_values(backbone, settings, m, late=settings.late_values)
        z = midpoint(follow(backbone, source, shared.up), x, times.flip(0), callback)
        shared.complete(z, times[0], source)
        if settings.renoise:
            z = renoised(z, noise.draw(0, z), inside, settings.renoise, settings.preserve_variance)
    real = None if settings.padding else torch.stack([real_tokens(backbone, text) for text in batch.target_prompt])
    z = optimised(backbone, z, times, target, TextMaps(words, real), inside, settings)
    with torch.no_grad():
        x = midpoint(follow(backbone, target, shared.down), z, times, callback)
        return EditResult(backbone.decode(x), latents=x)


def renoised(z: Tensor, eps: Tensor, inside: Tensor, s: float, preserve_variance: bool = False) -> Tensor:
    """(1 - m) z + m ((1 - s) z + s eps). Its standard deviation inside is sqrt((1 - s)² + s²), unless preserved."""
    mixed = (1 - s) * z + s * eps
    if preserve_variance:
        mixed = mixed / ((1 - s) ** 2 + s**2) ** 0.5
    return (1 - inside) * z + inside * mixed


def optimised(
    backbone: Backbone, z: Tensor, times: Tensor, cond: Conditioning, maps: TextMaps, inside: Tensor, settings: LORE
) -> Tensor:
    """The noise at t = 1 after `iterations` steps of Adam; it moves only where the mask is above 0.

    Each image has a loss of its own, of which the sum is taken, so that it moves as it would alone.
    """
    layers = resolve_layers(backbone, settings.loss_from, settings.loss_to)
    z = z.clone().requires_grad_()
    adam = torch.optim.Adam([z], lr=settings.learning_rate)
    for _ in range(settings.iterations):
        with torch.enable_grad(), hooked(backbone, layers, maps.hook), within_memory(backbone, z):
            loss = attention_loss(backbone, z, times, cond, maps, inside, max(layers))
            (gradient,) = torch.autograd.grad(loss.sum(), z)
        z.grad = gradient * inside  # gates m = 0 alone: Adam does not see a gradient's size
        adam.step()
    return z.detach()


def attention_loss(
    backbone: Backbone, z: Tensor, times: Tensor, cond: Conditioning, maps: TextMaps, inside: Tensor, last: int
) -> Tensor:
    """1 - mean over layers of the greatest smoothed attention to the object inside the mask, [B].

    The maps are the mean of those of the two evaluations of the first midpoint step, the second through the first. It
    ends after the last layer used, which is exact, and still counts as one evaluation.
    """
    t, half = times[0], (times[1] - times[0]) / 2
    with maps.collect() as first:
        v = backbone.velocity(z, t, cond)
    with maps.collect() as second, ending_after(backbone, last):
        backbone.velocity(z + half * v, t + half, cond)
    rows, columns = inside.shape[2] // backbone.patch, inside.shape[3] // backbone.patch
    m = inside[:, :, :: backbone.patch, :: backbone.patch]
    kernel = gaussian().to(z.device)[None, None]
    scores = []
    for layer in first:
        a = ((first[layer] + second[layer]) / 2).reshape(-1, 1, rows, columns)
        scores.append(F.conv2d(a * m, kernel, padding=1).flatten(1).amax(1))
    return 1 - torch.stack(scores).mean(0)


def gaussian(sigma: float = 0.5) -> Tensor:
    """The 3 x 3 kernel: .619 in the centre, .084 at the edges, .011 in the corners."""
    line = torch.exp(-torch.tensor([1.0, 0.0, 1.0]) / (2 * sigma**2))
    return torch.outer(line, line) / line.sum() ** 2


# The words of the target object


def word_weights(backbone: Backbone, case: EditCase, settings: LORE) -> Tensor:
    """[T]: 1 / n on the n T5 tokens of the case's target object, else 0."""
    spans = object_spans(case, settings.target_object)
    found = token_positions(backbone.pipe.tokenizer_2, case.target_prompt, spans)
    weights = torch.zeros(backbone.text_tokens)
    weights[found] = 1 / len(found)
    return weights


def object_spans(case: EditCase, named: str = "") -> list[tuple[int, int]]:
    """Where the target object stands in the target prompt: (first character, one past the last) of each part.

    InputError if the prompt lacks it or nothing tells what it is.
    """
    phrase = str(case.extras.get("target_object") or named)
    if phrase.strip():
        match = re.search(rf"(?<!\w){re.escape(phrase.strip())}(?!\w)", case.target_prompt, re.IGNORECASE)
        if match is None:
            expected = f"words of its target prompt {case.target_prompt!r}"
            raise InputError(f"target object of case {case.id!r}", found=repr(phrase), expected=expected)
        return [match.span()]
    word = re.compile(r"\w+(?:[-']\w+)*")
    known = {found.lower() for found in word.findall(case.source_prompt or "")}
    new = [match.span() for match in word.finditer(case.target_prompt) if match[0].lower() not in known]
    if not new:
        expected = "extras['target_object'], or a word of the target prompt that the source prompt lacks"
        raise InputError(f"target object of case {case.id!r}", found="none", expected=expected)
    return new


def token_positions(tokenizer: Any, prompt: str, spans: list[tuple[int, int]]) -> list[int]:
    """The positions of the tokens that hold a character of any span; a bare "▁", a blank, holds none."""
    encoded = tokenizer(prompt, return_offsets_mapping=True)
    pieces = tokenizer.convert_ids_to_tokens(encoded.input_ids)
    found = []
    for i, (piece, (begin, end)) in enumerate(zip(pieces, encoded.offset_mapping, strict=True)):
        if piece.strip("▁") and any(begin < last and first < end for first, last in spans):
            found.append(i)
    return found


def real_tokens(backbone: Backbone, prompt: str) -> Tensor:
    """[T] bool: the tokens of the prompt with its end token, not the padding after them."""
    return torch.arange(backbone.text_tokens) < len(backbone.pipe.tokenizer_2(prompt).input_ids)


def lore_nfe(backbone: Backbone, settings: LORE, latents: Tensor) -> float:
    """Transformer evaluations per image: 2 per step each way and 2 per iteration, whose second ends early.

    One more where values are shared but not late. The ways back of the gradient are not counted.
    """
    n = len(backbone.times(settings.steps, like=latents)) - 1
    extra = not settings.late_values and settings.inject > 0 and settings.values != "none"
    return 2 * evaluations("midpoint", n) + 2 * settings.iterations + extra
