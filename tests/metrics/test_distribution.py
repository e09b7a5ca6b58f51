"""FID in closed form, KID against its double sum, the Inception Score of posteriors that are known; their table."""

import math

import numpy as np
import pytest
import torch

from lib.core.errors import InputError
from lib.metrics.distribution import SETS, fid, inception_score, kid, score_sets


def gaussian(mean, variance):
    """A few points with exactly this mean and this diagonal covariance (unbiased)."""
    mean, variance = np.asarray(mean, float), np.asarray(variance, float)
    count = 2 * len(mean)
    steps = np.diag(np.sqrt(variance * (count - 1) / 2))
    return mean + np.concatenate([steps, -steps])


def samples(n, width=5, shift=0.0, seed=0):
    return np.random.default_rng(seed).normal(shift, 1, (n, width))


def test_fid_of_diagonal_gaussians_in_closed_form():
    mean_a, mean_b = [0.0, 1.0, -2.0, 0.5], [1.0, 1.0, 0.0, 0.0]
    var_a, var_b = [1.0, 4.0, 0.25, 9.0], [4.0, 1.0, 0.25, 1.0]
    wanted = sum(
        (m - n) ** 2 + (np.sqrt(v) - np.sqrt(w)) ** 2 for m, n, v, w in zip(mean_a, mean_b, var_a, var_b, strict=True)
    )
    assert wanted == 5.25 + 6  # by hand
    assert fid(gaussian(mean_a, var_a), gaussian(mean_b, var_b)) == pytest.approx(wanted, abs=1e-9)


def test_fid_of_equal_covariances_is_the_distance_of_the_means():
    a = samples(50)
    assert fid(a, a + np.array([1.0, 2, 0, 0, 2])) == pytest.approx(9, abs=1e-6)


def brute_force_kid(x, y):
    def kernel(u, v):
        return (u @ v / len(u) + 1) ** 3

    n, m = len(x), len(y)
    within_x = sum(kernel(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    within_y = sum(kernel(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return within_x + within_y - 2 * sum(kernel(u, v) for u in x for v in y) / (n * m)


def test_kid_is_the_unbiased_double_sum():
    a, b = samples(14), samples(14, shift=0.7, seed=1)
    found = kid(a, b, subsets=1, subset_size=14)
    assert found.mean == pytest.approx(brute_force_kid(a, b), rel=1e-9)
    assert found.deviation == 0


def test_kid_is_the_mean_over_subsets_of_its_own_generator():
    a, b = samples(30), samples(30, shift=0.5, seed=1)
    state = np.random.get_state()[1].copy()
    found = kid(a, b, subsets=6, subset_size=10, seed=3)
    assert kid(a, b, subsets=6, subset_size=10, seed=3) == found
    assert kid(a, b, subsets=6, subset_size=10, seed=4) != found
    assert np.array_equal(np.random.get_state()[1], state)
    draw = np.random.RandomState(3)
    subsets = [(draw.choice(30, 10, replace=False), draw.choice(30, 10, replace=False)) for _ in range(6)]
    each = [brute_force_kid(a[i], b[j]) for i, j in subsets]
    assert found == pytest.approx((np.mean(each), np.std(each)), rel=1e-9)


def test_unbiased_means_zero_on_average_for_one_distribution():
    each = [
        kid(samples(20, seed=2 * s), samples(20, seed=2 * s + 1), subsets=1, subset_size=20).mean for s in range(60)
    ]
    assert min(each) < 0 < max(each)
    assert abs(np.mean(each)) < 3 * np.std(each) / np.sqrt(60)


@pytest.mark.parametrize("metric", [fid, lambda a, b: kid(a, b, subsets=1, subset_size=25).mean])
def test_order_within_and_between_the_sets_does_not_matter(metric):
    a, b = samples(25), samples(25, shift=0.4, seed=1)
    value = metric(a, b)
    assert metric(b, a) == pytest.approx(value, rel=1e-7)
    mixed = np.random.default_rng(5).permutation(25)
    assert metric(a[mixed], b[mixed[::-1]]) == pytest.approx(value, rel=1e-7)
    assert metric(a, a) < 1e-9 < value  # the unbiased one is even negative there
    assert metric(torch.from_numpy(a), torch.from_numpy(b)) == value
    assert metric(a.astype(np.float32), b) == pytest.approx(value, rel=1e-5)


def test_fid_of_equal_sets_is_zero():
    a = samples(40)
    assert fid(a, a) == pytest.approx(0, abs=1e-9)


def test_wrong_features_are_refused():
    a, hole = samples(12), samples(12)
    hole[3, 3] = np.nan
    for x, y in ((a, a[:, :3]), (a, a[0]), (a[:, :1], a[:, :1]), (a, hole), (a[:1], a)):
        with pytest.raises(InputError, match="features"):
            fid(x, y)
    with pytest.raises(InputError, match=r"12 and 11 samples; expected at least 12"):
        kid(a, a[:11], subset_size=12)
    with pytest.raises(InputError, match="at least 1000"):
        kid(a, a)
    for wrong in ({"subsets": 0, "subset_size": 5}, {"subset_size": 1}):
        with pytest.raises(InputError, match="KID"):
            kid(a, a, **wrong)


def one_hot(classes, each, sharp=1000.0):
    """Logits of `each` rounds through the classes, as good as certain."""
    return sharp * np.eye(classes)[np.tile(np.arange(classes), each)]


@pytest.mark.parametrize("classes", [2, 7, 10])
@pytest.mark.parametrize("sharp", [60.0, 1000.0])
def test_balanced_certain_posteriors_score_the_number_of_classes(classes, sharp):
    logits = one_hot(classes, 6, sharp)
    in_order = inception_score(logits, splits=6, seed=None)
    assert in_order == pytest.approx((classes, 0), abs=1e-6)
    assert inception_score(logits, splits=1) == pytest.approx((classes, 0), abs=1e-6)
    assert inception_score(torch.from_numpy(logits), splits=6, seed=None) == in_order


def test_what_says_nothing_scores_one():
    assert inception_score(np.zeros((20, 5))) == pytest.approx((1, 0), abs=1e-12)
    assert inception_score(np.tile([0.0, 3.0, 1.0], (20, 1))) == pytest.approx((1, 0), abs=1e-12)  # all the same
    assert inception_score(one_hot(4, 12)[::4]) == pytest.approx((1, 0), abs=1e-6)  # one class, others of weight 0


def test_the_inception_score_is_the_exponent_of_the_mean_divergence():
    logits = 2 * samples(24, width=6)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)

    def score(p):
        return math.exp((p * np.log(p / p.mean(axis=0))).sum(axis=1).mean())

    halves = [score(p[:12]), score(p[12:])]
    assert inception_score(logits, splits=2, seed=None) == pytest.approx((np.mean(halves), np.std(halves)), rel=1e-9)
    assert inception_score(logits, splits=1).mean == pytest.approx(score(p), rel=1e-9)
    assert inception_score(logits + 50, splits=1).mean == pytest.approx(score(p), rel=1e-9)
    assert inception_score(logits, seed=1) == inception_score(logits, seed=1) != inception_score(logits, seed=2)


def test_wrong_logits_and_splits_are_refused():
    with pytest.raises(InputError, match="Inception Score: found 10 splits of 9 images; expected 1 image in each"):
        inception_score(samples(9))
    with pytest.raises(InputError, match="found 0 splits"):
        inception_score(samples(9), splits=0)
    for wrong in (samples(9)[0], samples(9)[:, :1], np.full((12, 3), np.inf)):
        with pytest.raises(InputError, match="logits"):
            inception_score(wrong)


def test_every_score_of_a_set_says_how_it_is_to_be_read():
    assert list(SETS) == ["set/fid", "set/kid", "set/inception_score"]
    for name, row in SETS.items():
        assert row.name == name
        assert row.range[0] < row.range[1] and row.direction in ("higher", "lower") and row.missing
        assert {*row.needs} <= {"features", "reference", "logits"}
    assert SETS["set/inception_score"].direction == "higher"


def test_rows_of_a_set():
    a, b, logits = (torch.from_numpy(samples(30, shift=shift, seed=seed)) for seed, shift in ((0, 0), (1, 0.5), (2, 0)))
    rows = score_sets(features=a, reference=b, logits=logits, arm="x", extractor="net")
    assert [row["metric"] for row in rows] == list(SETS)
    assert {(row["arm"], row["extractor"], row["n"]) for row in rows} == {("x", "net", 30)}
    value = {row["metric"]: row["value"] for row in rows}
    assert value["set/fid"] == fid(a, b)
    assert value["set/kid"] == kid(a, b, subset_size=30).mean
    assert value["set/inception_score"] == inception_score(logits).mean
    for row in rows:
        low, high = SETS[row["metric"]].range
        assert low <= row["value"] <= high
    assert [row["metric"] for row in score_sets(features=a, reference=b, arm="x", extractor="net")] == list(SETS)[:2]
    assert score_sets(features=a, arm="x", extractor="net") == []
    lone = score_sets(features=a[:1], reference=b, logits=logits[:1], arm="x", extractor="net")
    assert len(lone) == 3 and all(math.isnan(row["value"]) for row in lone)
    few = score_sets(features=a[:4], reference=b, logits=logits[:4], arm="x", extractor="net")
    assert all(math.isfinite(row["value"]) for row in few)
