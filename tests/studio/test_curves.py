"""Fidelity–alignment curves: the ellipses around their points, the anchors beside them."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from lib.studio.curves import covariance_of_means, ellipse, mark_anchors

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


@pytest.mark.parametrize(
    ("psnr", "drawn", "limits"),
    [
        ({"close": 24.0}, {"close": 24.0}, (20.0, 31.2)),
        ({"left": 17.0}, {"left": 17.0}, (16.4, 31.2)),
        ({"far": 60.0}, {"far (60)": 30.976}, (20.0, 31.2)),  # none near what is drawn: as at the smoke scale
        ({"far": 60.0, "right": 33.0}, {"far (60)": 33.916, "right": 33.0}, (20.0, 34.2)),
    ],
)
def test_anchors_stand_where_they_are_or_at_the_edge_with_their_number(
    psnr: dict[str, float], drawn: dict[str, float], limits: tuple[float, float]
) -> None:
    figure, axes = plt.subplots()
    axes.set_xlim(20, 30)
    rows = [(name, metric, value) for name, x in psnr.items() for metric, value in zip(METRICS, (x, 0.5), strict=True)]
    mark_anchors(
        axes, pd.DataFrame(rows, columns=["arm", "metric", "value"]).set_index(["arm", "metric"]), [*psnr], METRICS
    )
    assert {text.get_text(): text.xy[0] for text in axes.texts} == pytest.approx(drawn)
    assert axes.get_xlim() == pytest.approx(limits)
    plt.close(figure)
