"""Cases for the analytic backbone of `lib.backbones.mixture`, which tests take from here together with it."""

import torch

from lib.backbones.mixture import Mixture, exact_velocity
from lib.bench.cases import EditCase

__all__ = ["Mixture", "exact_velocity", "some_cases"]


def some_cases(n, size=8, masks=True, targets=True):
    """Cases of seeded random pictures, each with prompts of its own."""
    cases = []
    for i in range(n):
        generator = torch.Generator().manual_seed(i)
        image, target = 0.3 + 0.4 * torch.rand(2, 3, size, size, generator=generator)
        mask = torch.zeros(1, size, size, dtype=torch.bool)
        mask[:, : size // 2, : i % size + 1] = True
        cases.append(
            EditCase(
                id=f"case-{i:03}",
                image=image,
                source_prompt=f"a red thing, number {i}",
                target_prompt=f"a blue thing, number {i}",
                mask=mask if masks else None,
                target_image=target if targets else None,
            )
        )
    return cases
