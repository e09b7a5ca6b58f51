"""Nothing twice: a backbone that keeps its velocities and gives back what it has evaluated before.

The source half of FlowEdit and sync-SDE depends on image, noise and settings, not on the target: over a sweep of target
prompts and guidances it is evaluated once. So is an inversion that several arms begin with, with the keys and values
that they record on the way, and everything when an edit is made again. Encoded images are kept as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lib.backbones.attention import HookedProcessor, Recorded, Recorder
from lib.backbones.base import Backbone, Conditioning, Counter
from lib.backbones.kept import Kept
from lib.core.errors import InputError


class Evaluated(NamedTuple):
    """One evaluation: the velocity, what it cost, and what recorders took on the way."""

    v: Tensor
    cost: Counter
    taken: Recorded


class Remembering:
    """Stands in for `backbone`; all but `velocity` and `encode` is the backbone's own.

    A velocity is kept under the bytes of all that it depends on: x of the whole batch (kernels round differently at
    another batch shape), t, embeddings, guidance, and the layers that are recorded; latents under the bytes of their
    images. What comes back is therefore what the backbone would give, to the bit. Kept are at most `limit_bytes`; what
    was not asked for longest goes first.

    `count()` counts what was asked for, kept or not, as on the backbone itself, so that an editor's formula holds.
    `asked` and `spent` count transformer evaluations since the wrapper was made: in all, and those really run.

    Nothing is kept or given back where gradients are recorded, or while attention processors are others than those that
    the transformer had when the wrapper was made, unless they only record (`Recorder`). Weights must stay as they are:
    after changing them, `forget()`.
    """

    def __init__(self, backbone: Backbone, *, limit_bytes: int = 2**31) -> None:
        if limit_bytes < 1:
            raise InputError("limit_bytes", found=limit_bytes, expected="1 or more")
        self.backbone = backbone
        self.asked, self.spent = Counter(), Counter()
        self._kept: Kept[Evaluated | Tensor] = Kept(limit_bytes)
        self._stock = self._processors()

    def __getattr__(self, name: str) -> Any:
        if name == "backbone":  # not there yet: a copy is being made
            raise AttributeError(name)
        return getattr(self.backbone, name)

    @property
    def kept_bytes(self) -> int:
        """Of all that is kept now."""
        return self._kept.bytes

    def forget(self) -> None:
        """Drop all that is kept."""
        self._kept.clear()

    def encode(self, image: Tensor) -> Tensor:
        """`Backbone.encode`: kept if these images were encoded before, else encoded and kept."""
        key = _digest("encode", image)
        latents = self._kept.get(key)
        if latents is None:
            latents = self.backbone.encode(image)
            self._kept.put(key, latents.clone(), latents.nbytes)
            return latents
        return latents.clone()

    def velocity(self, x: Tensor, t: float | Tensor, cond: Conditioning) -> Tensor:
        """`Backbone.velocity`: kept if it was evaluated before, else evaluated and kept."""
        recorders = self._recorders()
        if recorders is None or self._records_gradients(x, cond):
            return self._evaluate(x, t, cond)[0]
        key = self._key(x, t, cond, recorders)
        found = self._kept.get(key)
        if found is None:
            v, cost = self._evaluate(x, t, cond)
            taken = {layer: recorder.taken[layer] for layer, recorder in recorders.items()}
            size = sum(part.nbytes for pair in taken.values() for part in pair if part is not None)
            self._kept.put(key, Evaluated(v.clone(), cost, taken), v.nbytes + size)
            return v
        for counter in (*self.backbone._counters, self.asked):
            _add(counter, found.cost)
        for layer, recorder in recorders.items():
            recorder.taken[layer] = found.taken[layer]
        return (
            found.v.clone()
        )  # the caller may write into it; and a copy made outside inference mode may enter a training

    def _evaluate(self, x: Tensor, t: float | Tensor, cond: Conditioning) -> tuple[Tensor, Counter]:
        with self.backbone.count() as cost:
            v = self.backbone.velocity(x, t, cond)
        _add(self.asked, cost)
        _add(self.spent, cost)
        return v, cost

    def _key(self, x: Tensor, t: float | Tensor, cond: Conditioning, recorders: dict[int, Recorder]) -> bytes:
        level = torch.as_tensor(t, dtype=torch.float32)  # as the backbone reads it
        recorded = sorted((layer, recorder.keys) for layer, recorder in recorders.items())
        return _digest(f"{self.backbone.guidance_mode} {x.device} {recorded}", x, level, *_parts(cond))

    def _records_gradients(self, x: Tensor, cond: Conditioning) -> bool:
        if not torch.is_grad_enabled():
            return False
        transformer = self.backbone.pipe.transformer
        weights = transformer.parameters() if isinstance(transformer, nn.Module) else ()
        inputs = (x, *(part for part in _parts(cond) if isinstance(part, Tensor)))
        return any(tensor.requires_grad for tensor in (*inputs, *weights))

    def _processors(self) -> dict[str, Any]:
        """The attention processors by name."""
        return dict(getattr(self.backbone.pipe.transformer, "attn_processors", {}))

    def _recorders(self) -> dict[int, Recorder] | None:
        """By layer what records; None if a processor that is not the stock one does anything else."""
        found = {}
        for name, processor in self._processors().items():
            if processor is self._stock.get(name):
                continue
            if not (isinstance(processor, HookedProcessor) and isinstance(processor.hook, Recorder)):
                return None
            found[processor.layer] = processor.hook
        return found


Backbone.register(Remembering)  # so that isinstance holds, though it inherits nothing


def _digest(what: str, *parts: Tensor | float) -> bytes:
    """The hash of a word and of the bytes of tensors and numbers, each with its dtype and shape."""
    digest = sha256(what.encode())
    for part in parts:
        tensor = torch.as_tensor(part, dtype=torch.float64) if isinstance(part, float) else part
        digest.update(f"\0{tensor.dtype} {list(tensor.shape)}\0".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.digest()


def _parts(cond: Conditioning) -> Iterator[Tensor | float]:
    """All that a conditioning consists of, its negative included."""
    yield from (cond.prompt_embeds, cond.pooled, cond.guidance)
    if cond.negative is not None:
        yield from _parts(cond.negative)


def _add(counter: Counter, cost: Counter) -> None:
    counter.calls += cost.calls
    counter.rows += cost.rows
