"""The steps of an edit as pictures: `film = Film(); run_editor(..., callback=film); film.frames(backbone)`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lib.core.errors import InputError

if TYPE_CHECKING:
    from lib.backbones.base import Backbone


class Film:
    """A callback that keeps the latents of the first case of a batch after every step."""

    def __init__(self) -> None:
        self.steps: list[tuple[float, Tensor]] = []  # noise level reached, latents [1, C, h, w]

    def __call__(self, t: float, x: Tensor) -> None:
        self.steps.append((t, x[:1].detach().cpu().clone()))

    @torch.inference_mode()
    def frames(self, backbone: Backbone, count: int = 12) -> tuple[list[Tensor], list[str]]:
        """`count` steps spread evenly from the first to the last, decoded to [3, H, W], and a label for each.

        All of them if there are fewer. InputError if no edit was filmed yet.
        """
        if not self.steps:
            raise InputError("film", found="no step", expected="an edit with this film as its callback")
        if count < 1:
            raise InputError("frames of a film", found=count, expected="1 or more")
        last = len(self.steps) - 1
        places = sorted({round(i * last / max(count - 1, 1)) for i in range(count)} if count > 1 else {last})
        chosen = [self.steps[place] for place in places]
        images = [backbone.decode(x)[0].cpu() for _, x in chosen]  # one by one: large models need the memory
        return images, [f"t = {t:.2f}" for t, _ in chosen]
