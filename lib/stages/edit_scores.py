"""The scores of a finished editing run (lib/stages/edit.py), in its folder.

    scores.parquet        one row per case and score: case, arm, seed, metric, value, stratum (the edit type), extractor
    summary.csv           one row per score: mean with its 95 % BCa interval within edit types, and how many it is of

Scores are those of `lib.metrics.tables`, in namespaces that never mix; without a namespace are what the world's parser
reads, and NFE. A value that is not there (NaN) is dropped and counted as `missing`; one that is infinite makes the mean
so, and `finite_mean`, `low` and `high` are without it. Scores of the set of all images, `set/...`, have no interval.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib.core.errors import InputError
from lib.core.paths import MODELS

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from lib.bench.cases import EditCase
    from lib.metrics.extractors import ImageEncoder
    from lib.metrics.score import Parser
    from lib.metrics.tables import Extractors

DEFAULT, NONE = "default", "none"  # of a judge's name
CHUNK, PIXELS = 64, 2**21  # images, and pixels, that are read and scored at once
COLUMNS = ("case", "arm", "seed", "metric", "value", "stratum", "extractor")
SUMMARY = (
    *("arm", "metric", "mean", "low", "high", "median", "finite_mean", "n", "missing", "infinite"),
    *("unit", "direction", "extractor"),
)


def score_run(
    out: Path,
    folder: str | None,
    namespace: str,
    judges: Mapping[str, str],
    *,
    sets: str | None = None,
    device: str = "cpu",
) -> int:
    """Score a finished run with the cases that its run.json names; how many were scored. A folder is told anew.

    `judges` are names by judge, DEFAULT and NONE among them; of the defaults only those are opened that a score of the
    namespace looks through.
    """
    from lib.bench.registry import open_benchmark
    from lib.editors.run_folder import asked
    from lib.metrics.judges import PUBLISHED, WORLD, judges_for, open_extractors
    from lib.metrics.tables import NAMESPACES

    run = asked(out)
    world = run["benchmark"] == "world"
    parser = None
    if world:
        from lib.learning.parser import load_parser

        parser = load_parser(MODELS / "parser")
    namespaces = NAMESPACES if namespace == "both" else (namespace,)
    defaults = {
        judge: name for judge, name in (WORLD if world else PUBLISHED).items() if judge in judges_for(namespaces)
    }
    named = {judge: name for judge, name in judges.items() if name not in (DEFAULT, NONE)}
    named |= {judge: name for judge, name in defaults.items() if judges.get(judge, DEFAULT) == DEFAULT}
    cases = open_benchmark(run["benchmark"], folder=folder, split=run["split"], count=run["count"])
    return score_folder(out, cases, parser, namespaces, open_extractors(named, device), sets=_set_judge(sets, device))


def score_folder(
    out: Path,
    cases: Sequence[EditCase],
    parser: Parser | None = None,
    namespaces: Sequence[str] = ("pie_official", "strict"),
    extractors: Extractors | None = None,
    *,
    sets: ImageEncoder | str | None = None,
) -> int:
    """Read the images of a finished run back, score each against its case, write both tables; how many were scored.

    Rows in the order of the ids, then of the metrics; failures have none. `sets` is what embeds images for the scores
    of the whole set, the string "clip" for the encoder of `extractors`.
    InputError if something of the run is missing, if `cases` are not those of the run, or if an image was made from
    another source or prompt than its case has.
    """
    import pandas as pd

    from lib.editors.run_folder import merge
    from lib.editors.shards import identified
    from lib.metrics.tables import Extractors

    rows = merge(out)
    places = {case_id: place for place, (case_id, _) in enumerate(identified(cases))}
    if strangers := sorted(set(places) ^ {row["case"] for row in rows}):
        found = f"{len(strangers)} that are in one but not in the other, {strangers[0]} to begin with"
        raise InputError(f"cases to score the run in {out}", found=found, expected="the cases that were edited")
    extractors = extractors or Extractors()
    if sets == "clip" and extractors.clip is None:
        raise InputError("scores of the set by clip", found="no clip judge", expected="one")
    sets = extractors.clip if sets == "clip" else sets
    done = [row for row in rows if row["status"] == "done"]
    table: list[dict[str, Any]] = []
    features: dict[str, list[Tensor]] = {}
    for chunk in _chunks(done, lambda case_id: cases[places[case_id]]):
        table += _score_chunk(out, chunk, parser, namespaces, extractors, sets, features)
    frame = pd.DataFrame(table, columns=COLUMNS).astype({"value": "float64", "stratum": "Int64"})
    lines = summary(frame, features, sets)
    _whole(out / "scores.parquet", lambda path: _write_parquet(frame, path))
    _whole(out / "summary.csv", lambda path: lines.to_csv(path, index=False, float_format="%.10g", lineterminator="\n"))
    return len(done)


def summary(
    frame: pd.DataFrame, features: Mapping[str, Sequence[Tensor]], sets: ImageEncoder | None = None
) -> pd.DataFrame:
    """One row per arm and score of a scores table, columns SUMMARY, in the tables' order; scores of the set follow.

    `features` holds what `lib.metrics.distribution.score_sets` takes, in parts; `sets` is the network that they are of.
    """
    import pandas as pd
    import torch

    from lib.metrics.distribution import SETS, score_sets
    from lib.metrics.tables import PLAIN, TABLE, aggregate
    from lib.stats.bootstrap import mean_interval

    order = [*TABLE, *PLAIN]
    lines = sorted(aggregate(frame.to_dict("records")).to_dict("records"), key=lambda line: order.index(line["metric"]))
    for line in lines:
        own = frame[(frame["arm"] == line["arm"]) & (frame["metric"] == line["metric"])]
        finite = own[own["value"].abs() < float("inf")].groupby("case").agg({"value": "mean", "stratum": "first"})
        strata = finite["stratum"].fillna(-1).tolist()
        found = mean_interval(finite["value"].to_numpy(), strata)
        row = TABLE.get(line["metric"])
        unit, direction = (row.unit, row.direction) if row else PLAIN[line["metric"]]
        line |= {"low": found.low, "high": found.high, "unit": unit, "direction": direction}
        line["extractor"] = own["extractor"].iloc[0]
    if features:
        joined = {name: torch.cat(parts) for name, parts in features.items()}
        for one in score_sets(**joined, arm=frame["arm"].iloc[0], extractor=sets.name):
            row, value = SETS[one["metric"]], one["value"]
            numbers = {"mean": value, "finite_mean": value, "missing": 0, "infinite": 0}
            lines.append(one | numbers | {"unit": row.unit, "direction": row.direction})
    return pd.DataFrame(lines, columns=SUMMARY)


def _chunks(
    done: Sequence[Mapping[str, str]], read: Callable[[str], EditCase]
) -> Iterator[list[tuple[Mapping[str, str], EditCase]]]:
    """Results with their cases, in order, as many at a time as fit: of one size, at most CHUNK, at most PIXELS."""
    chunk: list[tuple[Mapping[str, str], EditCase]] = []
    for row in done:
        case = read(row["case"])
        shape = case.image.shape
        if chunk and (
            shape != chunk[0][1].image.shape or len(chunk) >= min(CHUNK, max(1, PIXELS // (shape[1] * shape[2])))
        ):
            yield chunk
            chunk = []
        chunk.append((row, case))
    if chunk:
        yield chunk


def _score_chunk(
    out: Path,
    chunk: Sequence[tuple[Mapping[str, str], EditCase]],
    parser: Parser | None,
    namespaces: Sequence[str],
    extractors: Extractors,
    sets: ImageEncoder | None,
    features: dict[str, list[Tensor]],
) -> list[dict[str, Any]]:
    """The rows of results of one size, by case; what the scores of the set need goes into `features`."""
    import torch

    from lib.bench.cases import collate
    from lib.core.images import load_image, read_recipe
    from lib.editors.run import Edited
    from lib.metrics.score import score
    from lib.metrics.tables import PLAIN, score_batch

    results, there = [], [case for _, case in chunk]
    for row, case in chunk:
        made_by = read_recipe(out / row["file"])
        _check_origin(made_by, case, out)
        results.append(Edited(case.id, load_image(out / row["file"]), float(row["nfe"]), None, made_by))
    found = [row for row in score(results, there, parser) if row["metric"] in PLAIN]
    batch, edited = collate(there), torch.stack([one.image for one in results])
    named = {"arm": results[0].recipe["editor"], "seed": results[0].recipe["seed"]}
    for namespace in namespaces:
        found += score_batch(batch, edited, namespace, extractors, **named)
    found += [{"case": one.case_id, **named, "metric": "nfe", "value": one.nfe} for one in results]
    if sets is not None:
        right = [case.image if case.target_image is None else case.target_image for case in there]
        features.setdefault("features", []).append(sets.embed_images(edited).cpu())
        features.setdefault("reference", []).append(sets.embed_images(torch.stack(right)).cpu())
        if hasattr(sets, "class_logits"):
            features.setdefault("logits", []).append(sets.class_logits(edited).cpu())
    return [
        {"extractor": ""} | row | {"stratum": case.edit_type}
        for case in there
        for row in found
        if row["case"] == case.id
    ]


def _set_judge(name: str | None, device: str) -> ImageEncoder | str | None:
    """What `score_folder` takes for the scores of the set."""
    if name != "inception":
        return name
    from lib.metrics.extractors import inception_features

    return inception_features(device)


def _write_parquet(frame: pd.DataFrame, path: Path) -> None:
    """The same bytes for the same rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrow = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
    pq.write_table(arrow, path, compression="zstd", store_schema=False)


def _whole(path: Path, write: Callable[[Path], None]) -> None:
    """The file whole or not at all; halves that a killed process left are swept away. InputError if it cannot be."""
    for half in path.parent.glob(f".{path.stem}.*{path.suffix}"):
        half.unlink(missing_ok=True)
    beside = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        write(beside)
        beside.replace(path)
    except OSError as error:
        raise InputError(f"file {path}", found=error.strerror or error, expected="a place to write to") from error
    finally:
        beside.unlink(missing_ok=True)


def _check_origin(made_by: Mapping[str, Any], case: EditCase, out: Path) -> None:
    from lib.core.recipe import hash_tensor

    wanted = {"case": case.id, "target_prompt": case.target_prompt, "source_hash": hash_tensor(case.image)}
    for name, value in wanted.items():
        if made_by.get(name) != value:
            thing = f"{name} of case {case.id!r} in {out}"
            raise InputError(thing, found=repr(made_by.get(name)), expected=f"{value!r}, as in the benchmark")
