"""Noise that belongs to a case, not to a run: independent of order, batch size, resume and number of processes."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from lib.core.errors import InputError


class NoiseStream(Protocol):
    """Where an editor takes its noise from. Row i belongs to the i-th case of the batch."""

    def draw(self, step: int, like: Tensor) -> Tensor:
        """Standard normal float32 noise of the shape and on the device of `like` [B, ...]; the same at every call."""
        ...

    def select(self, rows: Sequence[int]) -> "NoiseStream":
        """The stream of these rows alone."""
        ...


class Noise:
    """Noise keyed by (case, seed, step), drawn on the CPU."""

    def __init__(self, case_ids: Sequence[str], seed: int) -> None:
        self.case_ids = tuple(case_ids)
        self.seed = int(seed)

    def draw(self, step: int, like: Tensor) -> Tensor:
        if step < 0:
            raise InputError("noise step", found=step, expected="an integer of 0 or more")
        if len(like) != len(self.case_ids):
            raise InputError("noise", found=f"a batch of {len(like)}", expected=f"{len(self.case_ids)} rows")
        rows = [torch.randn(like.shape[1:], generator=self._generator(case, step)) for case in self.case_ids]
        return torch.stack(rows).to(like.device)

    def select(self, rows: Sequence[int]) -> "Noise":
        return Noise([self.case_ids[row] for row in rows], self.seed)

    def _generator(self, case_id: str, step: int) -> torch.Generator:
        key = hashlib.sha256(f"{case_id}\0{self.seed}\0{int(step)}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(key[:8], "big") >> 1)


class InjectedNoise:
    """Noise given from outside: replays a method on the draws of another implementation. `draws[step]` is [B, ...]."""

    def __init__(self, draws: Mapping[int, Tensor]) -> None:
        self.draws = dict(draws)

    def draw(self, step: int, like: Tensor) -> Tensor:
        if step not in self.draws:
            raise InputError("injected noise", found=f"none for step {step}", expected=f"any of {sorted(self.draws)}")
        noise = self.draws[step]
        if noise.shape != like.shape:
            thing = f"injected noise of step {step}"
            raise InputError(thing, found=f"shape {list(noise.shape)}", expected=f"{list(like.shape)}")
        return noise.to(like.device, torch.float32)

    def select(self, rows: Sequence[int]) -> "InjectedNoise":
        return InjectedNoise({step: noise[list(rows)] for step, noise in self.draws.items()})
