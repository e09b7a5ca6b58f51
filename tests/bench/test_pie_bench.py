"""PIE-Bench's layout, its traps, and what a damaged folder says."""

import copy
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.bench.cases import form_batches
from lib.bench.pie_bench import COUNTS, pie_bench_cases, target_object, unbracket, verify
from lib.bench.rle import decode
from lib.core.errors import InputError
from lib.editors.lore import object_spans
from tests.bench.layouts import BLOCK, PIE, PIE_COUNTS, changed, write_mapping, write_pie


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Whole; a test that spoils its mapping file does so in `spoilt`."""
    return write_pie(tmp_path_factory.mktemp("pie"))


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory):
    """Pictures that stay, and a mapping file that every test writes anew."""
    return write_pie(tmp_path_factory.mktemp("spoilt"))


def test_cases_are_what_the_file_says(folder):
    cases = list(pie_bench_cases(folder))
    first, second = cases[0], cases[1]
    assert [case.id for case in cases] == [f"pie-bench-{key}" for key in PIE]
    assert (first.source_prompt, first.target_prompt) == (
        "a cat on a red sofa",
        "a cat on a blue velvet sofa with a lamp",
    )
    assert (first.instruction, second.instruction) == ("make the sofa blue", None)
    assert [case.edit_type for case in cases] == [0, 1, 2, 9]
    assert first.benchmark == "pie-bench"
    assert first.extras["key"] == "000000000000"
    assert first.extras["image_path"] == PIE["000000000000"]["image_path"]
    assert [case.extras["blended_word"] for case in cases] == ["red blue", "", "", ""]
    assert [case.extras["local_phrase"] for case in cases] == ["blue velvet, a lamp", "fox", None, None]
    assert first.image.shape == (3, 512, 512)


def test_masks_are_the_runs_with_and_without_the_ring(folder):
    for plain, ringed, sample in zip(
        pie_bench_cases(folder), pie_bench_cases(folder, ring=True), PIE.values(), strict=True
    ):
        assert torch.equal(plain.mask, decode(sample["mask"]))
        assert torch.equal(ringed.mask, decode(sample["mask"], ring=True))
        assert torch.equal(plain.extras["ring_mask"], ringed.mask)
    assert [int(case.mask.sum()) for case in pie_bench_cases(folder)] == [40, 10, 0, 512 * 512]


def test_cases_make_batches_and_are_read_anew(folder):
    cases = pie_bench_cases(folder)
    assert [len(batch) for batch in form_batches(cases, 3)] == [3, 1]
    assert cases[-1].id == cases[3].id
    assert cases[-1] is not cases[3]  # nothing is kept
    assert [case.id for case in cases[1:3]] == [cases[1].id, cases[2].id]
    with pytest.raises(IndexError):
        cases[4]


@pytest.mark.parametrize(
    ("prompt", "plain", "phrase"),
    [
        ("a cat", "a cat", None),
        ("a [red] cat", "a red cat", "red"),
        ("a [ red ] cat", "a  red  cat", "red"),
        ("[a] cat [in [a [hat]]]", "a cat in a hat", "a, in a hat"),
        ("a [] cat", "a  cat", None),
        ("a [red cat", "a red cat", None),
        ("a red] cat", "a red cat", None),
        ("] a [red] cat [", " a red cat ", "red"),
        ("", "", None),
    ],
)
def test_brackets_go_and_words_stay(prompt, plain, phrase):
    assert unbracket(prompt) == (plain, phrase)


@pytest.mark.parametrize(
    ("target", "source", "blended", "wanted"),
    [
        ("a [dog] on a mat", "a [cat] on a mat", "cat dog", "dog"),
        ("a [rusty] bicycle", "a [new] bicycle", "bicycle bicycle", "bicycle"),  # the thing, not the new word
        ("a [Polar Bear] on ice", "a [teddy] on ice", "teddy polar bear", "polar bear"),
        ("a [polar bear] on ice", "a [teddy bear] on ice", "teddy bear polar bear", "polar bear"),
        ("a [dog]", "a [cat]", "cat,big dog", "dog"),  # "big dog" is not in the prompt
        ("a [dog]", "a [cat]", "dog", "dog"),  # half of blended words says nothing
        ("a cat [with a hat]", "a cat", "", "with a hat"),
        ("[a] cat in [a [red] hat]", "a cat", "", "a red hat"),  # the first phrase has no new word
        ("a [hotdog]", "a [cat]", "cat dog", "hotdog"),  # whole words
        ("a cat", "a cat [with a hat]", "hat cat", "cat"),
        ("a cat", "a cat [with a hat]", "", None),
        ("a [cat", "a dog", "", None),
        ("a [cat]", "a [cat]", "", None),
        ("a [blue] sofa", "a [red] sofa", [["red", "blue"]], "blue"),
        ("a [blue] sofa", "a [red] sofa", ["red", "blue"], "blue"),
        ("a sofa with [a lamp]", "a sofa", ["red,blue", "table,lamp"], "lamp"),
        ("a [blue] sofa", "a [red] sofa", {"red": "blue"}, "blue"),
        ("a [blue] sofa", "a [red] sofa", [[["red", "lamp"]], 3, None], "blue"),
        ("a [blue] sofa", "a [red] sofa", None, "blue"),
        ("a [(blue)] sofa", "a [red] sofa", "red (", "(blue)"),
    ],
)
def test_what_an_edit_is_about(target, source, blended, wanted):
    assert target_object(target, source, blended) == ({} if wanted is None else {"target_object": wanted})


def test_lore_finds_its_object(folder):
    cases = list(pie_bench_cases(folder))
    assert [case.extras.get("target_object", "-") for case in cases] == ["blue", "fox", "-", "-"]
    for case in cases[:2]:
        ((begin, end),) = object_spans(case)
        assert case.target_prompt[begin:end] == case.extras["target_object"]
    assert object_spans(cases[2])  # the words that the source prompt lacks


def test_the_official_counts():
    assert sum(COUNTS.values()) == 700
    assert [COUNTS[edit_type] for edit_type in range(10)] == [140, 80, 80, 80, 40, 40, 40, 40, 80, 80]


def test_verify_counts_every_type(folder):
    assert verify(folder, PIE_COUNTS) == PIE_COUNTS
    with pytest.raises(InputError, match=r"mapping_file.json, number of cases of type 0: found 1; expected 140"):
        verify(folder)
    with pytest.raises(InputError, match="type 9: found 1; expected 0"):
        verify(folder, {0: 1, 1: 1, 2: 1})


def test_verify_reads_every_picture(tmp_path):
    write_pie(tmp_path)
    path = tmp_path / "annotation_images" / PIE["921000000007"]["image_path"]
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputError, match=r"image .*921000000007.jpg: found unreadable bytes"):
        verify(tmp_path, PIE_COUNTS)


def test_pictures_of_another_size_are_refused(tmp_path):
    cases = pie_bench_cases(write_pie(tmp_path, side=64))
    with pytest.raises(InputError, match=r"image .*000000000000.jpg: found 64 x 64 pixels; expected 512 x 512 pixels"):
        cases[0]


def test_missing_files_are_named(tmp_path):
    with pytest.raises(InputError, match=r"folder .*nowhere: found no such folder"):
        pie_bench_cases(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"mapping_file.json: found no such file"):
        pie_bench_cases(tmp_path)
    write_mapping(tmp_path, PIE)
    with pytest.raises(InputError, match=r"sample '000000000000', key 'image_path': found no file .*000000000000.jpg"):
        pie_bench_cases(tmp_path)


KEY = "111000000000"


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ("", "mapping_file.json: found unreadable JSON"),
        ("[1, 2", "mapping_file.json: found unreadable JSON"),
        ("[" * 100000, "mapping_file.json: found unreadable JSON"),
        ([], "found a list; expected an object"),
        ({}, "found an empty object"),
        ({"1": 2}, "sample '1': found a int; expected an object with the key 'image_path'"),
        ('{"a": 1, "a": 2}', "key 'a': found the key more than once"),
        (changed(KEY, mask=None), f"sample '{KEY}', key 'mask': found no such key; expected a list"),
        (changed(KEY, mask="1 2"), f"sample '{KEY}', key 'mask': found '1 2' \\(a str\\); expected a list"),
        (changed(KEY, mask=[1]), f"sample '{KEY}', key 'mask': found 1 numbers"),
        (changed(KEY, mask=[-4, 1]), f"sample '{KEY}', key 'mask': found start -4"),
        (changed(KEY, mask=[512 * 512, 1]), f"sample '{KEY}', key 'mask': found start 262144"),
        (changed(KEY, mask=[1.5, 1]), f"sample '{KEY}', key 'mask': found 1.5, 1 as run 0"),
        (changed(KEY, editing_type_id=1), "key 'editing_type_id': found 1 \\(a int\\); expected a str"),
        (changed(KEY, editing_type_id="10"), "key 'editing_type_id': found '10'"),
        (changed(KEY, editing_type_id="²"), "key 'editing_type_id': found '²'"),
        (changed(KEY, editing_prompt="[ ]"), "key 'editing_prompt': found no words"),
        (changed(KEY, image_path="../secret.jpg"), "key 'image_path': found '../secret.jpg'; expected a path below"),
        (changed(KEY, image_path="/etc/hosts"), "key 'image_path': found '/etc/hosts'; expected a path below"),
        (changed(KEY, image_path=""), "key 'image_path': found no file"),
        (changed(KEY, image_path="x" * 5000), "key 'image_path': found no file"),
        (changed(KEY, image_path="\0"), "key 'image_path': found no file"),
        (changed(KEY, image_path=PIE["000000000000"]["image_path"]), "image paths: found '0_random_140/0.* than once"),
        (changed(KEY, origin={"id": "a"}), "origin, key 'benchmark': found no such key"),
    ],
)
def test_a_damaged_mapping_names_file_and_key(spoilt, samples, message):
    write_mapping(spoilt, samples)
    with pytest.raises(InputError, match=f"^{spoilt}.*{message}"):
        pie_bench_cases(spoilt)


def test_bytes_that_are_no_text_are_refused(spoilt):
    (spoilt / "mapping_file.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(InputError, match="unreadable JSON"):
        pie_bench_cases(spoilt)


keys = st.sampled_from(sorted(PIE["000000000000"]))
other_types = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.dictionaries(st.text(), st.none()))


@st.composite
def damaged(draw):
    """The text of a mapping file with a key deleted, a value of another type, a bad run, or its end cut off."""
    samples = copy.deepcopy(PIE)
    sample, key = samples[draw(st.sampled_from(sorted(PIE)))], draw(keys)
    damage = draw(st.sampled_from(["deleted", "retyped", "run", "cut"]))
    if damage == "deleted":
        del sample[key]
    elif damage == "retyped":
        sample[key] = draw(other_types | (st.text() if key == "mask" else st.lists(st.text(), max_size=2)))
    elif damage == "run":
        sample["mask"] = BLOCK + draw(
            st.lists(st.integers(), min_size=1, max_size=1)
            | st.tuples(st.integers(max_value=-1), st.integers()).map(list)
            | st.tuples(st.integers(), st.integers(max_value=-1)).map(list)
            | st.tuples(st.integers(min_value=512 * 512), st.integers()).map(list)
        )
    text = json.dumps(samples)
    return text[: draw(st.integers(0, len(text) - 1))] if damage == "cut" else text


@settings(max_examples=100, deadline=None)
@given(text=damaged())
def test_every_damage_is_one_input_error(spoilt, text):
    write_mapping(spoilt, text)
    with pytest.raises(InputError) as caught:
        pie_bench_cases(spoilt)
    assert str(caught.value).startswith(str(spoilt / "mapping_file.json"))
    assert "\n" not in str(caught.value)
