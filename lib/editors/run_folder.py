"""The folder of an editing run: what was asked, what is finished, what came of it.

    run.json              what was asked; another question needs another folder
    plan.json             the ids of each batch, and the cases that cannot be edited, with the reason
    images/<id>.png       edited images, each with its recipe inside
    manifest/<batch>.json hashes, cost and failures of a finished batch, written after its images
    results.csv           one row per case, in the order of the ids, once every case is accounted for
Each file appears whole, by rename. Processes share this folder and nothing else: a dead one holds up no other. What a
killed one had begun to write lies beside its files under hidden names until `merge` sweeps it away.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lib.core.errors import InputError
from lib.core.images import save_png
from lib.editors.run import Edited

COLUMNS = ("case", "seed", "file", "sha256", "nfe", "status", "reason")
SHOWN = 5  # how many of the missing cases an error names
TRIES = 3  # how often a file is written whose half another process took for a dead one's and swept away


def begin(out: Path, asked: Mapping[str, Any]) -> None:
    """Make the folder and say in run.json what is asked (JSON values), or find there that the same was asked before.

    InputError, with nothing written, if something else was asked (the field that differs is named), if run.json is
    damaged, if the folder holds other things or cannot be made.
    """
    asked = json.loads(json.dumps(asked))
    try:
        out.mkdir(parents=True, exist_ok=True)
        there = sorted(path.name for path in out.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise InputError(f"folder {out}", found=error.strerror, expected="a folder to write to") from error
    if (out / "run.json").is_file():
        before, now = _flat(_read_json(out / "run.json")), _flat(asked)
        for name in [*now, *(name for name in before if name not in now)]:
            if before.get(name) != now.get(name):
                found = f"{now.get(name)!r}, where its run.json has {before.get(name)!r}"
                raise InputError(f"{name} of the run in {out}", found=found, expected="the same, or another folder")
    elif there:
        found = f"{', '.join(there[:SHOWN])} and no run.json"
        raise InputError(f"folder {out}", found=found, expected="an empty folder, or that of a run to go on with")
    else:
        _write_json(out / "run.json", asked)


def write_plan(out: Path, batches: Sequence[Sequence[str]], unfit: Mapping[str, str]) -> None:
    """Write plan.json: the ids of each batch without padding, and id -> reason of the cases that are in none."""
    _write_json(out / "plan.json", {"batches": batches, "unfit": unfit})


def write_batch(
    out: Path, number: int, ids: Sequence[str], edited: Sequence[Edited], failures: Mapping[str, str]
) -> None:
    """Write the images of batch `number` and, after them, its manifest. `edited` and `failures` share out its `ids`.

    InputError, with the system's reason, if the folder cannot be written to.
    """
    images = {}
    for one in edited:
        path = out / file_of(one.case_id)
        _whole(path, lambda path=path, one=one: save_png(one.image, path, one.recipe))
        images[one.case_id] = _sha256(path)
    nfe = edited[0].nfe if edited else None
    _write_json(_manifest(out, number), {"images": images, "nfe": nfe, "failures": failures})


def is_finished(out: Path, number: int, ids: Sequence[str]) -> bool:
    """Whether the batch's manifest is whole and about these cases, and every image is the one whose hash it has."""
    manifest = _read_manifest(out, number, ids)
    return manifest is not None and not _damaged(out, manifest)


def unfinished(out: Path) -> list[int]:
    """The numbers of the batches of the plan that are still to be done."""
    batches = _read_json(out / "plan.json", "batches")["batches"]
    return [number for number, ids in enumerate(batches) if not is_finished(out, number, ids)]


def forget_failures(out: Path) -> int:
    """Remove the manifests that list failures, so that the next run tries those batches again; return how many."""
    batches = _read_json(out / "plan.json", "batches")["batches"]
    manifests = {number: _read_manifest(out, number, ids) for number, ids in enumerate(batches)}
    failed = [number for number, manifest in manifests.items() if manifest and manifest["failures"]]
    for number in failed:
        _manifest(out, number).unlink()
    return len(failed)


def merge(out: Path) -> list[dict[str, str]]:
    """Write results.csv and return its rows: every case is done or a listed failure.

    The same bytes however the work was dealt out or interrupted; may be done again at any time, by any process.
    InputError if there is no run, or if cases are missing: the first few are named, with the reason, and counted.
    """
    run = _read_json(out / "run.json", "seed", "cases")
    plan = _read_json(out / "plan.json", "batches", "unfit")
    rows = [_row(case_id, run["seed"], reason=reason) for case_id, reason in plan["unfit"].items()]
    missing = []
    for number, ids in enumerate(plan["batches"]):
        manifest = _read_manifest(out, number, ids)
        if manifest is None:
            missing += [f"{case_id} (batch {number} is not finished)" for case_id in ids]
            continue
        damaged = _damaged(out, manifest)
        missing += [f"{case_id} (its image is gone or damaged)" for case_id in damaged]
        rows += [_row(case_id, run["seed"], reason=reason) for case_id, reason in manifest["failures"].items()]
        rows += [
            _row(case_id, run["seed"], sha256=sha256, nfe=f"{manifest['nfe']:.10g}")
            for case_id, sha256 in manifest["images"].items()
            if case_id not in damaged
        ]
    if missing or len(rows) != run["cases"]:
        named = f": {', '.join(missing[:SHOWN])}{', ...' if len(missing) > SHOWN else ''}"
        found = f"{run['cases'] - len(rows)} of {run['cases']} cases missing{named if missing else ''}"
        expected = "every case done or listed as a failure; the same command again does what is missing"
        raise InputError(f"run in {out}", found=found, expected=expected)
    rows.sort(key=lambda row: row["case"])
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    _write(out / "results.csv", text.getvalue())
    _sweep(out)
    return rows


def asked(out: Path) -> dict[str, Any]:
    """run.json of the run in this folder. InputError if there is none."""
    return _read_json(out / "run.json", "seed", "cases")


def file_of(case_id: str) -> str:
    """Where the image of a case lies in the folder of a run; different for different ids."""
    return f"images/{quote(case_id, safe=' ')}.png"


def _row(case_id: str, seed: int, *, sha256: str = "", nfe: str = "", reason: str = "") -> dict[str, str]:
    status, file = ("failed", "") if reason else ("done", file_of(case_id))
    return dict(zip(COLUMNS, (case_id, str(seed), file, sha256, nfe, status, reason), strict=True))


def _manifest(out: Path, number: int) -> Path:
    return out / "manifest" / f"{number:06}.json"


def _read_manifest(out: Path, number: int, ids: Sequence[str]) -> dict[str, Any] | None:
    """The manifest of a batch, or None if it is missing, damaged or about other cases."""
    try:
        manifest = _read_json(_manifest(out, number), "images", "nfe", "failures")
    except InputError:
        return None
    return manifest if sorted([*manifest["images"], *manifest["failures"]]) == sorted(ids) else None


def _damaged(out: Path, manifest: Mapping[str, Any]) -> list[str]:
    """The cases whose image is not the one that the manifest has."""
    return [case_id for case_id, sha256 in manifest["images"].items() if _sha256(out / file_of(case_id)) != sha256]


def _sha256(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def _flat(record: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    flat = {}
    for name, value in record.items():
        flat |= _flat(value, f"{above}{name}.") if isinstance(value, Mapping) else {above + name: value}
    return flat


def _read_json(path: Path, *keys: str) -> dict[str, Any]:
    """The JSON object in a file. InputError if it is missing, damaged or lacks one of `keys`."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(path, found="no such file", expected="the folder of a run that was begun") from error
    except (OSError, ValueError) as error:
        raise InputError(path, found="unreadable bytes", expected="JSON as the run wrote it") from error
    if not isinstance(record, dict) or not set(keys) <= set(record):
        raise InputError(path, found="something else", expected=f"JSON as the run wrote it, with {', '.join(keys)}")
    return record


def _write_json(path: Path, record: Mapping[str, Any]) -> None:
    _write(path, json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def _write(path: Path, text: str) -> None:
    """Whole or not at all, also while another process writes the same."""
    _whole(path, lambda: _write_once(path, text))


def _write_once(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"prefix": f".{path.name}.", "dir": path.parent, "delete": False, "encoding": "utf-8", "newline": "\n"}
    with tempfile.NamedTemporaryFile("w", **options) as scratch:
        try:
            scratch.write(text)
            scratch.flush()
            os.chmod(scratch.name, 0o644)
            os.replace(scratch.name, path)
        except BaseException:
            Path(scratch.name).unlink(missing_ok=True)
            raise


def _whole(path: Path, write: Callable[[], None]) -> None:
    """Call `write`, which makes a file by rename; again if its half was swept away. InputError if it cannot be made."""
    for left in reversed(range(TRIES)):
        try:
            return write()
        except OSError as error:
            if isinstance(error, FileNotFoundError) and left:
                continue
            raise InputError(f"file {path}", found=error.strerror, expected="a place to write to") from error


def _sweep(out: Path) -> None:
    """Remove the halves that killed processes left. The names of whole files in images/ may begin with a dot too."""
    halves = [out.glob(f".{name}.*") for name in ("run.json", "plan.json", "results.csv")]
    halves += [(out / "manifest").glob(".*"), (path for path in (out / "images").glob(".*") if path.suffix != ".png")]
    for half in (path for group in halves for path in group):
        half.unlink(missing_ok=True)
