"""The ellipses around the points of a fidelity–alignment curve."""

import numpy as np
import pandas as pd
import pytest

from lib.studio.curves import covariance_of_means, ellipse

METRICS = ("background_psnr", "attribute_accuracy")


def scores(n: int = 60) -> pd.DataFrame:
    generator = np.random.default_rng(0)
    kept = generator.normal(25, 3, n)
    right = 0.5 - 0.05 * (kept - 25) + generator.normal(0, 0.2, n)
    values = {"background_psnr": np.where(np.arange(n) % 5 == 4, np.nan, kept), "attribute_accuracy": right}
    rows = [(f"{i:02d}", "ours", 0, name, v[i], i % 5) for name, v in values.items() for i in range(n)]
    return pd.DataFrame(rows, columns=["case", "arm", "seed", "metric", "value", "stratum"])


def test_the_covariance_is_that_of_a_stratified_bootstrap() -> None:
    table = scores()
    wide = table.pivot(index="case", columns="metric", values="value")[list(METRICS)].to_numpy()
    strata = np.arange(60) % 5
    generator, means = np.random.default_rng(1), []
    for _ in range(20_000):
        drawn = np.concatenate([generator.choice(np.flatnonzero(strata == s), 12) for s in range(5)])
        means.append(np.nanmean(wide[drawn], axis=0))
    assert covariance_of_means(table, "ours", METRICS) == pytest.approx(np.cov(np.array(means).T), rel=0.05)


def test_an_ellipse_holds_as_much_as_it_says() -> None:
    covariance = np.array([[4.0, -0.9], [-0.9, 0.5]])
    width, height, angle = ellipse(covariance)
    points = np.random.default_rng(2).multivariate_normal([0, 0], covariance, 50_000)
    turn = np.radians(angle)
    along = points @ np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    assert ((along / [width / 2, height / 2]) ** 2).sum(axis=1).__le__(1).mean() == pytest.approx(0.95, abs=0.005)


def test_without_spread_there_is_none() -> None:
    assert ellipse(np.zeros((2, 2)))[:2] == (0.0, 0.0)
