"""FID in closed form, KID against its double sum."""

import numpy as np
import pytest
import torch

from lib.core.errors import InputError
from lib.metrics.distribution import fid, kid


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
