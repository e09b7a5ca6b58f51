"""Identity score between its impostor baseline and its ceiling."""

import math
from itertools import permutations

import pytest
import torch

from lib.core.errors import InputError
from lib.metrics.identity import derangement, identity_score, impostor_baseline, same_identity_ceiling


def people(n=40, spread=0.2, seed=0):
    """Two photos of each of n people, and their names."""
    generator = torch.Generator().manual_seed(seed)
    person = torch.randn(n, 16, generator=generator)
    photos = [person + spread * torch.randn(n, 16, generator=generator) for _ in range(2)]
    return *photos, list(range(n))


def test_the_score_lies_between_strangers_and_the_ceiling():
    edited, source, names = people()
    score = identity_score(edited, source).mean().item()
    assert abs(impostor_baseline(edited, source)) < 0.15
    ceiling = same_identity_ceiling(torch.cat([edited, source]), names * 2)
    assert score == pytest.approx(ceiling, abs=1e-12)  # the very same pairs
    assert 0.9 < score < 1
    worse = identity_score(people(spread=1.0)[0], source).mean().item()
    assert impostor_baseline(edited, source) < worse < score
    assert identity_score(source, source).tolist() == pytest.approx([1.0] * 40)


@pytest.mark.parametrize("n", [2, 3, 7])
def test_nothing_keeps_its_place(n):
    for seed in range(20):
        order = derangement(n, seed)
        assert sorted(order) == list(range(n))
        assert all(order[i] != i for i in range(n))
    assert derangement(7, 1) == derangement(7, 1) != derangement(7, 2)


def test_every_cycle_is_drawn():
    cycles = {
        p for p in permutations(range(4)) if p[p[p[0]]] != 0 and all(p[i] != i for i in range(4)) and p[p[0]] != 0
    }
    assert len(cycles) == 6
    assert {tuple(derangement(4, seed)) for seed in range(60)} == cycles


def test_the_baseline_is_the_mean_over_the_deranged_pairs():
    edited, source, names = people(n=5)
    order = derangement(5, 3)
    pairs = [torch.cosine_similarity(edited[i].double(), source[j].double(), dim=0).item() for i, j in enumerate(order)]
    assert impostor_baseline(edited, source, seed=3) == pytest.approx(sum(pairs) / 5)
    assert impostor_baseline(edited, source, seed=4) != impostor_baseline(edited, source, seed=3)
    names[order[0]] = names[0]  # one pair is of one person after all
    kept = [pair for i, pair in enumerate(pairs) if names[i] != names[order[i]]]
    assert len(kept) == 4
    assert impostor_baseline(edited, source, names, seed=3) == pytest.approx(sum(kept) / 4)
    assert math.isnan(impostor_baseline(edited, source, [0] * 5))


def test_who_was_not_found_is_left_out():
    edited, source, names = people(n=6)
    edited[2] = torch.nan
    assert identity_score(edited, source).isnan().tolist() == [False, False, True, False, False, False]
    assert math.isfinite(impostor_baseline(edited, source))
    assert math.isfinite(same_identity_ceiling(torch.cat([edited, source]), names * 2))
    assert math.isnan(same_identity_ceiling(edited, names))


def test_too_few_or_unnamed_are_refused():
    edited, source, names = people(n=3)
    with pytest.raises(InputError, match="derangement: found 1"):
        impostor_baseline(edited[:1], source[:1])
    for call in (
        lambda: impostor_baseline(edited, source, names[:2]),
        lambda: same_identity_ceiling(edited, names[:2]),
    ):
        with pytest.raises(InputError, match="identities"):
            call()
    with pytest.raises(InputError, match="embeddings"):
        identity_score(edited, source[:, :4])
