"""Nothing twice: a backbone that keeps its velocities and gives back what it has evaluated before.

The source half of FlowEdit and sync-SDE depends on image, noise and settings, not on the target: over a sweep of target
prompts and guidances it is evaluated once. So is everything when an edit is made again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor, nn

from lib.backbones.base import Backbone, Conditioning, Counter
from lib.core.errors import InputError


class Remembering:
    """Stands in for `backbone`; all but `velocity` is the backbone's own.

    A velocity is kept under the bytes of all that it depends on: x of the whole batch (kernels round differently at
    another batch shape), t, embeddings, guidance. What comes back is therefore what the backbone would give, to the
    bit. Kept are at most `limit_bytes` of velocities; the one not asked for longest goes first.

    `count()` counts what was asked for, kept or not, as on the backbone itself, so that an editor's formula holds.
    `asked` and `spent` count transformer evaluations since the wrapper was made: in all, and those really run.

    Nothing is kept or given back where gradients are recorded, or while attention processors are not those that the
    transformer had when the wrapper was made. Weights must stay as they are: after changing them, `forget()`.
    """

    def __init__(self, backbone: Backbone, *, limit_bytes: int = 2**30) -> None:
        if limit_bytes < 1:
            raise InputError("limit_bytes", found=limit_bytes, expected="1 or more")
        self.backbone, self.limit_bytes = backbone, limit_bytes
        self.asked, self.spent = Counter(), Counter()
        self.kept_bytes = 0  # of velocities kept now
        self._kept: OrderedDict[bytes, tuple[Tensor, Counter]] = OrderedDict()
        self._processors = self._attention()

    def __getattr__(self, name: str) -> Any:
        if name == "backbone":  # not there yet: a copy is being made
            raise AttributeError(name)
        return getattr(self.backbone, name)

    def forget(self) -> None:
        """Drop all that is kept."""
        self._kept.clear()
        self.kept_bytes = 0

    def velocity(self, x: Tensor, t: float | Tensor, cond: Conditioning) -> Tensor:
        """`Backbone.velocity`: kept if it was evaluated before, else evaluated and kept."""
        if self._records_gradients(x, cond) or self._attention() != self._processors:
            return self._evaluate(x, t, cond)[0]
        key = self._key(x, t, cond)
        if key not in self._kept:
            v, cost = self._evaluate(x, t, cond)
            self._keep(key, v.clone(), cost)
            return v
        self._kept.move_to_end(key)
        v, cost = self._kept[key]
        for counter in (*self.backbone._counters, self.asked):
            _add(counter, cost)
        return v.clone()  # the caller may write into it; and a copy made outside inference mode may enter a training

    def _evaluate(self, x: Tensor, t: float | Tensor, cond: Conditioning) -> tuple[Tensor, Counter]:
        with self.backbone.count() as cost:
            v = self.backbone.velocity(x, t, cond)
        _add(self.asked, cost)
        _add(self.spent, cost)
        return v, cost

    def _keep(self, key: bytes, v: Tensor, cost: Counter) -> None:
        self._kept[key] = v, cost
        self.kept_bytes += v.nbytes
        while self.kept_bytes > self.limit_bytes:
            _, (oldest, _) = self._kept.popitem(last=False)
            self.kept_bytes -= oldest.nbytes

    def _key(self, x: Tensor, t: float | Tensor, cond: Conditioning) -> bytes:
        level = torch.as_tensor(t, dtype=torch.float32)  # as the backbone reads it
        digest = sha256(f"{self.backbone.guidance_mode} {x.device}".encode())
        for part in (x, level, *_parts(cond)):
            tensor = torch.as_tensor(part, dtype=torch.float64) if isinstance(part, float) else part
            digest.update(f"\0{tensor.dtype} {list(tensor.shape)}\0".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        return digest.digest()

    def _records_gradients(self, x: Tensor, cond: Conditioning) -> bool:
        if not torch.is_grad_enabled():
            return False
        transformer = self.backbone.pipe.transformer
        weights = transformer.parameters() if isinstance(transformer, nn.Module) else ()
        inputs = (x, *(part for part in _parts(cond) if isinstance(part, Tensor)))
        return any(tensor.requires_grad for tensor in (*inputs, *weights))

    def _attention(self) -> dict[str, Any]:
        """The attention processors by name; two of these are equal if they hold the same objects."""
        return dict(getattr(self.backbone.pipe.transformer, "attn_processors", {}))


Backbone.register(Remembering)  # so that isinstance holds, though it inherits nothing


def _parts(cond: Conditioning) -> Iterator[Tensor | float]:
    """All that a conditioning consists of, its negative included."""
    yield from (cond.prompt_embeds, cond.pooled, cond.guidance)
    if cond.negative is not None:
        yield from _parts(cond.negative)


def _add(counter: Counter, cost: Counter) -> None:
    counter.calls += cost.calls
    counter.rows += cost.rows
