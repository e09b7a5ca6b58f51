"""Arms of different seeds are compared at those that both have, and nothing else changes."""

import numpy as np
import pandas as pd

from lib.claims.even import even, even_samples, judge_evenly
from lib.claims.evidence import Evidence
from lib.claims.verdict import judge
from tests.claims.planted import NOTEBOOK, claim, evidence, pair, table

FEW = {"resamples": 200, "flips": 199}


def uneven():
    """b has one seed, of a has three of which the later two are 9 higher."""
    rows = table(pair(40, lift=0.0), seeds=3)
    rows = rows[(rows["arm"] == "a") | (rows["seed"] == 0)]
    return rows.assign(value=rows["value"] + 9.0 * (rows["seed"] > 0))


def test_arms_are_compared_at_their_common_seeds():
    apart, alike = judge([claim()], evidence(uneven()), **FEW)[0], judge_evenly([claim()], evidence(uneven()), **FEW)[0]
    assert apart.effect > 5.9
    assert abs(alike.effect) < 0.5
    assert (alike.seeds, alike.n, alike.notebook) == (1, 40, NOTEBOOK)


def test_equal_seeds_are_left_alone():
    claims = [claim(), claim("x-2", direction="lower"), claim("x-3", kind="identity", tolerance=1.0)]
    there = evidence(table(pair(40), seeds=3))
    assert judge_evenly(claims, there, **FEW) == judge(claims, there, **FEW)


def test_the_settings_of_a_curve_have_their_seeds_too():
    values = {"a": [0.0], "a@start=0.5": [1.0], "b": [0.5], "b@start=0.5": [1.5], "c": [1.0]}
    rows = pd.concat([table(values, seeds=2), table(values, seeds=2, metric="psnr")], ignore_index=True)
    rows = rows[~((rows["arm"] == "b@start=0.5") & (rows["seed"] == 1))]
    _, there = even([claim(at_equal="psnr", along=["start", "start"])], evidence(rows))
    own = there.tables[f"{NOTEBOOK}: x-1"]
    assert set(own["seed"]) == {0}
    assert set(own["arm"]) == set(values) - {"c"}
    _, there = even([claim()], evidence(rows))  # without curves they do not matter
    assert set(there.tables[f"{NOTEBOOK}: x-1"]["seed"]) == {0, 1}


def test_arms_without_a_common_seed_keep_theirs():
    rows = table({"a": [1.0, 2.0], "b": [1.0, 2.0]}, seeds=2)
    rows = rows[(rows["arm"] == "a") == (rows["seed"] == 0)]
    assert judge_evenly([claim()], evidence(rows), **FEW)[0].n == 2


def test_what_is_missing_is_said_of_the_notebook():
    claims = [claim(arms=("a", "gone")), claim("x-2", metric="clip"), claim("x-3", command="python -m it")]
    rows = judge_evenly(claims, evidence(table(pair())), **FEW)
    assert [row.reason for row in rows] == [
        "the scores of lore/method have no arm gone",
        "the scores of lore/method have no metric clip of arm a",
        "needs weights that are not here: python -m it",
    ]
    assert "runs/lore/method/results.parquet is not there" in judge_evenly([claim()], Evidence({}))[0].reason
    real = evidence(table(pair()), real=frozenset({NOTEBOOK}))
    assert judge_evenly(claims[2:], real, **FEW)[0].verdict == "supported"


def test_samples_are_those_that_are_judged():
    claims = [
        claim(), claim("x-2", arms=("a", "gone")), claim("x-3", kind="identity", tolerance=0.1),
        claim("x-4", command="python -m it"), claim("x-5", kind="equivalence", margin=1.0),
    ]  # fmt: skip
    samples = even_samples(claims, evidence(uneven()))
    assert list(samples) == ["x-1", "x-5"]
    assert samples["x-1"].claim is claims[0]
    row = judge_evenly(claims, evidence(uneven()), **FEW)[0]
    assert np.diff(samples["x-1"].values[:, ::-1], axis=1).mean() == row.effect
