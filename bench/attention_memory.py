"""What text-column maps cost in memory: bytes on top of the same pass without maps, forward plus backward.

A pass is one evaluation and the gradient of what it gives, and of every layer's map, with respect to its inputs. Three
ways at one setting of checkpointing: `none` has no maps; `naive` makes the logits of all tokens, as LORE's release
does, then the softmax over the text columns of the image rows; `ours` is `lib.backbones.attention`. Three scopes: a
transformer of FLUX.1's width in whole blocks; its attention layers alone; and, with nothing beside them whose own peak
could hide theirs, the maps alone, from q and k.

Bytes are those of living storages that operations made, counted as they come and go; weights and inputs are left out,
and so is what a kernel needs inside itself. The tensors are fakes, which have shapes and lifetimes but no content: the
count is exact, the same on every machine, and takes a minute.

    python -m bench.attention_memory --text 512 --image 1024 --double 2 --single 2
"""

from __future__ import annotations

import argparse
import weakref
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import FluxTransformer2DModel
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint

from lib.backbones.attention import TextMaps, attention_layers, checkpointed, hooked
from lib.core.paths import resolve

WAYS = ("none", "naive", "ours")
SCOPES = ("whole blocks", "attention alone", "maps alone")
JOINT = 4096  # width of a T5 embedding
LIMIT = 1 / 4
MIB = 2**20


class Living(TorchDispatchMode):
    """Bytes of the storages that operations inside the block made: those alive `now`, and the `peak` so far."""

    def __init__(self, *known: Tensor) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known = {tensor.untyped_storage()._cdata for tensor in known}
        self._alive: dict[int, weakref.ref] = {}  # an address comes again only after its storage is gone from here

    def __torch_dispatch__(self, operation: Any, types: Any, arguments: tuple = (), options: dict | None = None) -> Any:
        result = operation(*arguments, **(options or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._note(tensor.untyped_storage())
        return result

    def _note(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known or key in self._alive:
            return

        def gone(_: weakref.ref) -> None:
            del self._alive[key]
            self.now -= size

        self._alive[key] = weakref.ref(storage, gone)
        self.now += size
        self.peak = max(self.peak, self.now)


class NaiveMaps(TextMaps):
    """The same maps by way of the logits of all tokens."""

    def hook(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        text = self.weights.shape[1]
        logits = torch.einsum("blhd,bmhd->bhlm", q, k) / q.shape[-1] ** 0.5
        found = torch.einsum("bnt,bt->bn", logits[:, :, text:, :text].softmax(-1).mean(1), self.weights)
        if self._open is not None:
            self._open[layer] = found
        return k, v


class NoMaps(TextMaps):
    """None: what the two others are compared with."""

    def hook(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        return k, v


@dataclass(frozen=True)
class Size:
    """Of the pass: tokens, blocks of either kind, attention heads and their width (FLUX.1's)."""

    text: int = 512
    image: int = 1024
    double: int = 2
    single: int = 2
    heads: int = 24
    width: int = 128

    @property
    def layers(self) -> int:
        return self.double + self.single


@dataclass(frozen=True)
class Count:
    """Bytes at the worst moment of forward and backward, and those that forward leaves for backward."""

    peak: int
    kept: int


def measure(size: Size, way: str, scope: str = SCOPES[0], *, checkpoints: bool = False) -> Count:
    """One pass: under FakeTensorMode nothing is computed, outside of it everything is."""
    weights = torch.ones(1, size.text) / size.text
    maps = {"none": NoMaps, "naive": NaiveMaps, "ours": TextMaps}[way](weights)
    transformer = _transformer(size, whole=scope == SCOPES[0])
    backbone = SimpleNamespace(name="flux", pipe=SimpleNamespace(transformer=transformer))
    if scope == SCOPES[0]:
        leaves, others, forward = _whole_blocks(size, transformer)
    elif scope == SCOPES[1]:
        leaves, others, forward = _attention_alone(size, attention_layers(backbone), checkpoints)
    else:
        leaves, others, forward = _maps_alone(size, maps, checkpoints)
    blocks = checkpointed(backbone) if checkpoints else nullcontext()
    living = Living(*transformer.parameters(), *transformer.buffers(), *leaves, *others, weights)
    with hooked(backbone, range(size.layers), maps.hook), blocks, living:
        with maps.collect() as found:
            out = forward()
        loss = out.sum() + sum(one.sum() for one in found.values())
        del out
        kept = living.now
        torch.autograd.grad(loss, leaves)
    if len(found) != (0 if way == "none" else size.layers):
        raise RuntimeError(f"{way}: {len(found)} maps of {size.layers} layers")
    return Count(living.peak, kept)


Pass = tuple[list[Tensor], list[Tensor], Callable[[], Tensor]]  # what has gradients, other inputs, the forward pass


def _transformer(size: Size, *, whole: bool) -> FluxTransformer2DModel:
    """Without `whole`, all layers are those of single blocks, whose attention has one stream of tokens."""
    rotary = size.width * 7 // 32 * 2  # 56 of 128
    transformer = FluxTransformer2DModel(
        num_layers=size.double if whole else 0,
        num_single_layers=size.single if whole else size.layers,
        num_attention_heads=size.heads,
        attention_head_dim=size.width,
        joint_attention_dim=JOINT,
        axes_dims_rope=(size.width - 2 * rotary, rotary, rotary),
        guidance_embeds=True,
    )
    return transformer.requires_grad_(False)


def _whole_blocks(size: Size, transformer: FluxTransformer2DModel) -> Pass:
    latents = torch.ones(1, size.image, 64, requires_grad=True)
    others = {
        "encoder_hidden_states": torch.ones(1, size.text, JOINT),
        "pooled_projections": torch.ones(1, 768),
        "timestep": torch.ones(1),
        "guidance": torch.ones(1),
        "txt_ids": torch.zeros(size.text, 3),
        "img_ids": torch.zeros(size.image, 3),
    }
    return [latents], [*others.values()], lambda: transformer(latents, **others, return_dict=False)[0]


def _attention_alone(size: Size, layers: Sequence[torch.nn.Module], checkpoints: bool) -> Pass:
    inputs = torch.ones(1, size.text + size.image, size.heads * size.width, requires_grad=True)

    def forward() -> Tensor:
        x = inputs
        for layer in layers:
            x = x + _run(layer, x, checkpoints=checkpoints)
        return x

    return [inputs], [], forward


def _maps_alone(size: Size, maps: TextMaps, checkpoints: bool) -> Pass:
    shape = 1, size.text + size.image, size.heads, size.width
    qk = [(torch.ones(shape, requires_grad=True), torch.ones(shape, requires_grad=True)) for _ in range(size.layers)]
    ones = torch.ones(shape).flatten()

    def forward() -> Tensor:
        for layer, (q, k) in enumerate(qk):
            _run(maps.hook, layer, q, k, k, checkpoints=checkpoints)
        # So that q and k have gradients in every way; a dot product makes them and not a byte more.
        return torch.stack([ones.dot(tensor.flatten()) for pair in qk for tensor in pair])

    return [tensor for pair in qk for tensor in pair], [ones], forward


def _run(function: Callable[..., Any], *arguments: Any, checkpoints: bool) -> Any:
    return checkpoint(function, *arguments, use_reentrant=False) if checkpoints else function(*arguments)


def measure_all(size: Size) -> dict[tuple[str, bool], dict[str, Count]]:
    """Every way, by (scope, checkpoints)."""
    with FakeTensorMode():
        return {
            (scope, on): {way: measure(size, way, scope, checkpoints=on) for way in WAYS}
            for scope in SCOPES
            for on in (True, False)
        }


def ratio(counts: dict[str, Count]) -> float:
    """Our additional bytes at the peak over the naive ones."""
    return (counts["ours"].peak - counts["none"].peak) / (counts["naive"].peak - counts["none"].peak)


def report(size: Size, counted: dict[tuple[str, bool], dict[str, Count]]) -> str:
    """A Markdown table: a row per setting of checkpointing."""
    head = ("none", "naive", "ours", "naive - none", "ours - none", "ratio", "kept: naive - none", "kept: ours - none")
    lines = [
        "# Memory of text-column maps",
        "",
        f"Peak of living bytes in MiB, forward plus backward, float32; {size.heads} heads x {size.width}, {size.text} "
        f"text + {size.image} image tokens, {size.double} double + {size.single} single blocks, a map of every layer; "
        f"`kept` is what forward leaves for backward. Counted by `python -m bench.attention_memory`, torch "
        f"{torch.__version__}.",
        "",
        "| pass | " + " | ".join(head) + " |",
        "|---|" + "---:|" * len(head),
    ]
    for (scope, on), counts in counted.items():
        none, naive, ours = (counts[way] for way in WAYS)
        peaks = [none.peak, naive.peak, ours.peak, naive.peak - none.peak, ours.peak - none.peak]
        cells = [f"{n / MIB:,.1f}" for n in peaks] + [f"**{ratio(counts):.3f}**"]
        cells += [f"{(n - none.kept) / MIB:,.1f}" for n in (naive.kept, ours.kept)]
        name = f"{scope}, {'checkpointed' if on else 'plain'}"
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    worst = max(ratio(counts) for counts in counted.values())
    lines += [
        "",
        "A difference near 0 says that what maps need is free again when the rest of the pass is at its peak.",
    ]
    lines += ["", f"Aim of at most {LIMIT:g} of the naive way: {'reached' if worst <= LIMIT else 'NOT reached'}."]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Count, print the table and write it."""
    parser = argparse.ArgumentParser(description="Memory of text-column maps, ours and naive.")
    parser.add_argument("--text", type=int, default=512)
    parser.add_argument("--image", type=int, default=1024)
    parser.add_argument("--double", type=int, default=2)
    parser.add_argument("--single", type=int, default=2)
    parser.add_argument("--out", default="bench/attention_memory.md", help="file to write, relative to the repository")
    options = parser.parse_args(arguments)
    size = Size(options.text, options.image, options.double, options.single)
    text = report(size, measure_all(size))
    print(text)
    resolve(options.out).write_text(text)


if __name__ == "__main__":
    main()
