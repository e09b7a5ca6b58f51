"""Ranks and Pareto fronts against loops and scipy."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lib.core.errors import InputError
from lib.stats.pareto import membership, on_front
from lib.stats.ranks import friedman, rank


def table(values, metrics=("clip",), arms=("a", "b", "c")):
    """Tidy rows of values [cases, arms, metrics]."""
    index = pd.MultiIndex.from_product([[f"c{i:02}" for i in range(len(values))], arms, metrics])
    rows = pd.Series(np.asarray(values, dtype=float).ravel(), index=index.set_names(["case", "arm", "metric"]))
    return rows.rename("value").reset_index().assign(seed=0)


def test_ties_share_their_rank():
    values = np.array([[3, 1, 3], [2, 2, 2], [1, 2, 3], [5, 4, 4]])[:, :, None]
    found = rank(table(values), ["a", "b", "c"], "clip", resamples=50)
    assert found.units.to_numpy().tolist() == [[1.5, 3, 1.5], [2, 2, 2], [3, 2, 1], [1, 2.5, 2.5]]
    assert found.means["arm"].tolist() == ["c", "a", "b"]
    assert found.means["rank"].tolist() == [1.75, 1.875, 2.375]
    lower = rank(table(values), ["a", "b", "c"], "clip", better="lower", resamples=50)
    assert lower.units.to_numpy().tolist() == (4 - found.units.to_numpy()).tolist()


def test_friedman_is_scipys_with_ties():
    values = np.round(np.random.default_rng(0).normal([0, 0.2, 0.4, 0.8], size=(30, 4)))
    found = rank(table(values[:, :, None], arms=tuple("abcd")), list("abcd"), "clip", resamples=20)
    assert found.p == pytest.approx(stats.friedmanchisquare(*values.T).pvalue)
    assert friedman(np.full((5, 3), 2.0)) == 1.0


def test_a_front_keeps_whom_nobody_dominates():
    points = np.array([[1.0, 5], [2, 4], [1, 4], [3, 1], [2, 4], [3, 0.5]])
    assert on_front(points).tolist() == [True, True, False, True, True, False]
    stacked = on_front(np.stack([points, -points]))
    assert stacked[0].tolist() == on_front(points).tolist()
    assert stacked[1].tolist() == [False, False, True, False, False, True]


def test_membership_says_how_sure_the_front_is():
    generator = np.random.default_rng(0)
    means = np.array([[1.0, -1.0], [0.0, 0.0], [0.5, -0.55], [-1.0, 2.0]])  # c lies just below the line from a to b
    values = means + 0.8 * generator.normal(size=(80, 4, 2))
    values[:, 1] -= 2.0
    arms = list("abcd")
    rows = table(values * [1, -1], metrics=("clip", "lpips"), arms=tuple(arms))
    found = membership(rows, arms, {"clip": "higher", "lpips": "lower"}, resamples=400)
    assert found["arm"].tolist() == arms
    assert found["probability"].tolist()[0] == 1.0  # the highest clip by far
    assert found["probability"].tolist()[1] == 0.0  # two below everyone
    assert found["on_front"].tolist() == on_front(values.mean(axis=0)).tolist()
    assert found["clip"].tolist() == pytest.approx(values[:, :, 0].mean(axis=0).tolist())
    assert (found["n"] == 80).all()
    near = table(
        np.stack([values[:, 0], values[:, 0] + 0.3 * generator.normal(size=(80, 2))], 1), ("x", "y"), ("a", "b")
    )
    unsure = membership(near, ["a", "b"], {"x": "higher", "y": "higher"}, resamples=400)["probability"]
    assert unsure.between(0.02, 1.0, inclusive="left").any()


@pytest.mark.parametrize(
    "call",
    [
        lambda t: rank(t, ["a", "b"], "clip", better="up"),
        lambda t: rank(t, ["a", "a"], "clip"),
        lambda t: membership(t, ["a", "b"], {"clip": "up"}),
        lambda t: membership(t, ["a", "b"], {}),
        lambda t: membership(t.assign(value=np.nan), ["a", "b"], {"clip": "higher"}),
    ],
)
def test_bad_input_is_refused(call):
    with pytest.raises(InputError):
        call(table(np.arange(12).reshape(4, 3, 1)))
