"""Access to the attention of FLUX: change keys and values, or read how much each image token looks at chosen words.

Processors of our own are set on chosen layers by context managers and the stock ones put back whatever happens. A layer
is a number from 0 to double + single - 1: the double blocks first, then the single ones. In every layer the tokens are
text, then image (row by row). Tensors inside attention are [B, L, H, D], here as in diffusers since 0.35.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import FluxTransformer2DModel
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.embeddings import apply_rotary_emb
from diffusers.models.transformers.transformer_flux import FluxAttnProcessor
from PIL import Image
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lib.core.errors import InputError

if TYPE_CHECKING:
    from lib.backbones.base import Backbone, Conditioning

Hook = Callable[[int, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]  # (layer, q, k, v) -> (k, v)

Recorded = dict[int, tuple[Tensor | None, Tensor]]  # keys and values by layer

SHARED = ("none", "all", "image", "masked")  # what of the recorded values comes back; see `Sharing`
KEPT = 12  # numbers that a block keeps for the way back, per token and unit of width: measured on blocks of FLUX
KEPT_BYTES = 2**31
HEADS_AT_ONCE = 4  # of the text-column maps: 34 MB of float32 for each image at 1024 x 1024 pixels


# Layers


def flux_transformer(backbone: Backbone) -> FluxTransformer2DModel:
    """The transformer of a FLUX backbone; InputError for any other."""
    transformer = backbone.pipe.transformer
    if not isinstance(transformer, FluxTransformer2DModel):
        thing = f"attention of {backbone.name}"
        raise InputError(thing, found=type(transformer).__name__, expected="a FLUX transformer")
    return transformer


def attention_layers(backbone: Backbone) -> list[nn.Module]:
    """The attention module of every layer, in order."""
    transformer = flux_transformer(backbone)
    return [block.attn for block in (*transformer.transformer_blocks, *transformer.single_transformer_blocks)]


def resolve_layers(backbone: Backbone, first: float, last: float, kind: str = "all") -> tuple[int, ...]:
    """The layers between two shares of the depth, so that one setting fits models of any depth.

    Of n blocks, block i is taken if its middle (i + 1/2) / n lies in [first, last); if none does, the one nearest to
    the middle of that range. `kind` counts "all" layers, or only the "double" or "single" blocks; the numbers given
    back are layers in any case. FLUX.1 has 19 + 38: 8/57 to 44/57 of all are layers 8 to 43, 20/38 to 1 of the single
    blocks are single blocks 20 to 37, layers 39 to 56; of 2 + 4 the same shares are layers 1 to 4, and 4 and 5.
    InputError unless 0 <= first < last <= 1.
    """
    if not 0 <= first < last <= 1:
        raise InputError("share of the layers", found=f"{first:g} to {last:g}", expected="0 <= first < last <= 1")
    transformer = flux_transformer(backbone)
    double, single = len(transformer.transformer_blocks), len(transformer.single_transformer_blocks)
    begin, n = {"all": (0, double + single), "double": (0, double), "single": (double, single)}[kind]
    middles = [(i + 0.5) / n for i in range(n)]
    taken = [i for i, middle in enumerate(middles) if first <= middle < last]
    if not taken:
        taken = [min(range(n), key=lambda i: abs(middles[i] - (first + last) / 2))]
    return tuple(begin + i for i in taken)


# Processors


class HookedProcessor(FluxAttnProcessor):
    """Attention as the stock processor computes it, but with keys and values that pass through a hook.

    The hook gets q and k after their norms and rotary embedding, which are those that attention uses.
    """

    def __init__(self, stock: FluxAttnProcessor, layer: int, hook: Hook) -> None:
        super().__init__()
        self._attention_backend, self._parallel_config = stock._attention_backend, stock._parallel_config
        self.layer, self.hook = layer, hook

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        image_rotary_emb: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        def heads(x: Tensor) -> Tensor:
            return x.unflatten(-1, (-1, attn.head_dim))

        q, k = attn.norm_q(heads(attn.to_q(hidden_states))), attn.norm_k(heads(attn.to_k(hidden_states)))
        v = heads(attn.to_v(hidden_states))
        text = encoder_hidden_states
        if text is not None:  # a double block, whose text has projections of its own
            q = torch.cat([attn.norm_added_q(heads(attn.add_q_proj(text))), q], dim=1)
            k = torch.cat([attn.norm_added_k(heads(attn.add_k_proj(text))), k], dim=1)
            v = torch.cat([heads(attn.add_v_proj(text)), v], dim=1)
        if image_rotary_emb is not None:
            q, k = (apply_rotary_emb(x, image_rotary_emb, sequence_dim=1) for x in (q, k))
        k, v = self.hook(self.layer, q, k, v)
        options = {"backend": self._attention_backend, "parallel_config": self._parallel_config}
        out = dispatch_attention_fn(q, k, v, attn_mask=attention_mask, **options).flatten(2, 3).to(q.dtype)
        if text is None:
            return out
        text_out, image_out = out.split([text.shape[1], out.shape[1] - text.shape[1]], dim=1)
        image_out = attn.to_out[1](attn.to_out[0](image_out.contiguous()))
        return image_out, attn.to_add_out(text_out.contiguous())


@contextmanager
def hooked(backbone: Backbone, layers: Sequence[int], hook: Hook) -> Iterator[None]:
    """Pass the keys and values of these layers through the hook inside the block.

    Of two such blocks, one in the other, the inner alone acts on the layers that they share. Where blocks are
    checkpointed (`checkpointed`), backward belongs inside too: it runs the layers again.
    """
    attentions = attention_layers(backbone)
    stock = {layer: attentions[layer].processor for layer in layers}
    try:
        for layer in layers:
            attentions[layer].set_processor(HookedProcessor(stock[layer], layer, hook))
        yield
    finally:
        for layer in layers:
            attentions[layer].set_processor(stock[layer])


@contextmanager
def ending_after(backbone: Backbone, layer: int) -> Iterator[None]:
    """Leave out all blocks after this layer. What happens up to it stays exact; the velocity means nothing."""
    transformer = flux_transformer(backbone)
    double, single = transformer.transformer_blocks, transformer.single_transformer_blocks
    try:
        transformer.transformer_blocks = double[: layer + 1]
        transformer.single_transformer_blocks = single[: max(layer + 1 - len(double), 0)]
        yield
    finally:
        transformer.transformer_blocks, transformer.single_transformer_blocks = double, single


@contextmanager
def checkpointed(backbone: Backbone) -> Iterator[None]:
    """Keep only what enters each block for the way back, and compute the rest of it again then."""
    transformer = flux_transformer(backbone)
    before = transformer.is_gradient_checkpointing
    if not before:
        transformer.enable_gradient_checkpointing()
    try:
        yield
    finally:
        if not before:
            transformer.disable_gradient_checkpointing()


def within_memory(backbone: Backbone, latents: Tensor) -> AbstractContextManager[None]:
    """`checkpointed` where the way back through two evaluations at `latents` would keep more than KEPT_BYTES.

    A tiny model keeps all of it and computes no block twice; FLUX.1-dev at 512 x 512 would keep 13 GB of bfloat16.
    """
    tokens = backbone.text_tokens + latents.shape[-2] * latents.shape[-1] // backbone.patch**2
    numbers = 2 * KEPT * len(attention_layers(backbone)) * len(latents) * tokens * flux_transformer(backbone).inner_dim
    return checkpointed(backbone) if numbers * backbone.dtype.itemsize > KEPT_BYTES else nullcontext()


def one_row_per_image(backbone: Backbone, *guidances: float) -> None:
    """InputError where a guidance would be true classifier-free, which mixes two prompts in one transformer call."""
    if backbone.guidance_mode == "distilled" or all(guidance == 1 for guidance in guidances):
        return
    thing = f"guidance {max(guidances):g} on {backbone.name}, with access to attention"
    raise InputError(thing, found="no guidance embedding in use", expected="one, or guidance 1")


# Sharing of keys and values


class Recorder:
    """A hook that changes nothing and notes keys (None unless asked for) and values of each layer in `taken`."""

    def __init__(self, taken: Recorded, *, keys: bool) -> None:
        self.taken, self.keys = taken, keys

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        self.taken[layer] = (k.detach() if self.keys else None, v.detach())
        return k, v


class Sharing:
    """Values, and keys if asked for, that are recorded on the way up and put back on the way down.

    Only the `intervals` next to the noise take part. `mode` says what comes back: "all" (RF-Edit), "image" (the text
    keeps its new values), "masked" (new ones in text and mask, `mask` [B, N] in [0, 1] being the weight of the new) or
    "none". What was not recorded is not replaced.

    An interval from a up to b is first evaluated at a on the way up, but at b on the way down. `late` shares by
    interval, as RF-Solver's release does: the first evaluation then gets values from one grid point nearer to the
    image. Otherwise it gets those of its own noise level, for which `complete` evaluates the top once more.
    """

    def __init__(
        self,
        backbone: Backbone,
        layers: Sequence[int],
        *,
        intervals: int,
        mode: str = "all",
        mask: Tensor | None = None,
        keys: bool = False,
        late: bool = True,
    ) -> None:
        if mode not in SHARED:
            raise InputError("mode of sharing", found=repr(mode), expected=f"one of {', '.join(SHARED)}")
        if mode == "masked" and mask is None:
            raise InputError("mask of the cases", found="none", expected="one, for masked sharing")
        self.backbone, self.layers, self.intervals, self.mode = backbone, layers, intervals, mode
        self.mask, self.keys, self.late = mask, keys, late
        self._recorded: dict[tuple[int, str], Recorded] = {}

    @property
    def active(self) -> bool:
        return self.intervals > 0 and self.mode != "none"

    def up(self, interval: int, stage: str) -> AbstractContextManager[None]:
        """Record inside the block, if this evaluation is one to share."""
        index = interval if self.late or stage == "mid" else interval + 1
        if not self.active or index >= self.intervals:
            return nullcontext()
        taken = self._recorded.setdefault((index, stage), {})
        return hooked(self.backbone, self.layers, Recorder(taken, keys=self.keys))

    def down(self, interval: int, stage: str) -> AbstractContextManager[None]:
        """Put back inside the block what was recorded for this evaluation, if anything was."""
        if (interval, stage) not in self._recorded:
            return nullcontext()
        return hooked(self.backbone, self.layers, partial(self._put_back, self._recorded[interval, stage]))

    def complete(self, x: Tensor, t: Tensor, cond: Conditioning) -> None:
        """One more evaluation at the top of the way up, where sharing is not late."""
        if self.active and not self.late:
            with self.up(-1, "first"):
                self.backbone.velocity(x, t, cond)

    def _put_back(self, kept: Recorded, layer: int, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        old_k, old_v = kept[layer]
        return (self._mix(k, old_k) if self.keys else k), self._mix(v, old_v)

    def _mix(self, new: Tensor, old: Tensor) -> Tensor:
        if self.mode == "all":
            return old
        text = self.backbone.text_tokens
        if self.mode == "image":
            return torch.cat([new[:, :text], old[:, text:]], dim=1)
        m = self.mask.to(new)[:, :, None, None]
        return torch.cat([new[:, :text], m * new[:, text:] + (1 - m) * old[:, text:]], dim=1)


# Text-column maps


class TextMaps:
    """How much each image token looks at chosen words: of each layer, the mean over heads of a softmax over the text
    columns alone, times `weights` [B, T] (1 / n on the n tokens of a word). [B, N] float32, differentiable.

    The joint map [L, L] is never made. Heads are taken a few at a time and forgotten: q and k alone stay for the way
    back. `real` [B, T] bool leaves padding out of the softmax; without it padding takes part, as in LORE's release.
    """

    def __init__(self, weights: Tensor, real: Tensor | None = None) -> None:
        self.weights, self.real = weights, real
        self._open: dict[int, Tensor] | None = None

    def hook(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """For `hooked`. Computes the map even when nobody collects: checkpoints must see the same work twice."""
        found = text_map(q, k, self.weights.to(q.device), None if self.real is None else self.real.to(q.device))
        if self._open is not None:
            self._open[layer] = found
        return k, v

    @contextmanager
    def collect(self) -> Iterator[dict[int, Tensor]]:
        """The maps of the forward pass made inside the block, by layer."""
        self._open = {}
        try:
            yield self._open
        finally:
            self._open = None


def text_map(q: Tensor, k: Tensor, weights: Tensor, real: Tensor | None = None, chunk: int = HEADS_AT_ONCE) -> Tensor:
    """[B, N] from q and k [B, T + N, H, D] as attention uses them, and weights [B, T] over the text; see `TextMaps`."""
    heads = q.shape[2]
    total = sum(
        checkpoint(_chunk_map, q, k, weights, real, slice(h, h + chunk), use_reentrant=False, preserve_rng_state=False)
        for h in range(0, heads, chunk)
    )
    return total / heads


def _chunk_map(q: Tensor, k: Tensor, weights: Tensor, real: Tensor | None, heads: slice) -> Tensor:
    text = weights.shape[1]
    logits = torch.einsum("bnhd,bthd->bhnt", q[:, text:, heads].float(), k[:, :text, heads].float())
    logits = logits / q.shape[-1] ** 0.5
    if real is not None:
        logits = logits.masked_fill(~real[:, None, None], float("-inf"))
    return torch.einsum("bhnt,bt->bn", logits.softmax(-1), weights)


# Masks


def token_mask(backbone: Backbone, mask: Tensor, latents: Tensor, *, soft: bool = False) -> Tensor:
    """Masks [B, 1, H, W] bool over the image tokens of `latents`: [B, N] float32, row by row.

    A token is 1 if at least half of its pixels are in the mask; where that leaves a case none, the token with most is.
    `soft` gives instead LORE's resize of the 8-bit mask by Lanczos' kernel, in [0, 1].
    InputError if a mask is empty or full, which leaves nothing to edit or nothing to keep.
    """
    for row in mask:
        if row.all() or not row.any():
            found = "every pixel in it" if row.all() else "no pixel in it"
            raise InputError("mask", found=found, expected="some pixels to change and some to keep")
    size = latents.shape[2] // backbone.patch, latents.shape[3] // backbone.patch
    if soft:
        images = [Image.fromarray(row[0].cpu().numpy().astype(np.uint8) * 255) for row in mask]
        grids = [np.asarray(image.resize(size[::-1], Image.Resampling.LANCZOS)) for image in images]
        tokens = torch.from_numpy(np.stack(grids)).float().flatten(1) / 255
    else:
        area = F.adaptive_avg_pool2d(mask.float(), size).flatten(1)
        tokens = (area >= area.amax(1, keepdim=True).clamp(max=0.5)).float()
    return tokens.to(latents.device)


def latent_mask(backbone: Backbone, tokens: Tensor, latents: Tensor) -> Tensor:
    """Token masks [B, N] over the pixels of `latents` [B, C, h, w]: [B, 1, h, w]."""
    rows, columns = latents.shape[2] // backbone.patch, latents.shape[3] // backbone.patch
    grid = tokens.reshape(-1, 1, rows, columns)
    return grid.repeat_interleave(backbone.patch, 2).repeat_interleave(backbone.patch, 3)
