"""Scores of what a picture shows, by the attributes a parser read from it (`object.0`: "cat", `pattern`: "striped").

An attribute that the parser did not read at all counts as wrong: its object is not there.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import nan


def attribute_accuracy(read: Mapping[str, str], changed: Mapping[str, str]) -> float:
    """Share in [0, 1] of the changed attributes that read as wanted; NaN if the edit changes none."""
    return _share(read, changed)


def attribute_preservation(read: Mapping[str, str], protected: Mapping[str, str]) -> float:
    """Share in [0, 1] of the protected attributes that read as they were; NaN if there is none."""
    return _share(read, protected)


def edit_happened(read: Mapping[str, str], before: Mapping[str, str], changed: Mapping[str, str]) -> float:
    """1 if any attribute that the edit changes reads differently from `before`, else 0; NaN if the edit changes none.

    It need not read as wanted: this tells an edit gone wrong from none at all.
    """
    return float(any(read.get(name) != before.get(name) for name in changed)) if changed else nan


def _share(read: Mapping[str, str], wanted: Mapping[str, str]) -> float:
    return sum(read.get(name) == value for name, value in wanted.items()) / len(wanted) if wanted else nan
