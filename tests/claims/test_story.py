"""What is told of a paper is what its rows say, and the tables say how far the numbers reach."""

from dataclasses import replace

import numpy as np
import pytest

from lib.claims.controls import Shuffled, null_run
from lib.claims.evidence import sample_of
from lib.claims.ledger import load_claims
from lib.claims.power import Reach, reach
from lib.claims.story import above, changes, null_table, reach_table, said_of_null, sizes, told
from lib.claims.verdict import INCONCLUSIVE, SUPPORTED, judge
from tests.claims.planted import claim, evidence, pair, table

FEW = {"resamples": 300, "flips": 999}


def rows():
    values = pair(60) | {"c": pair(60, lift=0.02, seed=0)["a"]}
    claims = [
        claim("x-1-b"), claim("x-1-c", arms=("a", "c")), claim("x-2", direction="lower"),
        claim("x-3", arms=("c", "b")), claim("x-4", kind="equivalence", margin=0.01, arms=("c", "b")),
        claim("x-5", kind="identity", tolerance=9.0), claim("x-6", arms=("a", "gone")),
    ]  # fmt: skip
    there = evidence(table(values))
    reaches = {
        each.id: reach(sample_of(each, there), 4) for each in claims if each.kind != "identity" and each.id != "x-6"
    }
    return judge(claims, there, **FEW), reaches


def test_three_sentences():
    found, reaches = rows()
    assert [row.verdict for row in found] == [
        "supported", "supported", "contradicted", "inconclusive", "inconclusive", "supported", "not tested here",
    ]  # fmt: skip
    text = told(found, reaches)
    held, rest = text.split("\n* **Did not hold**: ")
    against, undecided = rest.split("\n* **Undecided**: ")
    assert held.startswith(
        "* **Held**: 3 of the 6 claims that could be tested (on 60 units, 1 seed):\n    * claim x-1-b ("
    )
    assert held.endswith("\n    * and `x-1-c`")  # the second of number 1
    assert f"(m {found[0].effect:+.3g} [{found[0].ci_low:.3g}, {found[0].ci_high:.3g}], claimed higher)" in held
    assert "claim x-5 (largest" in held
    assert against.startswith("1:\n    * claim x-2 (") and against.endswith(")")
    assert undecided.startswith("2, on 60 units, 1 seed:\n    * claim x-3 (m ")
    assert ", margin ±0.01)\n    * m: the paired SD is " in undecided
    assert f"from {reaches['x-3'].smallest:.3g} on, where {abs(found[3].effect):.3g} was seen" in undecided
    assert f"could show margins of {reaches['x-4'].smallest:.3g} and would need 0.01" in undecided
    assert undecided.endswith("1 of 1 effects seen are smaller than what is found with 80 % power")


def test_nothing_is_said_of_nothing():
    found, reaches = rows()
    assert told(found[-1:], reaches) == "None of its 1 claim could be tested here."
    only = told(found[:1], reaches)
    assert only.endswith("* **Did not hold**: nothing was contradicted.\n* **Undecided**: nothing that was tested.")
    without = told([replace(found[3], effect=None)], reaches)  # curves that do not meet have no effect
    assert without.endswith("**Undecided**: 1, on 60 units, 1 seed:\n    * claim x-3 (no value)")
    assert "**Held**: 0 of the 1 claim that could be tested (on 60 units, 1 seed)." in without


def test_the_remark_on_a_changed_test_is_not_told():
    found, reaches = rows()
    changed = replace(found[0], statement="It is so. (Test changed after the first run.)")
    assert "* It is so (m +" in told([changed], reaches)


def test_sizes():
    found, _ = rows()
    shown = sizes([*found, replace(found[0], n=9, seeds=3)])
    assert shown.to_dict("records") == [
        {"paper": "X", "notebook": "lore/method", "claims": 7, "n (claims)": "9 (1), 60 (6)", "seeds": "1–3"}
    ]
    assert sizes(found[-1:]).empty


def test_the_reach_stands_beside_what_was_seen():
    found, reaches = rows()
    shown = reach_table(found, reaches)
    assert list(shown.index) == ["x-1-b", "x-1-c", "x-2", "x-3", "x-4"]
    assert shown.loc["x-2", "seen (from the margin)"] == pytest.approx(abs(found[2].effect))
    assert shown.loc["x-2", "tests"] == 4 and shown.loc["x-4", "tests"] == 1
    least = replace(found[0], margin=-0.5)
    assert reach_table([least], reaches).loc["x-1-b", "seen (from the margin)"] == pytest.approx(found[0].effect + 0.5)
    assert reach_table(found, {}).empty


def test_changes_are_listed():
    listed = changes(load_claims())
    assert len(listed) == len([each for each in load_claims() if "Changed" in each.note])
    assert any(line.startswith("`syncsde-5`: it was held against ODE inversion's spread") for line in listed)


def shares(name, share, times=500, **of):
    verdicts = np.full(times, INCONCLUSIVE, dtype=object)
    verdicts[: round(share * times)] = SUPPORTED
    return Shuffled(claim(name, **of), 36, np.ones(times), verdicts)


def test_a_claim_that_errs_too_often_is_named_with_the_reason():
    gaps = ["far"] * 9 + ["near"] * 27
    between = {"column": "gap", "levels": ["far", "near"]}
    interaction = sample_of(
        claim("x-2", arms=("a",), between=between), evidence(table({"a": np.arange(36.0)}, gap=gaps))
    )
    found = [shares("x-1", 0.03), shares("x-2", 0.12, arms=("a",), between=between)]
    samples = {"x-2": interaction, "x-1": interaction}
    bound, high = above(found)
    assert bound == pytest.approx(0.05 + 3 * np.sqrt(0.05 * 0.95 / 500))
    assert [each.claim.id for each in high] == ["x-2"]
    said = said_of_null(found, samples)
    assert said.startswith("Of 2 claims × 500 shufflings 7.5% (± 0.8%) are supported and 0.0% contradicted.")
    assert "Supported in more than 7.9% (5 % and three standard errors): `x-2`." in said
    assert "`x-2` (interaction, n = 9 + 27): 12.0%; the smaller level has few cases" in said
    assert said_of_null(found[:1], samples).endswith(
        "No claim is supported in more than 7.9% (5 % and three standard errors)."
    )
    assert null_table(found, samples)["n"].tolist() == ["36", "9 + 27"]
    assert null_table(found, samples)["supported, %"].tolist() == [3.0, 12.0]
    assert null_table([], {}).empty
    assert above([])[1] == []


def test_of_the_real_run():
    there = evidence(table(pair()))
    samples = {"x-1": sample_of(claim(), there)}
    found = null_run(list(samples.values()), times=50, resamples=100, flips=99)
    assert "Of 1 claims × 50 shufflings" in said_of_null(found, samples)


def test_a_reach_without_a_number_is_left_out():
    found, reaches = rows()
    few = {"x-3": Reach(3, float("nan"), 4, float("nan"))}
    assert "four times in five" not in told([found[3]], few)
    assert "four times in five" in told([found[3]], reaches)
