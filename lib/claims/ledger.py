"""claims.yaml: what each paper claims and how it is tested, written down before the runs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from lib.core.errors import InputError
from lib.core.paths import ROOT

LEDGER = ROOT / "claims.yaml"
SETTING = re.compile(r"@(?P<name>[a-z_]+)=(?P<value>[^@=\s]+)$")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Between(_Strict):
    """An interaction: the effect where `column` is the first level, minus the effect where it is the second."""

    column: str
    levels: tuple[str | int, str | int]


class Test(_Strict):
    """How a claim is tested, in arms and metrics of runs/<notebook>/results.parquet.

    superiority  arms [a, b]: a − b lies in the `direction` of `margin` (0 unless given; beyond it in the direction's
                 sense: "higher" than −0.5 is non-inferiority). One arm: its own value against the margin. With
                 `at_equal`, the curves of the two arms along their settings `along` are compared at equal mean of that
                 metric; with `between`, the effect at the first level minus that at the second.
    equivalence  arms [a, b]: a − b (one arm: a) lies within ± `margin`.
    trend        arms in the order of their settings (or of `levels`): per case, the slope (or Spearman's correlation:
                 `statistic`) goes in the direction. With `across`, one arm or a − b of two: Spearman's correlation of
                 the metric with the metric `across` over cases.
    identity     arms [a, b]: |a − b| (one arm: |a|) is at most `tolerance` in every case and seed.
    """

    __test__ = False  # not a test of pytest's

    notebook: str
    arms: tuple[str, ...] = Field(min_length=1)
    metric: str
    direction: Literal["higher", "lower"] | None = None
    margin: float | None = None
    tolerance: float | None = Field(default=None, ge=0)
    strata: str | None = None
    image: str | None = None
    at_equal: str | None = None
    along: tuple[str, str] | None = None
    between: Between | None = None
    levels: tuple[float, ...] | None = None
    statistic: Literal["slope", "spearman"] = "slope"
    across: str | None = None

    @property
    def series(self) -> tuple[float, ...]:
        """The levels of a trend: those given, else the settings in the names of the arms."""
        return self.levels or tuple(float(found["value"]) for arm in self.arms if (found := SETTING.search(arm)))


class Claim(_Strict):
    """One claim of one paper. `paper_value` is the paper's effect in the unit of the test, or null; the note says more.

    `command` tests a claim that needs real weights.
    """

    id: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9.]+)+$")
    paper: str = Field(min_length=1)
    kind: Literal["superiority", "equivalence", "trend", "identity"]
    statement: str = Field(min_length=1)
    paper_value: float | None
    note: str = ""
    confirmatory: bool
    needs_weights: bool = False
    command: str | None = None
    test: Test

    @property
    def measure(self) -> str:
        """What the effect is of: claims with the same measure have the same unit."""
        if self.test.across:
            return f"correlation of {self.test.metric} with {self.test.across}"
        how = {"slope": "slope", "spearman": "rank correlation with the setting"}[self.test.statistic]
        return f"{self.test.metric}, {how}" if self.kind == "trend" else self.test.metric

    @field_validator("statement")
    @classmethod
    def _one_line(cls, text: str) -> str:
        return " ".join(text.split())

    @model_validator(mode="after")
    def _complete(self) -> Claim:
        for problem in self._problems():
            raise ValueError(problem)
        return self

    def _problems(self) -> list[str]:
        test, found = self.test, []
        counts = {"superiority": (1, 2), "equivalence": (1, 2), "identity": (1, 2), "trend": (3, 99)}[self.kind]
        if test.across:
            counts = (1, 2)
        if not counts[0] <= len(test.arms) <= counts[1]:
            wanted = "-".join(map(str, dict.fromkeys(counts))) if counts[1] < 99 else "3 or more"
            found.append(f"{len(test.arms)} arms where {wanted} belong")
        if len(set(test.arms)) != len(test.arms):
            found.append("an arm twice")
        if (self.kind in ("superiority", "trend")) != (test.direction is not None):
            found.append("direction: superiority and trend need one, the others have none")
        if self.kind == "superiority" and len(test.arms) == 1 and test.margin is None and test.between is None:
            found.append("one arm without a margin to compare it with")
        if self.kind == "equivalence" and not (test.margin or 0) > 0:
            found.append("equivalence without a positive margin")
        if self.kind in ("trend", "identity") and test.margin is not None:
            found.append(f"a margin, which {self.kind} has not")
        if (self.kind == "identity") != (test.tolerance is not None):
            found.append("tolerance: identity needs one, the others have none")
        if (test.at_equal is None) != (test.along is None) or (test.at_equal and len(test.arms) != 2):
            found.append("at_equal and along: both or neither, with two arms")
        if self.kind != "superiority" and (test.at_equal or test.between):
            found.append("at_equal and between belong to superiority")
        if self.kind == "trend" and not test.across and len(test.series) != len(test.arms):
            found.append("a trend whose arms have no settings `name@setting=number` and no levels, one for each")
        if test.across and self.kind != "trend":
            found.append("across, which belongs to trend")
        if self.needs_weights != bool(self.command):
            found.append("needs_weights and command: both or neither")
        return found


def load_claims(path: str | Path = LEDGER) -> list[Claim]:
    """The claims in the file's order. One InputError naming the claim and the field for whatever is wrong with it."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    path = Path(path)
    try:
        read = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"file {path.name}", found="no such file", expected="a list of claims") from error
    except (YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"file {path.name}", found=error, expected="YAML 1.2 in UTF-8") from error
    return parse_claims(read, path.name)


def parse_claims(read: Any, thing: str = "claims.yaml") -> list[Claim]:
    """Claims from plain values. InputError for what is no list of valid claims with ids of their own."""
    if not isinstance(read, list) or not read:
        raise InputError(thing, found=f"{read!r:.60}", expected="a list of claims")
    claims, seen = [], set()
    for position, entry in enumerate(read):
        named = entry.get("id") if isinstance(entry, Mapping) else None
        name = f"claim {named or f'number {position + 1}'} in {thing}"
        try:
            claim = Claim.model_validate(entry)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            found = f"{where} = {first['input']!r:.60}" if where else first["msg"].removeprefix("Value error, ")
            expected = first["msg"] if where else "what the kind asks for (lib/claims/ledger.py)"
            raise InputError(name, found=found, expected=expected) from error
        if claim.id in seen:
            raise InputError(name, found="the same id twice", expected="an id of its own for each claim")
        seen.add(claim.id)
        claims.append(claim)
    return claims
