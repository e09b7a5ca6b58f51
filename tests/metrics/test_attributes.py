"""Attribute scores on readings written by hand."""

import math

from lib.metrics.attributes import attribute_accuracy, attribute_preservation, edit_happened

BEFORE = {"object.0": "cat", "tint.0": "golden", "background": "blue", "object.1": "none"}


def test_accuracy_is_the_share_read_as_wanted():
    changed = {"object.0": "dog", "tint.0": "red"}
    assert attribute_accuracy({"object.0": "dog", "tint.0": "red", "background": "odd"}, changed) == 1
    assert attribute_accuracy({"object.0": "dog", "tint.0": "golden"}, changed) == 0.5
    assert attribute_accuracy({"object.0": "dog"}, changed) == 0.5  # not read at all is wrong
    assert attribute_accuracy({}, changed) == 0
    assert math.isnan(attribute_accuracy(BEFORE, {}))


def test_preservation_is_the_share_that_stayed():
    protected = {"background": "blue", "pattern": "plain", "object.0": "cat", "size.0": "big"}
    assert attribute_preservation(protected, protected) == 1
    assert attribute_preservation(protected | {"background": "red"}, protected) == 0.75
    assert math.isnan(attribute_preservation(BEFORE, {}))


def test_an_edit_happened_if_any_changed_attribute_differs_from_before():
    changed = {"object.0": "dog", "tint.0": "red"}
    assert edit_happened(BEFORE, BEFORE, changed) == 0
    assert edit_happened(BEFORE | {"tint.0": "green"}, BEFORE, changed) == 1  # wrong, but changed
    assert edit_happened(BEFORE | {"background": "red"}, BEFORE, changed) == 0  # none of the edit's business
    assert edit_happened(BEFORE | {"object.1": "car"}, BEFORE, {"object.1": "hat"}) == 1
    assert math.isnan(edit_happened(BEFORE, BEFORE, {}))
