"""PIE-Bench++: parquet files whose cells are strings."""

import pytest
import torch

from lib.bench.pie_bench import FOLDERS
from lib.bench.pie_plus import LICENCE, parse_cell, pie_plus_cases, verify
from lib.bench.rle import decode
from lib.core.errors import InputError
from tests.bench.layouts import BLOCK, plus_row, write_plus, write_type

ONE_EACH = dict.fromkeys(range(10), 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two rows of type 1: the second has a list as mask and empty cells."""
    second = plus_row(1, id="111000000001", mask=str(BLOCK), blended_words="", edit_action=None, target_prompt="a sofa")
    return write_plus(tmp_path_factory.mktemp("plus"), {1: [plus_row(1), second]})


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory):
    """A test spoils the files of types 3 and 4, which it writes anew."""
    return write_plus(tmp_path_factory.mktemp("spoilt"))


def test_cases_are_what_the_rows_say(folder):
    cases = pie_plus_cases(folder)
    assert [case.edit_type for case in cases] == [0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    first, second = cases[1], cases[2]
    assert (first.id, second.id) == ("pie-bench++-111000000000", "pie-bench++-111000000001")
    assert (first.source_prompt, first.target_prompt) == ("a red sofa", "a blue sofa with a lamp")
    assert (first.benchmark, first.licence, first.instruction) == ("pie-bench++", LICENCE, None)
    assert first.image.shape == (3, 512, 512)
    assert first.extras["local_phrase"] == "blue, a lamp"
    assert first.extras["edit_action"] == {"blue": {"position": 1, "edit_type": 6, "action": "red"}}  # Python's quotes
    assert first.extras["aspect_mapping"] == {"sofa": ["blue"]}  # JSON's
    assert first.extras["blended_words"] == ["red,blue"]
    assert (first.extras["target_object"], "target_object" in second.extras) == ("blue", False)
    assert (second.extras["local_phrase"], second.extras["edit_action"], second.extras["blended_words"]) == (None,) * 3


def test_both_ways_to_write_a_mask(folder):
    cases, ringed = pie_plus_cases(folder), pie_plus_cases(folder, ring=True)
    for index in (1, 2):
        assert torch.equal(cases[index].mask, decode(BLOCK))
        assert torch.equal(ringed[index].mask, decode(BLOCK, ring=True))
        assert torch.equal(cases[index].extras["ring_mask"], ringed[index].mask)


def test_verify_counts_every_type(folder):
    assert verify(folder, ONE_EACH | {1: 2}) == ONE_EACH | {1: 2}
    with pytest.raises(InputError, match="number of cases of type 1: found 2; expected 80"):
        verify(folder, ONE_EACH | {1: 80})


@pytest.mark.parametrize(
    ("cell", "value"),
    [("", None), ("  ", None), ('{"a": null}', {"a": None}), ("{'a': None}", {"a": None}), ("[1, 2]", [1, 2])],
)
def test_cells_are_json_or_literals(cell, value):
    assert parse_cell(cell, "cell") == value


@pytest.mark.parametrize("cell", ["red", "__import__('os').getcwd()", "{'a'", "[" * 500, "1 +"])
def test_cells_are_never_run(cell):
    with pytest.raises(InputError, match=r"^cell: found .*; expected JSON or a Python literal"):
        parse_cell(cell, "cell")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mask": "1 2 3"}, "row 0, key 'mask': found 3 numbers"),
        ({"mask": "-1 2"}, "row 0, key 'mask': found start -1"),
        ({"mask": "262144 1"}, "row 0, key 'mask': found start 262144"),
        ({"mask": "one two"}, "row 0, key 'mask': found 'one two'; expected JSON or a Python literal"),
        ({"mask": "{'size': 1}"}, "row 0, key 'mask': found a dict; expected a list"),
        ({"mask": None}, "row 0, key 'mask': found None"),
        ({"edit_action": "red"}, "row 0, key 'edit_action': found 'red'"),
        ({"target_prompt": "[]"}, "row 0, key 'target_prompt': found no words"),
        ({"source_prompt": 3}, "row 0, key 'source_prompt': found 3"),
        ({"id": "000000000000"}, "ids: found '000000000000' more than once"),
    ],
)
def test_bad_cells_name_file_row_and_column(spoilt, values, message):
    write_type(spoilt, 3, [plus_row(3)])
    write_type(spoilt, 4, [plus_row(4, **values)])
    where = "" if "id" in values else f".*{FOLDERS[4]}.*parquet"
    with pytest.raises(InputError, match=f"^{spoilt}{where}.*{message}"):
        pie_plus_cases(spoilt)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ({"bytes": b"no picture", "path": "a.jpg"}, "found unreadable bytes"),
        ({"bytes": None, "path": "a.jpg"}, "key 'bytes': found None"),
        ({"path": "a.jpg"}, "key 'bytes': found no such key"),
        (None, "found a NoneType"),
    ],
)
def test_bad_pictures_are_named_when_they_are_read(spoilt, cell, message):
    write_type(spoilt, 3, [plus_row(3)])
    write_type(spoilt, 4, [plus_row(4, image=cell)])
    cases = pie_plus_cases(spoilt)
    with pytest.raises(InputError, match=f"{FOLDERS[4]}.*row 0, key 'image'.*{message}"):
        cases[4]
    assert cases[3].image.shape == (3, 512, 512)


def test_missing_and_broken_files_and_columns(spoilt, tmp_path):
    path = write_type(spoilt, 3, [plus_row(3)])
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=f"{FOLDERS[3]}.*parquet: found unreadable bytes"):
        pie_plus_cases(spoilt)
    path.unlink()
    with pytest.raises(InputError, match=f"{FOLDERS[3]}.*parquet: found no such file"):
        pie_plus_cases(spoilt)
    row = plus_row(3)
    del row["edit_action"]
    write_type(spoilt, 3, [row])
    with pytest.raises(InputError, match=f"{FOLDERS[3]}.*parquet, key 'edit_action': found only image, id"):
        pie_plus_cases(spoilt)
    with pytest.raises(InputError, match="no such folder"):
        pie_plus_cases(tmp_path / "nowhere")
