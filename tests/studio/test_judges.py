"""What the notebook `world` measures of judges: shares, correlated errors, pictures changed against an encoder."""

import numpy as np
import pandas as pd
import pytest
import torch

from lib.learning.identity import IdentityEncoder, Pairs, similarities
from lib.studio.judges import disguised, errors_together, numbers, share


def table_of(a: list[bool], b: list[bool]) -> pd.DataFrame:
    return pd.DataFrame({"a wrong": a, "b wrong": b})


def test_a_share_has_the_exact_interval_of_clopper_and_pearson():
    all_of = share(1.0, 256)
    assert (all_of.value, all_of.high) == (1.0, 1.0)
    assert all_of.low == pytest.approx(0.025 ** (1 / 256))  # all n are hits with probability p^n
    assert share(0.0, 256).high == pytest.approx(1 - all_of.low)
    half = share(0.5, 100)
    assert half.low < 0.5 < half.high
    assert half.low == pytest.approx(1 - half.high)


def test_correlation_of_errors_is_pearsons():
    draw = np.random.default_rng(0)
    a, b = draw.random(400) < 0.2, draw.random(400) < 0.3
    b = np.where(draw.random(400) < 0.5, a, b)
    found = errors_together(table_of(a, b), "a", "b")
    assert found.value == pytest.approx(np.corrcoef(a, b)[0, 1])
    assert found.low < found.value < found.high
    assert errors_together(table_of(a, a), "a", "b").value == pytest.approx(1)


def test_a_judge_that_is_never_wrong_has_no_correlation():
    found = errors_together(table_of([False] * 20, [True, False] * 10), "a", "b")
    assert np.isnan(found.value)
    assert numbers({"correlation": found}) == {}


def test_disguise_raises_the_cosine_and_stays_within_its_radius():
    torch.manual_seed(0)
    encoder = IdentityEncoder("plain").eval().requires_grad_(False)
    pairs = Pairs(torch.rand(3, 3, 64, 64), torch.rand(3, 3, 64, 64), torch.zeros(3, dtype=torch.bool))
    changed = disguised(encoder, pairs, radius=0.02, steps=3)
    assert (similarities(encoder, changed) > similarities(encoder, pairs)).all()
    assert (changed.first - pairs.first).abs().max() <= 0.02 + 1e-6
    assert changed.first.min() >= 0
    assert changed.first.max() <= 1
