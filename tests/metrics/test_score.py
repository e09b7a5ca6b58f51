"""Scoring: tidy rows, the right case for each result, nothing invented where something lacks."""

import math
from dataclasses import dataclass, field

import pytest
import torch

from lib.bench.cases import EditCase
from lib.core.errors import InputError
from lib.metrics import score as module
from lib.metrics.pixels import background_psnr, background_ssim, target_psnr
from lib.metrics.score import METRICS, score


@dataclass(frozen=True, eq=False)
class Made:
    case_id: str
    image: torch.Tensor
    recipe: dict = field(default_factory=lambda: {"editor": "sdedit", "seed": 4})


class ByBrightness:
    """Reads a "cat" from a dark picture, a "dog" from a bright one, and a "plain" pattern always."""

    def __init__(self):
        self.batches = []

    def read(self, images):
        assert images.ndim == 4
        self.batches.append(len(images))
        return [{"object.0": "dog" if image.mean() > 0.5 else "cat", "pattern": "plain"} for image in images]


class ByCorner:
    """Sees the red of the upper left pixel; every text means red."""

    name = "by corner"

    def embed_images(self, images):
        red = images[:, 0, 0, 0]
        return torch.stack([red, (1 - red**2).sqrt()], dim=1)

    def embed_texts(self, texts):
        assert set(texts) == {"dog"}
        return torch.tensor([[1.0, 0.0]]).expand(len(texts), 2)


def make(i, *, size=16, mask=True, target=True, attributes=True):
    generator = torch.Generator().manual_seed(i)
    image, target_image = torch.rand(2, 3, size, size, generator=generator)
    region = torch.zeros(1, size, size, dtype=torch.bool)
    region[:, : i + 1, :3] = True
    extras = {"changed": {"object.0": "dog"}, "protected": {"pattern": "plain"}, "before": {"object.0": "cat"}}
    return EditCase(
        id=f"case-{i}",
        image=image,
        target_prompt="dog",
        mask=region if mask else None,
        target_image=target_image if target else None,
        extras=extras if attributes else {},
    )


def shade(case, value):
    return Made(case.id, (0.2 * case.image + 0.8 * value).clamp(0, 1))


def test_every_row_belongs_to_its_case():
    cases = [make(i, size=16 if i % 2 else 20) for i in range(5)]
    results = [shade(case, i / 4) for i, case in enumerate(cases)]
    rows = score(results, cases[::-1], ByBrightness(), clip=ByCorner())
    assert [row["case"] for row in rows] == [case.id for case in cases for _ in METRICS]
    assert [row["metric"] for row in rows] == [*METRICS] * 5
    by_clip = [row["value"] for row in rows if row["metric"] == "clip_t"]
    expected = [ByCorner().embed_images(result.image[None])[0, 0].item() for result in results]
    assert by_clip == pytest.approx(expected, abs=1e-6)
    assert {(row["arm"], row["seed"]) for row in rows} == {("sdedit", 4)}
    value = {(row["case"], row["metric"]): row["value"] for row in rows}
    for i, (case, made) in enumerate(zip(cases, results, strict=True)):
        image, source, mask, target = (x[None] for x in (made.image, case.image, case.mask, case.target_image))
        assert value[case.id, "background_psnr"] == pytest.approx(background_psnr(image, source, mask).item())
        assert value[case.id, "background_ssim"] == pytest.approx(background_ssim(image, source, mask).item())
        assert value[case.id, "target_psnr"] == pytest.approx(target_psnr(image, target).item())
        assert (
            value[case.id, "attribute_accuracy"]
            == value[case.id, "edit_happened"]
            == (i > 2 or made.image.mean() > 0.5)
        )
        assert value[case.id, "attribute_preservation"] == 1
    assert len({value[case.id, "background_psnr"] for case in cases}) == 5


def test_values_lie_in_the_declared_range():
    cases = [make(i) for i in range(4)]
    for row in score([shade(case, 1.0) for case in cases], cases, ByBrightness()):
        low, high = METRICS[row["metric"]].range
        assert low <= row["value"] <= high
    assert {metric.direction for metric in METRICS.values()} <= {"higher", "lower"}


@pytest.mark.parametrize(
    ("lacks", "gone"),
    [
        ("mask", {"background_psnr", "background_ssim"}),
        ("target", {"target_psnr"}),
        ("attributes", {"attribute_accuracy", "attribute_preservation", "edit_happened"}),
    ],
)
def test_what_a_case_lacks_has_no_row(lacks, gone):
    cases = [make(0, **{lacks: False}), make(1)]
    rows = score([shade(case, 0.9) for case in cases], cases, ByBrightness(), clip=ByCorner())
    assert {row["metric"] for row in rows if row["case"] == "case-0"} == set(METRICS) - gone
    assert {row["metric"] for row in rows if row["case"] == "case-1"} == set(METRICS)


def test_without_a_judge_there_is_nothing_that_needs_it():
    cases = [make(0)]
    found = {row["metric"] for row in score([shade(cases[0], 0.9)], cases)}
    assert found == {name for name, metric in METRICS.items() if metric.needs not in ("attributes", "clip")}


def test_no_background_is_nan_and_stays_in_the_table():
    case = make(0)
    case = EditCase(id="all", image=case.image, target_prompt="x", mask=torch.ones(1, 16, 16, dtype=torch.bool))
    rows = score([shade(case, 0.5)], [case])
    assert [row["metric"] for row in rows] == ["background_psnr", "background_ssim"]
    assert all(math.isnan(row["value"]) for row in rows)


def test_the_parser_reads_in_batches(monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 3)
    cases, parser = [make(i) for i in range(7)], ByBrightness()
    whole = score([shade(case, 0.9) for case in cases], cases, parser)
    assert parser.batches == [3, 3, 1]
    assert len(whole) == 7 * (len(METRICS) - 1)  # no CLIP


def test_an_arm_may_have_its_own_name_and_several_seeds():
    case = make(0)
    results = [Made(case.id, case.image, {"editor": "sdedit", "seed": seed}) for seed in (0, 1)]
    rows = score(results, [case], arm="sdedit, start .5")
    assert [(row["arm"], row["seed"]) for row in rows] == [("sdedit, start .5", s) for s in (0, 1) for _ in range(3)]


def test_results_that_fit_no_case_are_refused():
    case = make(0)
    with pytest.raises(InputError, match="'other'"):
        score([Made("other", case.image)], [case])
    with pytest.raises(InputError, match="case 'case-0'"):
        score([Made(case.id, case.image[:, :8])], [case])
