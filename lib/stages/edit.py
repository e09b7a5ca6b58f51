"""Edit a benchmark: python -m lib.stages.edit --editor flowedit --benchmark world --backbone models/tiny-flux --out F

The same command again goes on where the last one was stopped; under `accelerate launch` the processes share the work.
What lies in the folder: lib/editors/run_folder.py. With --score, scores.parquet and summary.csv too:
lib/stages/edit_scores.py.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from lib.core.errors import InputError, PalimpsestError
from lib.core.paths import resolve
from lib.editors.arguments import read_settings
from lib.stages.edit_scores import DEFAULT, NONE, score_run

JUDGES = {  # option: what it judges
    "clip": "images and prompts: NAME, ARCHITECTURE:WEIGHTS of open_clip, or a folder",
    "dino": "structure: NAME or a folder",
    "lpips": "perceptual distance: squeeze, alex or vgg",
    "identity": "whether it is still the same thing: NAME or a folder",
}
FAILURES = 3  # exit code: everything is accounted for, but some cases could not be edited
# Who tells a process which one it is: torchrun (`accelerate launch --multi_gpu`), MPICH, Open MPI.
RANK = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK")
PROCESSES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE")
LOCAL_RANK = ("LOCAL_RANK", "MPI_LOCALRANKID", "OMPI_COMM_WORLD_LOCAL_RANK")


def main(arguments: list[str] | None = None) -> int:
    """Command line. 0: all well; 2: a bad argument or folder; 3: some cases are listed failures."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.editor and (absent := [f"--{name}" for name in ("benchmark", "backbone") if not vars(given)[name]]):
        parser.error(f"--editor needs {' and '.join(absent)}")
    if not (given.editor or given.merge or given.score or given.retry):
        parser.error("nothing to do: give --editor, or --merge, --score or --retry for a run that is there")
    try:
        return run(given)
    except PalimpsestError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def run(given: argparse.Namespace) -> int:
    """Do what was asked for, in this order: forget failures, edit, merge, score. Returns the exit code."""
    from lib.editors.run_folder import forget_failures, merge, unfinished

    out, (rank, processes) = resolve(given.out), place_among_processes(os.environ)
    if given.retry:
        if processes > 1:
            found = f"{processes} processes"
            raise InputError("--retry", found=found, expected="one, before the others are started")
        print(f"batches to be tried again: {forget_failures(out)}")
    if given.editor or given.score:
        import torch

        torch.set_num_threads(given.threads)  # else the launcher's choice, and with it the rounding
    if given.editor:
        edit(given, out, rank, processes)
        if processes > 1 and (left := unfinished(out)):
            print(f"process {rank} of {processes} is done; others have {len(left)} batches to go")
            return 0  # another code would make the launcher end the others
    if not (given.editor or given.merge or given.score):
        return 0
    rows = merge(out)
    failed = [row for row in rows if row["status"] == "failed"]
    print(f"{len(rows)} cases expected = {len(rows) - len(failed)} edited + {len(failed)} failed; see results.csv")
    for row in failed[:5]:
        print(f"failed: {row['case']}: {row['reason']}", file=sys.stderr)
    if given.score:
        judges = {judge: getattr(given, judge) for judge in JUDGES}
        scored = score_run(out, given.folder, given.namespace, judges, sets=given.sets, device=_device() or "cpu")
        seen = "see scores.parquet and summary.csv"
        print(f"{len(rows)} cases expected = {scored} scored + {len(failed)} failed; {seen}")
    return FAILURES if failed else 0


def edit(given: argparse.Namespace, out: Path, rank: int, processes: int) -> None:
    """Edit this process's share of the batches."""
    import torch

    from lib.backbones.load import load_backbone
    from lib.bench.registry import open_benchmark
    from lib.editors.anchors import ANCHORS
    from lib.editors.registry import EDITORS, row_named, settings_of
    from lib.editors.shards import edit_shards

    editor = row_named(EDITORS | ANCHORS, given.editor, "editor")
    settings = settings_of(editor, read_settings(given.settings))
    split = given.split or "test"
    cases = open_benchmark(given.benchmark, folder=given.folder, split=split, count=given.count)
    backbone = load_backbone(
        given.backbone,
        device=_device(),
        dtype=getattr(torch, given.dtype) if given.dtype else None,
        guidance_mode=given.guidance_mode,
        offload=given.offload,
    )
    edit_shards(
        editor,
        backbone,
        cases,
        settings,
        out,
        about={"benchmark": given.benchmark, "split": split, "count": given.count},
        seed=given.seed,
        batch_size=given.batch_size,
        rank=rank,
        processes=processes,
    )


def place_among_processes(environment: Mapping[str, str]) -> tuple[int, int]:
    """(rank, number of processes) as the launcher left them in the environment; (0, 1) without one."""
    rank, processes = _number(environment, RANK, 0), _number(environment, PROCESSES, 1)
    if not 0 <= rank < processes:
        raise InputError("rank of this process", found=f"{rank} of {processes}", expected="0 to one less than all")
    return rank, processes


def _number(environment: Mapping[str, str], names: Sequence[str], default: int) -> int:
    for name in names:
        if name in environment:
            if not environment[name].isdecimal():
                raise InputError(f"environment variable {name}", found=repr(environment[name]), expected="a number")
            return int(environment[name])
    return default


def _device() -> str | None:
    """This process's GPU if there is one."""
    import torch

    there = torch.cuda.device_count()
    return f"cuda:{_number(os.environ, LOCAL_RANK, 0) % there}" if there else None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lib.stages.edit",
        description="Edit a benchmark into a folder; the same command again goes on where it was stopped.",
        epilog="Exit codes: 0 all well, 2 a bad argument or folder, 3 some cases failed (results.csv lists them). "
        "Many processes: accelerate launch --multi_gpu --num_processes N -m lib.stages.edit ...",
    )
    whole = {"type": _whole, "metavar": "N"}
    parser.add_argument("--out", required=True, help="the folder of the run, of its own; runs/edits/NAME, say")
    parser.add_argument("--editor", help="an editor or an anchor; an unknown name lists them")
    parser.add_argument("--benchmark", help="world, photos, pie-bench, ...; an unknown name lists them")
    parser.add_argument("--folder", help="where the benchmark lies, if it is read from disk")
    parser.add_argument("--split", help="of the world (default: test)")
    parser.add_argument("--count", **whole, help="number of cases (default: the benchmark's own)")
    parser.add_argument("--backbone", help="a folder or a hub name")
    parser.add_argument("--guidance-mode", default="auto", help="auto, distilled or classifier-free (default: auto)")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), help="default: that of the device")
    parser.add_argument("--offload", action="store_true", help="keep only the part at work on the GPU")
    parser.add_argument("--settings", nargs="*", default=[], metavar="KEY=VALUE", help="default: the paper's")
    parser.add_argument("--seed", type=int, default=0, help="of the noise (default: 0)")
    parser.add_argument("--batch-size", default=32, **whole, help="default: 32")
    many = "per process, on a CPU; another number rounds differently, so set it to compare bytes (default: 1)"
    parser.add_argument("--threads", default=1, **whole, help=many)
    parser.add_argument("--merge", action="store_true", help="only check that nothing is missing and write results.csv")
    parser.add_argument("--score", action="store_true", help="score the results, after editing or by itself")
    spaces = ("strict", "pie_official", "both")
    parser.add_argument("--namespace", choices=spaces, default="both", help="of the scores (default: both)")
    for judge, what in JUDGES.items():
        default = f"default: the world's own, or the published one elsewhere; {NONE} leaves it out"
        parser.add_argument(f"--{judge}", default=DEFAULT, metavar="NAME", help=f"judge of {what} ({default})")
    sets = ("clip", "inception")
    parser.add_argument("--sets", choices=sets, help="scores of the whole set too (FID, KID), by features of this")
    parser.add_argument("--retry", action="store_true", help="forget the failures, so that they are tried again")
    return parser


def _whole(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}; expected a whole number of 1 or more")
    return int(text)


if __name__ == "__main__":
    from lib.stages.publish import die_with_parent

    die_with_parent()
    sys.exit(main())
