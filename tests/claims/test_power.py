"""The smallest effect that is said to be found is found as often as is said."""

import math

import numpy as np
import pytest

from lib.claims.evidence import sample_of
from lib.claims.power import family, reach
from lib.claims.verdict import ALPHA, judge
from lib.stats.paired import equivalence_p, sign_flip
from tests.claims.planted import claim, evidence, pair, table
from tests.claims.test_permuted import CLAIMS, there


@pytest.mark.parametrize("tests", [1, 20])
def test_the_smallest_effect_is_found_four_times_in_five(tests):
    generator = np.random.default_rng(0)
    values = pair(60, lift=0.0)
    own = reach(sample_of(claim(), evidence(table(values))), tests)
    assert own.sd == pytest.approx(np.std(values["a"] - values["b"], ddof=1))
    draws = generator.normal(own.smallest, own.sd, (400, 60))
    found = np.mean([sign_flip(draw, flips=1999) * tests <= ALPHA for draw in draws])
    assert found == pytest.approx(0.8, abs=0.08)


def test_more_tests_reach_less_far_and_more_cases_further():
    def smallest(n, tests):
        return reach(sample_of(claim(), evidence(table(pair(n)))), tests).smallest

    assert smallest(60, 1) < smallest(60, 10) < smallest(60, 100)
    assert smallest(240, 10) == pytest.approx(smallest(60, 10) / 2, rel=0.15)


def test_two_equal_arms_keep_the_smallest_margin_four_times_in_five():
    generator = np.random.default_rng(0)
    own = reach(sample_of(claim(kind="equivalence", margin=1.0), evidence(table(pair(60, lift=0.0)))), tests=9)
    assert own.tests == 1
    draws = generator.normal(0.0, own.sd, (400, 60))
    # an interval of 95 % inside the margin is a one-sided p of at most .025 at both of its ends
    assert np.mean([equivalence_p(draw, own.smallest) <= 0.025 for draw in draws]) == pytest.approx(0.8, abs=0.08)


def test_a_correlation_has_no_spread_but_a_reach():
    own = reach(sample_of(CLAIMS["across"], there()), 5)
    assert math.isnan(own.sd) and 0 < own.smallest < 1


@pytest.mark.parametrize("name", ["curves", "interaction", "slope"])
def test_spread_over_the_root_of_n_is_the_error(name):
    sample = sample_of(CLAIMS[name], there())
    row = judge([CLAIMS[name]], there(), resamples=2000, flips=99)[0]
    own = reach(sample)
    assert own.n == row.n
    assert own.sd / math.sqrt(own.n) == pytest.approx((row.ci_high - row.ci_low) / 3.92, rel=0.15)


def test_too_few_units_reach_nothing():
    assert math.isnan(reach(sample_of(claim(), evidence(table(pair(3))))).smallest)


def test_the_family_is_the_one_of_holm():
    claims = [
        claim(), claim("x-2", direction="lower"), claim("x-3", confirmatory=False), claim("y-1", paper="Y"),
        claim("x-4", command="python -m it"), claim("x-5", kind="equivalence", margin=1.0),
    ]  # fmt: skip
    assert [each.id for each in family(claims, "X")] == ["x-1", "x-2"]
    rows = judge(claims, evidence(table(pair())), resamples=100, flips=99)
    assert [row.id for row in rows if row.p_holm is not None] == ["x-1", "x-2", "y-1"]
