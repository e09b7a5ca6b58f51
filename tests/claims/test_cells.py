"""Every claim that is tested has a cell, which is there and in which it is spoken of."""

import json

import pytest

from lib.claims.cells import WORDS, source_cells
from lib.claims.ledger import load_claims
from lib.core.paths import ROOT
from tests.claims.planted import NOTEBOOK, claim


def cells_of(notebook):
    return json.loads((ROOT / "notebooks" / f"{notebook}.ipynb").read_text(encoding="utf-8"))["cells"]


def test_each_tested_claim_has_a_cell_that_is_there():
    claims = load_claims()
    found = source_cells(claims)
    assert set(found) == {each.id for each in claims if not each.needs_weights}
    for each in claims:
        if each.id in found:
            [cell] = [cell for cell in cells_of(each.test.notebook) if cell["id"] == found[each.id]]
            assert cell["cell_type"] == "code"
            spoken = f"claim:{each.id}" in cell["metadata"].get("tags", [])
            assert spoken or WORDS[each.id] in "".join(cell["source"])


def test_pages_have_the_cells_that_the_ledger_leads_to():
    found = source_cells(load_claims())
    for each in load_claims():
        if each.id in found:  # a page counts its cells, as runs/sources/ does
            places = [cell["id"] for cell in cells_of(each.test.notebook)]
            assert found[each.id] == f"cell-{places.index(found[each.id]):02d}", f"{each.test.notebook}: {places}"


def test_no_words_for_claims_that_are_gone_or_tagged():
    claims = {each.id: each.test.notebook for each in load_claims()}
    assert set(WORDS) <= set(claims)
    tags = {tag for name in set(claims.values()) for cell in cells_of(name) for tag in cell["metadata"].get("tags", [])}
    assert not {name for name in WORDS if f"claim:{name}" in tags}


def test_a_claim_has_one_tag_at_most():
    for notebook in {each.test.notebook for each in load_claims()}:
        tags = [tag for cell in cells_of(notebook) for tag in cell["metadata"].get("tags", []) if tag[:6] == "claim:"]
        assert len(tags) == len(set(tags))


@pytest.mark.parametrize(
    ("cells", "wanted"),
    [
        ([("one", ["claim:x-1"], "spam"), ("two", [], "save_table(pd")], {"x-1": "one"}),
        ([("one", ["other"], "spam")], {}),
        ([("one", [], "figure = by_type(a)")], {"flowedit-16-pose": "one"}),
        ([("one", [], "figure = by_type(a)"), ("two", [], "figure = by_type(b)")], {}),
        ([("one", [], "figure = by_type(a)"), ("two", ["claim:flowedit-16-pose"], "")], {"flowedit-16-pose": "two"}),
    ],
)
def test_a_tag_goes_before_words_and_words_must_be_clear(tmp_path, cells, wanted):
    path = tmp_path / "notebooks" / f"{NOTEBOOK}.ipynb"
    path.parent.mkdir(parents=True)
    made = [{"id": i, "cell_type": "code", "metadata": {"tags": tags}, "source": [text]} for i, tags, text in cells]
    path.write_text(json.dumps({"cells": made}), encoding="utf-8")
    assert source_cells([claim(), claim("flowedit-16-pose")], tmp_path) == wanted


def test_a_notebook_that_is_not_there_has_no_cells(tmp_path):
    assert source_cells([claim()], tmp_path) == {}
