"""PIE-Bench's runs against a plain reference, and that they are not COCO's."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.bench.rle import PIXELS, SIDE, decode, encode, with_ring
from lib.core.errors import InputError


def plainly(runs: list[int]) -> torch.Tensor:
    """Pixel by pixel, as one would write it down."""
    mask = torch.zeros(PIXELS, dtype=torch.bool)
    for i in range(0, len(runs), 2):
        for pixel in range(runs[i], runs[i] + runs[i + 1]):
            if pixel < PIXELS:
                mask[pixel] = True
    return mask.reshape(1, SIDE, SIDE)


def coco(counts: list[int]) -> torch.Tensor:
    """COCO's uncompressed run lengths: off, on, off, … down the columns."""
    values = torch.cat([torch.full((count,), i % 2 == 1) for i, count in enumerate(counts)])
    return torch.cat([values, torch.zeros(PIXELS - len(values), dtype=torch.bool)]).reshape(SIDE, SIDE).T[None]


runs = st.lists(st.tuples(st.integers(0, PIXELS - 1), st.integers(0, 3000)), max_size=6).map(
    lambda pairs: [number for pair in pairs for number in pair]
)


@settings(max_examples=40, deadline=None)
@given(runs)
def test_runs_go_through_masks_and_back(given_runs):
    mask = decode(given_runs)
    assert torch.equal(mask, plainly(given_runs))
    shortest = encode(mask)
    assert torch.equal(decode(shortest), mask)
    assert len(shortest) <= len(given_runs)
    assert shortest[::2] == sorted(shortest[::2])
    assert all(length > 0 for length in shortest[1::2])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.001, 0.999))
def test_masks_go_through_runs_and_back(seed, share):
    coarse = torch.rand(1, 32, 32, generator=torch.Generator().manual_seed(seed)) < share
    mask = coarse.repeat_interleave(16, 1).repeat_interleave(16, 2)
    assert torch.equal(decode(encode(mask)), mask)


def test_the_first_numbers_are_row_and_column():
    mask = decode([3 * SIDE + 7, 2])
    assert mask.nonzero().tolist() == [[0, 3, 7], [0, 3, 8]]
    assert (mask.dtype, mask.shape) == (torch.bool, (1, SIDE, SIDE))


def test_a_run_goes_on_in_the_next_row_and_ends_with_the_picture():
    assert decode([SIDE - 1, 2]).nonzero().tolist() == [[0, 0, SIDE - 1], [0, 1, 0]]
    assert decode([PIXELS - 3, 10**6]).sum() == 3
    assert encode(decode([PIXELS - 3, 10**6])) == [PIXELS - 3, 3]


def test_nothing_and_everything():
    assert not decode([]).any()
    assert not decode([5, 0]).any()
    assert decode([0, PIXELS]).all()
    assert (encode(decode([])), encode(decode([0, PIXELS]))) == ([], [0, PIXELS])


def test_it_is_not_cocos_encoding():
    mask = torch.zeros(1, SIDE, SIDE, dtype=torch.bool)
    mask[:, 100:110, 200:240] = True  # 10 high, 40 wide
    ours = encode(mask)
    assert ours[:4] == [100 * SIDE + 200, 40, 101 * SIDE + 200, 40]
    theirs = [200 * SIDE + 100] + [10, SIDE - 10] * 39 + [10]
    assert torch.equal(coco(theirs), mask)
    assert not torch.equal(coco(ours[:2]), decode(ours[:2]))  # the same numbers, other pixels
    assert not torch.equal(decode(theirs), mask)


def test_the_ring_is_forced_only_if_wanted():
    bare, ringed = decode([3 * SIDE + 7, 2]), decode([3 * SIDE + 7, 2], ring=True)
    assert torch.equal(ringed, with_ring(bare))
    assert ringed.sum() == 2 + 4 * (SIDE - 1)
    assert torch.equal(ringed[:, 1:-1, 1:-1], bare[:, 1:-1, 1:-1])
    assert all(edge.all() for edge in (ringed[:, 0], ringed[:, -1], ringed[:, :, 0], ringed[:, :, -1]))
    assert bare.sum() == 2  # `with_ring` works on a copy


@pytest.mark.parametrize(
    ("bad", "found"),
    [
        ([1, 2, 3], "3 numbers"),
        ([-1, 2], "start -1, length 2 as run 0"),
        ([5, 1, 6, -2], "start 6, length -2 as run 1"),
        ([PIXELS, 1], f"start {PIXELS}, length 1 as run 0"),
        ([10**5000, 1], "start a number of over 20 digits"),
        ([1.0, 2], "1.0, 2 as run 0"),
        ([True, 2], "True, 2 as run 0"),
        (["1", 2], "'1', 2 as run 0"),
        ([[1, 2]] * 2, r"\[1, 2\], \[1, 2\] as run 0"),
        ("12", "a str"),
        (None, "a NoneType"),
        ({"size": [512, 512]}, "a dict"),
    ],
)
def test_bad_runs_are_refused(bad, found):
    with pytest.raises(InputError, match=f"^mask of x: found {found}.*; expected"):
        decode(bad, name="mask of x")


@pytest.mark.parametrize("mask", [torch.zeros(1, SIDE, SIDE), torch.zeros(SIDE, SIDE) > 0, torch.zeros(1, 64, 64) > 0])
def test_other_masks_are_refused(mask):
    with pytest.raises(InputError, match="mask to encode: found"):
        encode(mask)
