"""What autograd keeps of one evaluation whose text-column maps shall have gradients: bytes saved for the way back.

Each saved storage is counted once, weights left out. Nothing is computed: the transformer has FLUX.1's width (24 heads
x 128) and its tensors are fakes that have shapes alone. Three ways: `naive` makes the joint logits of all tokens and
keeps what its softmax saves; `maps` is `lib.backbones.attention` (q and k alone stay); `maps, blocks checkpointed` is
what LORE does (what enters each block stays). `maps alone` leaves everything but the maps out of the count.

    python -m bench.attention_memory --text 512 --image 1024 --double 2 --single 2
"""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from types import SimpleNamespace

import torch
from diffusers import FluxTransformer2DModel
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from lib.backbones.attention import TextMaps, checkpointed, hooked, text_map

HEADS, WIDTH = 24, 128
MIB = 2**20


class Saved:
    """Bytes of the storages that autograd saves inside the block, each once."""

    def __init__(self, *known: Tensor) -> None:
        self._known = {tensor.untyped_storage()._cdata for tensor in known}
        self._kept: list[Tensor] = []  # so that no storage's address comes twice
        self.bytes = 0

    def __enter__(self) -> Saved:
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._keep, lambda tensor: tensor)
        self._hooks.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._hooks.__exit__(*error)

    def _keep(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._known:
            self._known.add(storage._cdata)
            self._kept.append(tensor)
            self.bytes += storage.nbytes()
        return tensor


def naive_map(q: Tensor, k: Tensor, weights: Tensor) -> Tensor:
    """[B, N] by way of the logits of all tokens and the softmax of all rows, as the release makes it."""
    text = weights.shape[1]
    logits = torch.einsum("blhd,bmhd->bhlm", q, k) / q.shape[-1] ** 0.5
    maps = logits[..., :text].softmax(-1).mean(1)
    return torch.einsum("blt,bt->bl", maps, weights)[:, text:]


def whole_model(way: str, text: int, image: int, double: int, single: int) -> int:
    """Bytes saved by one evaluation, with a map of every layer."""
    transformer = FluxTransformer2DModel(num_layers=double, num_single_layers=single, guidance_embeds=True)
    weights = torch.ones(1, text)
    inputs = {
        "hidden_states": torch.empty(1, image, 64, requires_grad=True),
        "encoder_hidden_states": torch.empty(1, text, 4096),
        "pooled_projections": torch.empty(1, 768),
        "timestep": torch.empty(1),
        "guidance": torch.empty(1),
        "txt_ids": torch.empty(text, 3),
        "img_ids": torch.empty(image, 3),
    }
    transformer.requires_grad_(False)
    backbone = SimpleNamespace(name="flux", pipe=SimpleNamespace(transformer=transformer))
    maps, found = TextMaps(weights), []

    def naive(layer: int, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        found.append(naive_map(q, k, weights))
        return k, v

    blocks = checkpointed(backbone) if way == "maps, blocks checkpointed" else nullcontext()
    hook = naive if way == "naive" else maps.hook
    with hooked(backbone, range(double + single), hook), blocks, maps.collect() as collected:
        with Saved(*transformer.parameters(), *transformer.buffers()) as saved:
            transformer(**inputs)
        assert len(found or collected) == double + single
    return saved.bytes


def maps_alone(way: str, text: int, image: int, layers: int) -> int:
    """Bytes saved by the maps of this many layers beyond q and k, which attention itself saves."""
    total = 0
    for _ in range(layers):
        q, k = (torch.empty(1, text + image, HEADS, WIDTH, requires_grad=True) for _ in range(2))
        weights = torch.ones(1, text)
        with Saved(q, k, weights) as saved:
            kept = (naive_map if way == "naive" else text_map)(q, k, weights)
        assert kept.requires_grad
        total += saved.bytes
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=int, default=512)
    parser.add_argument("--image", type=int, default=1024)
    parser.add_argument("--double", type=int, default=2)
    parser.add_argument("--single", type=int, default=2)
    options = parser.parse_args()
    sizes = options.text, options.image
    print(f"{sizes[0]} text + {sizes[1]} image tokens, {options.double} double + {options.single} single blocks")
    print("| one evaluation, float32 | MiB saved | of naive |")
    print("| --- | --- | --- |")
    ways = ("naive", "maps", "maps, blocks checkpointed")
    with FakeTensorMode():
        rows = {way: whole_model(way, *sizes, options.double, options.single) for way in ways}
        alone = {way: maps_alone(way, *sizes, options.double + options.single) for way in ("naive", "maps")}
    rows_of = ((rows, ""), (alone, "maps alone: "))
    for found, prefix in rows_of:
        for way, size in found.items():
            print(f"| {prefix}{way} | {size / MIB:,.1f} | {size / found['naive']:.3f} |")


if __name__ == "__main__":
    main()
