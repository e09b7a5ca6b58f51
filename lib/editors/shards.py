"""Editing a benchmark in pieces that survive a kill: the batch is what is dealt out, resumed and, if it must be, lost.

Batches are formed from all cases and dealt out by stride: kernels round differently at other batch shapes, and so the
results are the same for any number of processes. These share a folder (`lib.editors.run_folder`) and nothing else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tqdm.auto import tqdm

from lib.bench.cases import EditCase, collate
from lib.core.errors import InputError
from lib.core.images import check_images, check_masks
from lib.core.recipe import hash_tensor, recipe
from lib.editors.registry import Editor, settings_of
from lib.editors.run import check_case, edit_batch, padded_batches
from lib.editors.run_folder import begin, file_of, is_finished, write_batch, write_plan

if TYPE_CHECKING:
    from lib.backbones.base import Backbone

LONGEST_NAME = 200  # bytes; file systems allow 255, and the name while it is written is longer


@dataclass(frozen=True)
class Plan:
    """What there is to do; the same in every process, whatever the order of the cases."""

    batches: list[tuple[tuple[str, ...], int]]  # ids of each batch with its padding, and how many of them are real
    unfit: dict[str, str]  # case id -> why it cannot be edited
    places: dict[str, int]  # case id -> its place in the sequence of cases
    fingerprint: str  # 16 hex characters over ids, prompts, images, masks and target images


def edit_shards(
    editor: Editor,
    backbone: Backbone,
    cases: Sequence[EditCase],
    settings: Any,
    out: Path,
    *,
    about: Mapping[str, Any],
    seed: int = 0,
    batch_size: int = 32,
    rank: int = 0,
    processes: int = 1,
) -> None:
    """Edit the batches rank, rank + processes, ... of a run and leave them in its folder `out`.

    Batches that are finished there are left alone (a failure counts as finished; `run_folder.forget_failures`), one
    that is missing or damaged is edited. What goes wrong in a batch is listed in its manifest for each of its cases,
    and the next batch goes on. `about` (JSON values) says in run.json where the cases come from. `cases` may read from
    disk when asked for one: no more than a batch is held. A bar with the time left on the terminal of rank 0.
    InputError if `out` holds another run, which is named by the field that differs, if an id occurs twice, or if `out`
    can no longer be written to (a full disk, say): what was finished before stays and counts.
    """
    settings = settings_of(editor, settings)
    plan = plan_batches(editor, backbone, cases, batch_size)
    sizes = {"batch_size": batch_size, "cases": len(plan.places), "cases_hash": plan.fingerprint}
    begin(out, dict(about) | question(editor, backbone, settings, seed) | sizes)
    batches = [ids[:real] for ids, real in plan.batches]
    write_plan(out, batches, plan.unfit)
    mine = range(rank, len(batches), processes)
    left = [number for number in mine if not is_finished(out, number, batches[number])]
    total, to_do = (sum(len(batches[number]) for number in numbers) for numbers in (mine, left))
    silent = True if rank else None  # None: on a terminal only
    with tqdm(total=total, initial=total - to_do, desc=editor.name, unit="image", disable=silent) as bar:
        for number in left:
            ids, real = plan.batches[number]
            edited, failures = [], {}
            try:
                there = {case_id: cases[plan.places[case_id]] for case_id in ids[:real]}
                batch = collate([there[case_id] for case_id in ids])
                edited = edit_batch(editor, backbone, batch, real, settings, seed=seed)
            except Exception as error:  # a model may raise anything; whatever it is, it is listed
                failures = dict.fromkeys(ids[:real], in_brief(error))
            write_batch(out, number, ids[:real], edited, failures)
            bar.update(real)


def plan_batches(editor: Editor, backbone: Backbone, cases: Sequence[EditCase], size: int) -> Plan:
    """Look at every case once, set aside those that cannot be edited, and form the batches of the others.

    Nothing but ids and image sizes goes into the batches: the images are read again when their turn comes.
    """
    fit, unfit, places, digests = [], {}, {}, {}
    for place, (case_id, case) in enumerate(identified(cases)):
        if case_id in places:
            raise InputError("case ids", found=f"{case_id!r} more than once", expected="unique ids")
        places[case_id] = place
        try:
            if isinstance(case, InputError):
                raise case
            digests[case_id] = _digest(case)
            check_fit(editor, backbone, case)
        except InputError as error:
            unfit[case_id] = str(error)
        else:
            outline = torch.empty(case.image.shape, device="meta")
            fit.append(EditCase(id=case_id, image=outline, target_prompt=case.target_prompt))
    batches = [(batch.ids, real) for batch, real in padded_batches(fit, size)]
    listing = json.dumps([(case_id, digests.get(case_id)) for case_id in sorted(places)])
    fingerprint = hashlib.sha256(listing.encode()).hexdigest()[:16]
    return Plan(batches, dict(sorted(unfit.items())), places, fingerprint)


def check_fit(editor: Editor, backbone: Backbone, case: EditCase) -> None:
    """Raise InputError, naming the case, if it cannot be edited: what is found here spoils no batch."""
    if not case.id or len(file_of(case.id)) > LONGEST_NAME:
        raise InputError(f"id of case {case.id[:40]!r}", found=f"{len(case.id)} characters", expected="a file's name")
    check_case(editor, case)
    check_images(case.image[None], f"image of case {case.id!r}")
    if case.mask is not None:
        check_masks(case.mask[None], case.image[None], f"mask of case {case.id!r}")
    if editor.needs_target_image:
        check_images(case.target_image[None], f"target image of case {case.id!r}")
    for prompt in (case.target_prompt, case.source_prompt if editor.needs_source_prompt else ""):
        backbone.check_prompt(prompt)


def question(editor: Editor, backbone: Backbone, settings: Any, seed: int) -> dict[str, Any]:
    """What run.json says of the editor and the backbone: what the recipes of all images have in common, and more."""
    common = recipe(
        editor=editor.name,
        settings=settings,
        case_id="",
        source_prompt=None,
        target_prompt="",
        seed=seed,
        source_hash="",
        backbone_hash=backbone.hash,
    )
    return {name: common[name] for name in ("editor", "settings", "seed", "backbone_hash", "versions")} | {
        "guidance_mode": backbone.guidance_mode,
        "dtype": str(backbone.dtype).removeprefix("torch."),
        "device": backbone.device.type,
    }


def identified(cases: Sequence[EditCase]) -> Iterator[tuple[str, EditCase | InputError]]:
    """Each case with its id; what came instead, and a name from its place, where reading it from disk failed."""
    for place in range(len(cases)):
        try:
            case = cases[place]
        except InputError as error:
            yield f"unread-{place:05}", error
        else:
            yield case.id, case


def in_brief(error: Exception) -> str:
    """The reason in one line."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return "out of memory"  # the message has numbers that change from one run to the next
    if isinstance(error, InputError):
        return str(error)
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words[:200]}"


def _digest(case: EditCase) -> list[str | None]:
    tensors = (case.image, case.mask, case.target_image)
    return [case.source_prompt, case.target_prompt, *(None if x is None else hash_tensor(x) for x in tensors)]
