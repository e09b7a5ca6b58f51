"""Run an editor over cases: batches, gradient mode, noise, counting, recipes. The methods know none of this."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from lib.bench.cases import Batch, EditCase, collate, form_batches
from lib.core.errors import InputError
from lib.core.images import check_images, quantise
from lib.core.noise import Noise
from lib.core.recipe import hash_tensor, recipe
from lib.editors.base import Callback, EditResult
from lib.editors.registry import Editor, editor_named, settings_of

if TYPE_CHECKING:
    from lib.backbones.base import Backbone


@dataclass(frozen=True, eq=False)
class Edited:
    """One edited case."""

    case_id: str
    image: Tensor  # [3, H, W] float32 on the CPU, on the 256 levels of a PNG
    nfe: float  # transformer evaluations per image, counted
    settings: Any
    recipe: dict[str, Any]


def run_editor(
    name: str,
    backbone: Backbone,
    cases: Sequence[EditCase],
    settings: Any = None,
    *,
    seed: int = 0,
    batch_size: int = 32,
    callback: Callback | None = None,
    progress: bool | None = None,
) -> list[Edited]:
    """Edit all cases with the editor of this name; one result per case, in the order of `cases`.

    `settings` is None (the paper's), a mapping of the fields to change, or the editor's own dataclass. The callback
    gets (t, latents [B, C, h, w]) after every step of every batch. `progress` shows a bar: None only on a terminal.
    Results depend on case, seed and settings; on the number and order of cases only as far as kernels round differently
    at another batch shape, which happens only when a size has fewer than `batch_size` cases in all.
    Raises InputError for an unknown editor or setting, a case that lacks what the editor needs, or a bad image;
    RuntimeError if the transformer evaluations counted are not those that the editor's formula gives.
    """
    return run_row(
        editor_named(name),
        backbone,
        cases,
        settings,
        seed=seed,
        batch_size=batch_size,
        callback=callback,
        progress=progress,
    )


def run_row(
    editor: Editor,
    backbone: Backbone,
    cases: Sequence[EditCase],
    settings: Any = None,
    *,
    seed: int = 0,
    batch_size: int = 32,
    callback: Callback | None = None,
    progress: bool | None = None,
) -> list[Edited]:
    """`run_editor` for a row of any table (the anchors have their own)."""
    settings = settings_of(editor, settings)
    for case in cases:
        check_case(editor, case)
    done: dict[str, Edited] = {}
    bar = tqdm(total=len(cases), desc=editor.name, unit="image", disable=None if progress is None else not progress)
    with bar:
        for batch, real in padded_batches(cases, batch_size):
            edited = edit_batch(editor, backbone, batch, real, settings, seed=seed, callback=callback)
            done.update({one.case_id: one for one in edited})
            bar.update(real)
    return [done[case.id] for case in cases]


def edit_batch(
    editor: Editor,
    backbone: Backbone,
    batch: Batch,
    real: int,
    settings: Any,
    *,
    seed: int = 0,
    callback: Callback | None = None,
) -> list[Edited]:
    """The first `real` cases of a batch, edited; the others are padding, which nobody gets to see.

    `settings` is the editor's own dataclass. Raises as `run_batch` does.
    """
    watcher = None if callback is None else lambda t, x: callback(t, x[:real])
    result = run_batch(editor, backbone, batch, settings, seed=seed, callback=watcher)
    images = quantise(result.image[:real].detach().float().cpu())
    return [
        Edited(
            case.id,
            image,
            result.nfe,
            settings,
            recipe(
                editor=editor.name,
                settings=settings,
                case_id=case.id,
                source_prompt=case.source_prompt,
                target_prompt=case.target_prompt,
                seed=seed,
                source_hash=hash_tensor(case.image),
                backbone_hash=backbone.hash,
            ),
        )
        for case, image in zip(batch.cases[:real], images, strict=True)
    ]


def run_batch(
    editor: Editor, backbone: Backbone, batch: Batch, settings: Any, *, seed: int = 0, callback: Callback | None = None
) -> EditResult:
    """One batch in the right gradient mode, its noise keyed by case, its transformer evaluations checked."""
    check_images(batch.image, "source images")
    mode = torch.enable_grad() if editor.needs_gradients else torch.inference_mode()
    with mode, backbone.count() as counter:
        noise = Noise(batch.ids, seed)
        result = editor.run(backbone, batch, settings, noise=noise, callback=callback)
        formula, counted = editor.nfe(backbone, settings, result.latents), counter.per_image(len(batch))
    if abs(counted - formula) > 1e-6:
        message = f"{editor.name}: counted {counted:g} transformer evaluations per image, its formula gives {formula:g}"
        raise RuntimeError(message)
    check_images(result.image.detach().float(), f"images edited by {editor.name}")
    return replace(result, nfe=counted)


def padded_batches(cases: Sequence[EditCase], size: int) -> list[tuple[Batch, int]]:
    """Batches with the number of real cases in each.

    Where the cases of one image size fill more than one batch, the last is filled up by repeating its last case: then
    all of that size run at one batch shape, and their results do not depend on how many there are.
    """
    batches = form_batches(cases, size)
    batches_of = [batch.image.shape[1:] for batch in batches]
    out = []
    for batch in batches:
        real = len(batch)
        if real < size and batches_of.count(batch.image.shape[1:]) > 1:
            batch = collate([*batch.cases, *[batch.cases[-1]] * (size - real)])
        out.append((batch, real))
    return out


def check_case(editor: Editor, case: EditCase) -> None:
    """Raise InputError, naming the case, if it lacks what the editor needs."""
    if not case.target_prompt.strip():
        raise InputError(
            f"target prompt of case {case.id!r}", found="an empty prompt", expected="what the image shall show"
        )
    needed = {
        "source prompt": (editor.needs_source_prompt, case.source_prompt),
        "mask": (editor.needs_mask, case.mask),
        "target image": (editor.needs_target_image, case.target_image),
    }
    for thing, (needs, value) in needed.items():
        if needs and value is None:
            raise InputError(f"{thing} of case {case.id!r}", found="none", expected=f"one, which {editor.name!r} needs")
