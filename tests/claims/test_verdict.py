"""Each kind of claim on evidence with a known answer; the rule; the ledger's file."""

import json
import math

import nbformat
import numpy as np
import pytest

from lib.claims.evidence import Evidence, read_evidence
from lib.claims.ledger import load_claims
from lib.claims.verdict import decide, judge, write_rows
from lib.core.errors import InputError
from lib.core.paths import ROOT
from lib.stats.bootstrap import mean_interval
from lib.stats.paired import Difference
from tests.claims.planted import NOTEBOOK, claim, evidence, pair, table

FEW = {"resamples": 300, "flips": 999}


def verdicts(claims, there):
    return {row.id: row.verdict for row in judge(claims, there, **FEW)}


def one(claimed, *tables, **more):
    return judge([claimed], evidence(*tables, **more), **FEW)[0]


def test_superiority():
    there = evidence(table(pair(), seeds=2))
    claims = [
        claim("x-up"),
        claim("x-down", direction="lower"),
        claim("x-back", arms=("b", "a"), direction="lower"),
        claim("x-far", margin=1.5),
        claim("x-near", margin=0.5),
        claim("x-least", margin=-0.5),
    ]
    assert verdicts(claims, there) == {
        "x-up": "supported",
        "x-down": "contradicted",
        "x-back": "supported",
        "x-far": "contradicted",
        "x-near": "supported",
        "x-least": "supported",
    }
    row = judge(claims, there, **FEW)[0]
    values = pair()
    wanted = mean_interval(values["a"] - values["b"], resamples=300)
    assert (row.effect, row.ci_low, row.ci_high) == pytest.approx((wanted.value, wanted.low, wanted.high))
    assert (row.n, row.seeds, row.notebook) == (60, 2, NOTEBOOK)
    assert one(claim(), table(pair(lift=0.02))).verdict == "inconclusive"
    assert one(claim(arms=("a",), margin=5.0, direction="lower"), table(pair())).verdict == "supported"


def test_a_case_without_a_value_is_counted():
    values = pair()
    values["b"][:7] = np.nan
    row = one(claim(), table(values))
    assert (row.n, row.reason) == (53, "7 without a value")


def test_equal_differences_are_judged_and_said():
    row = one(claim(), table({"a": [1.0] * 12, "b": [0.5] * 12}))
    assert (row.ci_low, row.ci_high, row.verdict) == (0.5, 0.5, "supported")
    assert row.reason == "all units alike: the interval has no width"
    assert one(claim(), table({"a": [1.0] * 12, "b": [1.0] * 12})).verdict == "inconclusive"
    assert one(claim(), table({"a": [1.0], "b": [0.0]})).verdict == "inconclusive"


def test_equivalence():
    def found(lift, margin):
        return one(claim(kind="equivalence", margin=margin), table(pair(lift=lift))).verdict

    assert [found(0.0, 0.5), found(2.0, 0.5), found(0.5, 0.5)] == ["supported", "contradicted", "inconclusive"]
    row = one(claim(kind="equivalence", arms=("a",), margin=9.0), table(pair()))
    assert (row.verdict, row.p_holm) == ("supported", None)


def test_trends():
    generator = np.random.default_rng(0)
    arms = [f"a@start={s}" for s in (0.2, 0.6, 1.0)]
    rising = {arm: level + generator.normal(0.0, 0.3, 40) for arm, level in zip(arms, (1, 2, 3), strict=True)}
    row = one(claim(kind="trend", arms=arms), table(rising))
    assert row.verdict == "supported"
    assert row.effect == pytest.approx(2.5, abs=0.3)  # per unit of the setting
    ranked = one(claim(kind="trend", arms=arms, statistic="spearman", direction="lower"), table(rising))
    assert ranked.verdict == "contradicted"
    assert 0.8 < ranked.effect <= 1.0
    levels = one(claim(kind="trend", arms=arms, levels=[3.0, 2.0, 1.0]), table(rising))
    assert (levels.verdict, levels.effect) == ("contradicted", pytest.approx(-1.0, abs=0.15))


def test_a_trend_across_cases():
    generator = np.random.default_rng(0)
    gap = generator.uniform(size=50)
    drop = gap + 0.2 * generator.normal(size=50)
    there = [table({"a": drop, "b": 0 * drop}), table({"a": gap}, metric="gap")]
    for arms in (("a",), ("a", "b")):
        row = one(claim(kind="trend", arms=arms, across="gap"), *there)
        assert (row.verdict, row.n) == ("supported", 50)
        assert row.effect == pytest.approx(np.corrcoef(drop.argsort().argsort(), gap.argsort().argsort())[0, 1])


def test_curves_at_equal_fidelity():
    generator = np.random.default_rng(0)
    case = 0.1 * generator.normal(size=40)
    x = {"a": 20.0, "a@start=0.5": 16.0, "b": 18.0, "b@start=0.5": 14.0, "b@guidance=2": 40.0}
    lift = {"a": 0.3, "b": 0.0}
    tables = [
        table({arm: at + case for arm, at in x.items()}, metric="psnr"),
        table({arm: lift[arm[0]] - at / 10 + 0.05 * generator.normal(size=40) for arm, at in x.items()}),
    ]
    row = one(claim(at_equal="psnr", along=["start", "start"]), *tables)
    assert row.verdict == "supported"
    assert row.ci_low < 0.3 < row.ci_high
    short = one(claim(at_equal="psnr", along=["start", "eta"]), *tables)
    assert (short.verdict, short.reason) == ("not tested here", "arm b has 1 settings of eta: a curve needs 2")


def test_interactions():
    values = pair(80, lift=0.0)
    values["a"][:40] += 1.0
    gaps = ["far"] * 40 + ["near"] * 40
    between = {"column": "gap", "levels": ["far", "near"]}
    row = one(claim(between=between), table(values, gap=gaps))
    assert (row.verdict, row.n) == ("supported", 80)
    d = values["a"] - values["b"]
    assert row.effect == pytest.approx(d[:40].mean() - d[40:].mean())
    assert one(claim(arms=("a",), between=between), table(values, gap=gaps)).verdict == "supported"
    middle = one(claim(between={"column": "gap", "levels": ["far", "middle"]}), table(values, gap=gaps))
    assert middle.reason == f"no case of {NOTEBOOK} has gap middle"
    assert "no column kind" in one(claim(between={"column": "kind", "levels": ["far", "near"]}), table(values)).reason


def test_identity_looks_at_every_case_and_seed():
    values = {"a": [0.0, 1e-7, 0.0], "b": [0.0, 0.0, 0.0]}
    same = claim(kind="identity", tolerance=1e-6)
    row = one(same, table(values, seeds=2))
    assert (row.verdict, row.effect, row.ci_low, row.n, row.seeds) == ("supported", 1e-7, None, 3, 2)
    off = table(values, seeds=2)
    off.loc[[0, 1], "value"] = [0.1, -0.1]  # the seeds of one case: their average is 0
    assert one(same, off).verdict == "contradicted"
    short = table(values, seeds=2).drop(index=0)  # one case lacks one seed of one arm
    assert one(same, short).reason == "1 without a value"
    alone = claim(kind="identity", arms=("a",), tolerance=1e-8)
    assert one(alone, table(values)).verdict == "contradicted"
    gone = one(same, table({"a": [0.0, np.nan], "b": [0.0, 0.0]}))
    assert (gone.verdict, gone.effect, gone.reason) == ("contradicted", None, "1 without a value")


@pytest.mark.parametrize(
    ("kind", "low", "high", "p", "wanted"),
    [
        ("higher", 0.1, 0.9, 0.05, "supported"),
        ("higher", 0.1, 0.9, 0.051, "inconclusive"),
        ("higher", -0.9, -0.1, 0.01, "contradicted"),
        ("higher", -0.9, -0.1, 0.06, "inconclusive"),
        ("higher", 0.0, 0.9, 0.01, "inconclusive"),
        ("lower", -0.9, -0.1, 0.01, "supported"),
        ("lower", 0.1, 0.9, 0.01, "contradicted"),
        ("lower", math.nan, math.nan, 0.01, "inconclusive"),
        ("higher", 0.1, 0.9, math.nan, "inconclusive"),
    ],
)
def test_the_rule(kind, low, high, p, wanted):
    found = Difference(0.5, low, high, p, 20)
    assert decide(claim(direction=kind), found, p) == wanted


def test_holm_runs_over_the_papers_confirmatory_claims():
    """A weak effect holds alone, and not among many planned tests; other papers and explorations do not count."""
    weak = table(pair(60, lift=0.2, seed=3))
    alone = judge([claim()], evidence(weak), **FEW)[0]
    assert (alone.verdict, alone.p_holm) == ("supported", alone.p)
    others = [claim(f"x-{i}", arms=("a", "gone")) for i in range(2, 6)]
    row = judge([claim(), *others], evidence(weak), **FEW)[0]
    assert row.p_holm == pytest.approx(5 * alone.p)
    assert row.verdict == "inconclusive"
    aside = [
        claim("x-e", arms=("a", "gone"), confirmatory=False),
        claim("y-1", arms=("a", "gone"), paper="Y"),
        claim("x-w", command="on a GPU"),
        claim("x-q", kind="equivalence", arms=("a", "gone"), margin=0.1),
    ]
    assert judge([claim(), *aside], evidence(weak), **FEW)[0].p_holm == alone.p
    explored = judge([*others, claim(confirmatory=False)], evidence(weak), **FEW)[-1]
    assert (explored.p_holm, explored.verdict) == (None, "supported")


def test_what_is_missing_is_said():
    there = table(pair())
    reasons = {
        "arm": one(claim(arms=("a", "gone")), there).reason,
        "metric": one(claim(metric="clip"), there).reason,
        "column": one(claim(strata="type"), there).reason,
        "notebook": judge([claim()], Evidence({}))[0].reason,
        "weights": one(claim(command="python -m it"), there).reason,
        "values": one(claim(), table({"a": [1.0], "b": [math.nan]})).reason,
    }
    assert reasons == {
        "arm": "the scores of lore/method have no arm gone",
        "metric": "the scores of lore/method have no metric clip of arm a",
        "column": "the scores of lore/method have no column type",
        "notebook": "runs/lore/method/results.parquet is not there: dvc repro lore-method",
        "weights": "needs weights that are not here: python -m it",
        "values": "no case has m in all arms",
    }
    apart = table(pair())
    apart["case"] += apart["arm"]
    assert "none in common" in one(claim(), apart).reason


def test_with_weights_the_claim_is_tested():
    row = one(claim(command="python -m it"), table(pair()), real=frozenset({NOTEBOOK}))
    assert (row.verdict, row.p_holm) == ("supported", row.p)


def test_no_claim_is_dropped():
    claims = load_claims()
    for there in (Evidence({}), Evidence({NOTEBOOK: table(pair())})):
        rows = judge(claims, there, **FEW)
        assert [row.id for row in rows] == [each.id for each in claims]
        assert all(row.verdict == "not tested here" and row.reason for row in rows)
        assert [row.statement for row in rows] == [each.statement for each in claims]


def test_the_file_has_four_digits_and_the_same_bytes(tmp_path):
    claims = [claim(value=0.123456), claim("x-2", arms=("a", "gone")), claim("x-3", kind="identity", tolerance=0.1)]
    there = evidence(table(pair()))
    path = write_rows(judge(claims, there, **FEW), tmp_path / "claims" / "claims.json")
    first = path.read_bytes()
    write_rows(judge(claims, there, **FEW), path)
    assert path.read_bytes() == first
    assert [entry.name for entry in path.parent.iterdir()] == ["claims.json"]
    rows = json.loads(first)
    wanted = "id paper kind statement paper_value effect ci_low ci_high n seeds p_holm verdict reason notebook cell"
    assert set(wanted.split()) <= set(rows[0])
    assert rows[0]["paper_value"] == 0.1235
    assert all(float(f"{rows[0][name]:.4g}") == rows[0][name] for name in ("effect", "ci_low", "p_holm"))
    assert (rows[1]["effect"], rows[1]["verdict"]) == (None, "not tested here")
    assert (rows[2]["verdict"], rows[2]["ci_low"]) == ("contradicted", None)


def write_run(folder, rows, backbone):
    folder.mkdir(parents=True)
    rows.to_parquet(folder / "results.parquet")
    notebook = nbformat.v4.new_notebook(metadata={"palimpsest": {"parameters": {"backbone": backbone}}})
    cell = nbformat.v4.new_code_cell(id="cell-007", metadata={"tags": ["claim:x-1"]})
    notebook.cells = [nbformat.v4.new_markdown_cell("hello"), cell]
    nbformat.write(notebook, folder / "executed.ipynb")


def test_evidence_is_read_from_runs(tmp_path):
    write_run(tmp_path / "lore/method", table(pair()), "models/tiny-flux")
    there = read_evidence(["lore/method", "lore/method", "lore/ablation"], tmp_path)
    assert (list(there.tables), there.cells, there.real) == (["lore/method"], {"x-1": "cell-007"}, frozenset())
    assert judge([claim()], there, **FEW)[0].cell == "cell-007"
    write_run(tmp_path / "real/method", table(pair()), "black-forest-labs/FLUX.1-dev")
    assert read_evidence(["real/method"], tmp_path).real == {"real/method"}


@pytest.mark.parametrize("spoil", ["rows", "bytes"])
def test_spoilt_evidence_is_named(tmp_path, spoil):
    write_run(tmp_path / "lore/method", table(pair()).drop(columns="seed"), "models/tiny-flux")
    if spoil == "bytes":
        (tmp_path / "lore/method/results.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"runs/lore/method/results\.parquet"):
        read_evidence(["lore/method"], tmp_path)


def test_the_ledger_names_notebooks_of_this_repository():
    for notebook in {each.test.notebook for each in load_claims()}:
        paper, _, part = notebook.partition("/")
        assert part in ("method", "ablation")
        assert paper in ("flowedit", "syncsde", "lore")
    assert (ROOT / "claims.yaml").is_file()
