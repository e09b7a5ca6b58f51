"""The world as a benchmark: edits with ground truth, as `EditCase`s."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lib.bench.cases import EditCase
from lib.core.errors import InputError
from lib.world.edits import Edit, sample_edits
from lib.world.language import caption
from lib.world.render import render
from lib.world.scenes import Scene
from lib.world.vocabulary import SPLITS

LICENCE = "sprites: Noto Color Emoji, OFL-1.1"


def picture(scene: Scene) -> torch.Tensor:
    """The scene's picture in the image contract: float32 [3, 64, 64] in [0, 1]."""
    return torch.from_numpy(render(scene)).permute(2, 0, 1).float() / 255


def as_case(edit: Edit, name: str, mask: NDArray[np.bool_], **extras: Any) -> EditCase:
    """An edit of the world as a case; `mask` [H, W] is where it may change, `extras` stand beside its record."""
    record = {
        "changed": edit.changed,
        "protected": edit.protected,
        "before": edit.source.attributes(),
        "gap": edit.gap,
    }
    return EditCase(
        id=name,
        image=picture(edit.source),
        target_prompt=caption(edit.target),
        source_prompt=caption(edit.source),
        instruction=edit.instructions["brief"],
        mask=torch.from_numpy(mask)[None],
        target_image=picture(edit.target),
        edit_type=edit.edit_type,
        benchmark="world",
        licence=LICENCE,
        extras=record | extras,
    )


def world_cases(split: str, count: int, *, seed: int = 0) -> list[EditCase]:
    """`count` edits of a split, the ten types in turn. `extras` holds what only a drawn world knows: `changed`,
    `protected`,
    `before` (attributes), `gap`, `instructions` by tone and `questions` with answers.

    Raises:
        InputError: for an unknown split or a count below 1.
    """
    if split not in SPLITS:
        raise InputError("world split", found=repr(split), expected=f"one of {', '.join(SPLITS)}")
    if count < 1:
        raise InputError("number of world cases", found=count, expected="at least 1")
    return [
        as_case(
            edit, f"world-{split}-{seed}-{index:05d}", edit.mask(),
            instructions=edit.instructions, questions=edit.questions(),
        )
        for index, edit in enumerate(sample_edits(split, count, seed=seed))
    ]  # fmt: skip
