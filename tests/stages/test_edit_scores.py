"""The scores of a run folder, made here without a model: both tables, every count, and the judges that they name."""

import math
from dataclasses import replace

import pandas as pd
import pytest
import torch

from lib.bench.cases import EditCase
from lib.bench.world import world_cases
from lib.core.errors import InputError
from lib.core.paths import ROOT
from lib.core.recipe import hash_tensor
from lib.editors.run import Edited
from lib.editors.run_folder import begin, merge, write_batch, write_plan
from lib.metrics import judges as shipped
from lib.metrics.distribution import SETS, fid
from lib.metrics.judges import PUBLISHED, WORLD, open_extractors
from lib.metrics.tables import PLAIN, TABLE, Extractors
from lib.stages import edit_scores
from lib.stages.edit import main
from lib.stages.edit_scores import DEFAULT, SUMMARY, score_folder, score_run
from lib.stats.bootstrap import mean_interval
from tests.metrics.test_extractors import Pooled, TwoConvs, TwoLayerKeys

needs_models = pytest.mark.skipif(
    not all((ROOT / folder).is_dir() for folder in WORLD.values()),
    reason="models/ is empty: python -m lib.stages fetch",
)
JUDGES = Extractors(perceptual=TwoConvs(), keys=TwoLayerKeys(), clip=Pooled(), identity=Pooled())
PSNR = "pie_official/psnr_unedit_part"


class Reads:
    """A parser that always reads the same."""

    def read(self, images):
        return [{"background": "red"} for _ in images]


def made(out, cases, images, failures=None, **asked):
    """The folder of a finished run of one batch: `images` by case id; `failures` has the reason of each other case."""
    begin(out, {"seed": 4, "cases": len(cases), "benchmark": "world", "split": "test", "count": len(cases)} | asked)
    ids = sorted(case.id for case in cases)
    write_plan(out, [ids], {})
    edited = []
    for case in cases:
        if case.id in images:
            origin = {"case": case.id, "target_prompt": case.target_prompt, "source_hash": hash_tensor(case.image)}
            edited.append(Edited(case.id, images[case.id], 12.0, None, origin | {"editor": "pencil", "seed": 4}))
    write_batch(out, 0, ids, edited, failures or {})
    return out


def answers(cases):
    return {case.id: case.target_image for case in cases}


@pytest.fixture(scope="module")
def cases():
    return world_cases("test", 20)


@pytest.fixture(scope="module")
def run(cases, tmp_path_factory):
    """A run whose results are the right answers, scored; one case failed, one result is its source."""
    images = answers(cases) | {cases[6].id: cases[6].image}
    del images[cases[9].id]
    out = made(tmp_path_factory.mktemp("run") / "run", cases, images, {cases[9].id: "out of memory"})
    assert score_folder(out, cases, Reads(), extractors=JUDGES) == 19
    return out


def read(out):
    return pd.read_parquet(out / "scores.parquet"), pd.read_csv(out / "summary.csv").set_index("metric")


def test_every_case_is_scored_or_a_listed_failure(run, cases):
    scores, summary = read(run)
    failed = {row["case"]: row["reason"] for row in merge(run) if row["status"] == "failed"}
    assert failed == {cases[9].id: "out of memory"}
    assert set(scores["case"]) == {case.id for case in cases} - set(failed)
    assert list(scores["case"].drop_duplicates()) == sorted(set(scores["case"]))
    assert set(scores["metric"]) == set(summary.index) == {*TABLE, *PLAIN}
    assert (summary["n"] + summary["missing"]).loc["strict/clip_t"] == 19
    assert not scores.duplicated(["case", "arm", "seed", "metric"]).any()
    assert set(scores["arm"]) == {"pencil"} and set(scores["seed"]) == {4}


def test_the_summary_is_the_mean_over_cases_with_its_interval(run):
    scores, summary = read(run)
    assert list(summary.reset_index().columns.sort_values()) == sorted(SUMMARY)
    assert [*summary.index] == [*TABLE, *PLAIN]
    for metric in ("strict/clip_t", "strict/background_psnr", "attribute_accuracy", "nfe"):
        own = scores[scores["metric"] == metric].dropna(subset=["value"])
        found, line = mean_interval(own["value"].to_numpy(), own["stratum"].tolist()), summary.loc[metric]
        assert line[["mean", "low", "high"]].tolist() == pytest.approx([found.value, found.low, found.high], rel=1e-8)
        assert (line["median"], line["n"]) == (pytest.approx(own["value"].median(), rel=1e-8), len(own))
    assert summary.loc["strict/background_psnr", ["unit", "direction"]].tolist() == ["dB", "higher"]
    assert summary.loc["nfe", ["unit", "direction"]].tolist() == ["evaluations", "lower"]
    assert summary.loc["strict/clip_t", "extractor"] == "pooled"
    assert summary.loc["strict/structure_distance", "extractor"] == "two-layer-vit"


def test_what_has_no_value_is_counted_and_what_is_infinite_stays(run):
    scores, summary = read(run)
    values = scores.loc[scores["metric"] == PSNR, "value"]
    assert values.isna().sum() == summary.loc[PSNR, "missing"] > 0  # masks over the whole frame
    assert (values == math.inf).sum() == summary.loc[PSNR, "infinite"] > 0  # nothing changed outside
    assert summary.loc[PSNR, "mean"] == math.inf
    assert summary.loc["strict/background_psnr", "mean"] == 60
    copied = scores[(scores["metric"] == "strict/clip_directional") & scores["value"].isna()]
    assert len(copied) == summary.loc["strict/clip_directional", "missing"] >= 1


@pytest.mark.parametrize("namespace", ["strict", "pie_official"])
def test_one_namespace_alone(cases, tmp_path, namespace):
    score_folder(made(tmp_path / "run", cases[:4], answers(cases[:4])), cases[:4], None, [namespace], JUDGES)
    scores, summary = read(tmp_path / "run")
    assert {metric.split("/")[0] for metric in scores["metric"]} == {namespace, "nfe"}
    assert set(summary.index) == {row.name for row in TABLE.values() if row.namespace == namespace} | {"nfe"}


def test_sizes_and_chunks_do_not_matter(cases, tmp_path, monkeypatch):
    """Two sizes in turns; rows stay in the order of the ids and are those of each case alone."""
    mixed = [case if i % 3 else cut(case) for i, case in enumerate(cases[:8])]
    folders = []
    for name, pixels in (("one", 1), ("some", 2 * 64 * 64), ("all", 2**30)):
        monkeypatch.setattr(edit_scores, "PIXELS", pixels)
        folders.append(made(tmp_path / name, mixed, answers(mixed)))
        assert score_folder(folders[-1], mixed, Reads(), extractors=JUDGES) == 8
    first, *others = (read(folder)[0] for folder in folders)
    for other in others:
        pd.testing.assert_frame_equal(other, first, rtol=1e-5)
    assert list(first["case"].drop_duplicates()) == sorted(case.id for case in mixed)


def cut(case):
    parts = {name: getattr(case, name)[:, :40] for name in ("image", "mask", "target_image")}
    return replace(case, **parts)


def test_a_case_of_little_knowledge_has_few_scores(tmp_path):
    image = torch.rand(3, 48, 48, generator=torch.Generator().manual_seed(0))
    bare = [EditCase(id=f"photo-{i}", image=image, target_prompt="a dog", benchmark="photos") for i in range(2)]
    results = {case.id: 1 - image for case in bare}
    assert score_folder(made(tmp_path / "run", bare, results, benchmark="photos"), bare, None, extractors=JUDGES) == 2
    scores, summary = read(tmp_path / "run")
    lacking = {"mask", "target image", "source prompt"}
    assert set(scores["metric"]) == {name for name, row in TABLE.items() if not lacking & {*row.needs}} | {"nfe"}
    assert scores["stratum"].isna().all()
    assert (summary["n"] == 2).all()


def test_tables_are_whole_or_not_there(cases, tmp_path, monkeypatch):
    out = made(tmp_path / "run", cases[:2], answers(cases[:2]))
    (out / ".scores.1.parquet").write_bytes(b"half")  # a process was killed as it wrote

    def full(frame, path, **_):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pd.DataFrame, "to_csv", full)
        with pytest.raises(InputError, match=r"summary.csv: found No space left on device; expected a place to write"):
            score_folder(out, cases[:2])
    assert not (out / "summary.csv").exists()
    score_folder(out, cases[:2])
    assert not [path.name for path in out.iterdir() if path.name.startswith(".")]


def test_nothing_to_score_gives_empty_tables(cases, tmp_path):
    out = made(tmp_path / "run", cases[:2], {}, {case.id: "out of memory" for case in cases[:2]})
    assert score_folder(out, cases[:2], Reads(), extractors=JUDGES, sets="clip") == 0
    scores, summary = read(out)
    assert scores.empty and summary.empty


def test_scores_of_the_set_follow_the_others(cases, tmp_path):
    images = {case.id: case.image for case in cases[:6]}
    score_folder(made(tmp_path / "run", cases[:6], images), cases[:6], None, extractors=JUDGES, sets="clip")
    summary = read(tmp_path / "run")[1]
    assert [*summary.index][-2:] == ["set/fid", "set/kid"]
    sources, right = (torch.stack([getattr(case, name) for case in cases[:6]]) for name in ("image", "target_image"))
    wanted = fid(Pooled().embed_images(sources), Pooled().embed_images(right))
    line = summary.loc["set/fid"]
    assert line[["mean", "finite_mean"]].tolist() == pytest.approx([wanted] * 2, rel=1e-6)
    assert (line["n"], line["extractor"], line["direction"]) == (6, "pooled", SETS["set/fid"].direction)
    assert math.isnan(line["low"])

    class Classes(Pooled):
        def class_logits(self, images):
            return images.mean(dim=(2, 3))

    score_folder(tmp_path / "run", cases[:6], None, extractors=JUDGES, sets=Classes())
    assert [*read(tmp_path / "run")[1].index][-3:] == list(SETS)
    with pytest.raises(InputError, match="scores of the set by clip: found no clip judge"):
        score_folder(tmp_path / "run", cases[:6], sets="clip")


@needs_models
def test_the_worlds_own_judges_by_the_command(cases, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("lib.learning.parser.load_parser", lambda folder: Reads())
    out = made(tmp_path / "run", cases, answers(cases))
    assert main(["--score", "--out", str(out), "--sets", "clip"]) == 0
    assert "20 cases expected = 20 scored + 0 failed" in capsys.readouterr().out
    scores, summary = read(out)
    assert set(scores["extractor"]) == {"", "tiny-clip", "identity-b"}
    assert summary.loc["strict/clip_i", "mean"] == pytest.approx(1)
    assert summary.loc["set/fid", "mean"] == pytest.approx(0, abs=1e-6)
    without = {name for name, row in TABLE.items() if {"keys", "perceptual", "any words"} & {*row.needs}}
    assert set(scores["metric"]) == {*TABLE, *PLAIN} - without
    own = [case.target_image[None] for case in cases]
    clip = open_extractors({"clip": WORLD["clip"]}).clip
    texts = clip.embed_texts([case.target_prompt for case in cases])
    wanted = (clip.embed_images(torch.cat(own)) * texts).sum(dim=1).mean().item()
    assert summary.loc["strict/clip_t", "mean"] == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize(
    ("benchmark", "namespace", "given", "wanted"),
    [
        ("world", "both", {}, WORLD),
        ("world", "pie_official", {}, {"clip": WORLD["clip"]}),
        ("world", "strict", {"clip": "none", "lpips": "alex"}, {"lpips": "alex", "identity": WORLD["identity"]}),
        ("photos", "both", {}, PUBLISHED),
        ("photos", "pie_official", {"dino": "none"}, {name: PUBLISHED[name] for name in ("clip", "lpips")}),
    ],
)
def test_which_judges_are_opened(tmp_path, monkeypatch, benchmark, namespace, given, wanted):
    opened = {}

    def opening(names, device):
        opened.update(names)
        raise InputError("judge", found="a test", expected="no more than that")

    monkeypatch.setattr("lib.learning.parser.load_parser", lambda folder: Reads())
    monkeypatch.setattr("lib.bench.registry.open_benchmark", lambda *_, **options: [])
    monkeypatch.setattr(shipped, "open_extractors", opening)
    made(tmp_path / "run", [], {}, benchmark=benchmark)
    with pytest.raises(InputError, match="judge: found a test"):
        score_run(tmp_path / "run", None, namespace, dict.fromkeys(shipped.FIELDS, DEFAULT) | given)
    assert opened == wanted


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--clip", "models/none"], "clip judge 'models/none', folder models/none: found no such folder"),
        (["--lpips", "vgg19"], "lpips judge 'vgg19', LPIPS net: found 'vgg19'; expected one of squeeze, alex, vgg"),
        (["--identity", "docs"], "identity judge 'docs', model docs: found "),
    ],
)
def test_a_judge_that_cannot_be_opened_is_one_line(cases, tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.setattr("lib.learning.parser.load_parser", lambda folder: Reads())
    made(tmp_path / "run", cases[:1], answers(cases[:1]))
    bare = ("--clip", "none", "--identity", "none")
    assert main(["--score", "--out", str(tmp_path / "run"), *bare, *arguments]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {words}") and said.count("\n") == 1
    assert not (tmp_path / "run" / "scores.parquet").exists()
