"""What there is to edit: one case, and batches of cases of equal size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lib.core.errors import InputError


@dataclass(frozen=True, eq=False)
class EditCase:
    """One edit. Nothing but id, image and target prompt is presumed present."""

    id: str
    image: Tensor  # [3, H, W] float32 in [0, 1]
    target_prompt: str
    source_prompt: str | None = None
    instruction: str | None = None
    mask: Tensor | None = None  # [1, H, W] bool, True = may change
    target_image: Tensor | None = None  # [3, H, W], where the right answer is known
    edit_type: int | None = None  # PIE-Bench's 0-9
    benchmark: str = ""
    licence: str = ""
    extras: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Batch:
    """Cases of equal image size, in order; row i of every tensor belongs to `cases[i]`."""

    ids: tuple[str, ...]
    image: Tensor  # [B, 3, H, W]
    mask: Tensor | None  # [B, 1, H, W], or None unless every case has one
    source_prompt: tuple[str | None, ...]
    target_prompt: tuple[str, ...]
    cases: tuple[EditCase, ...]

    def __len__(self) -> int:
        return len(self.cases)


def collate(cases: Sequence[EditCase]) -> Batch:
    """Make one batch, in the order given. InputError if there is no case or the sizes differ."""
    if not cases:
        raise InputError("batch", found="no case", expected="at least one")
    first = cases[0]
    for case in cases:
        if case.image.shape != first.image.shape:
            expected = f"{list(first.image.shape)} as in {first.id}"
            raise InputError(f"case {case.id}", found=f"an image of {list(case.image.shape)}", expected=expected)
        if case.mask is not None and case.mask.shape != (1, *case.image.shape[1:]):
            expected = f"{[1, *case.image.shape[1:]]} to fit its image"
            raise InputError(f"case {case.id}", found=f"a mask of {list(case.mask.shape)}", expected=expected)
    masks = [case.mask for case in cases if case.mask is not None]
    return Batch(
        ids=tuple(case.id for case in cases),
        image=torch.stack([case.image for case in cases]),
        mask=torch.stack(masks) if len(masks) == len(cases) else None,
        source_prompt=tuple(case.source_prompt for case in cases),
        target_prompt=tuple(case.target_prompt for case in cases),
        cases=tuple(cases),
    )


def form_batches(cases: Sequence[EditCase], size: int) -> list[Batch]:
    """Cut the cases into batches of at most `size`, grouped by image size, in the order of their ids.

    Which cases share a batch depends on the set of cases alone, never on the order given: kernels round differently at
    other batch shapes. InputError if an id occurs twice.
    """
    if size < 1:
        raise InputError("batch size", found=size, expected="1 or more")
    ordered = sorted(cases, key=lambda case: (tuple(case.image.shape), case.id))
    seen: set[str] = set()
    for case in ordered:
        if case.id in seen:
            raise InputError("case ids", found=f"{case.id!r} more than once", expected="unique ids")
        seen.add(case.id)
    groups: dict[tuple[int, ...], list[EditCase]] = {}
    for case in ordered:
        groups.setdefault(tuple(case.image.shape), []).append(case)
    return [collate(group[i : i + size]) for group in groups.values() for i in range(0, len(group), size)]
