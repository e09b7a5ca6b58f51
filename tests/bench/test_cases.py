import dataclasses

import pytest
import torch

from lib.bench.cases import EditCase, collate, form_batches
from lib.core.errors import InputError


def case(name: str, *, height: int = 8, width: int = 8, mask: bool = False, **fields) -> EditCase:
    area = torch.ones(1, height, width, dtype=torch.bool) if mask else None
    return EditCase(id=name, image=torch.rand(3, height, width), target_prompt=f"to {name}", mask=area, **fields)


def test_rows_stay_with_their_cases():
    cases = [case("b", source_prompt="from b"), case("a")]
    batch = collate(cases)
    assert (len(batch), batch.ids, batch.target_prompt) == (2, ("b", "a"), ("to b", "to a"))
    assert batch.source_prompt == ("from b", None)
    assert torch.equal(batch.image[1], cases[1].image)
    assert batch.cases == tuple(cases)


def test_masks_are_there_only_if_every_case_has_one():
    assert collate([case("a", mask=True), case("b", mask=True)]).mask.shape == (2, 1, 8, 8)
    assert collate([case("a", mask=True), case("b")]).mask is None


def test_a_case_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        case("a").id = "b"


def test_uneven_sizes_are_refused():
    with pytest.raises(InputError, match=r"case b: found an image of \[3, 8, 16\]; expected \[3, 8, 8\] as in a"):
        collate([case("a"), case("b", width=16)])
    odd = dataclasses.replace(case("a"), mask=torch.ones(1, 4, 4, dtype=torch.bool))
    with pytest.raises(InputError, match=r"case a: found a mask of \[1, 4, 4\]"):
        collate([odd])
    with pytest.raises(InputError, match="found no case"):
        collate([])


def test_batches_do_not_depend_on_the_order_given():
    cases = [case(name, width=width) for name, width in zip("gfedcba", (8, 16, 8, 8, 16, 8, 8), strict=True)]
    batches = form_batches(cases, 2)
    assert [batch.ids for batch in batches] == [("a", "b"), ("d", "e"), ("g",), ("c", "f")]
    assert [batch.ids for batch in form_batches(cases[::-1], 2)] == [batch.ids for batch in batches]


def test_batches_refuse_twins_and_nonsense():
    with pytest.raises(InputError, match="found 'a' more than once"):
        form_batches([case("a"), case("a", width=16)], 4)
    with pytest.raises(InputError, match="batch size: found 0"):
        form_batches([case("a")], 0)
    assert form_batches([], 4) == []
