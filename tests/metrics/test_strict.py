"""Strict scores against loops and planted cases, and their rows of the table."""

import math

import pytest
import torch

from lib.bench.cases import EditCase, collate
from lib.bench.pie_bench import pie_bench_cases
from lib.core.errors import InputError
from lib.core.images import quantise
from lib.metrics import strict
from lib.metrics.perceptual import lpips, lpips_map, structure_distance
from lib.metrics.pixels import background_psnr, target_psnr
from lib.metrics.strict import bounding_box, over_edit_share, seam_score
from lib.metrics.tables import TABLE, Extractors, score_batch
from tests.bench.layouts import PIE, write_pie
from tests.metrics.test_extractors import BAD_IMAGES, Pooled, TwoConvs, TwoLayerKeys, pictures


def background_lpips(image, source, mask):
    return strict.background_lpips(image, source, mask, TwoConvs())


def background_lpips_paste(image, source, mask):
    return strict.background_lpips_paste(image, source, mask, TwoConvs())


MASKED = [strict.background_mse, background_lpips, background_lpips_paste, over_edit_share]


def test_mse_of_complementary_masks_adds_up():
    image, source, mask = pictures()
    inside, outside = strict.background_mse(image, source, ~mask), strict.background_mse(image, source, mask)
    number = mask.double().sum(dim=(1, 2, 3))
    whole = strict.background_mse(image, source, torch.zeros_like(mask))
    assert torch.allclose(inside * number + outside * (40 * 48 - number), whole * 40 * 48, rtol=1e-12)
    assert torch.allclose(-10 * whole.log10(), target_psnr(image, source), rtol=1e-12)
    assert torch.allclose(-10 * outside.log10(), background_psnr(image, source, mask), rtol=1e-12)


def test_a_constant_shift_is_its_square_for_any_mask():
    source, image = torch.full((3, 3, 40, 48), 100 / 255), torch.full((3, 3, 40, 48), 151 / 255)
    mask = pictures()[2]
    assert strict.background_mse(image, source, mask).tolist() == pytest.approx([0.04] * 3, abs=1e-7)


def test_lpips_averages_the_map_outside_the_mask():
    image, source, mask = pictures()
    full = lpips_map(image, source, TwoConvs())
    wanted = [full[i][~mask[i]].mean().item() for i in range(3)]
    assert background_lpips(image, source, mask).tolist() == pytest.approx(wanted, rel=1e-9)
    nothing = torch.zeros_like(mask)
    assert background_lpips_paste(image, source, nothing).tolist() == lpips(image, source, TwoConvs()).tolist()


def test_what_happens_inside_the_mask_leaks_out_of_the_map_and_not_of_the_paste():
    image, source, mask = pictures()
    edited = torch.where(mask, 1 - image, image)
    assert torch.equal(background_lpips_paste(edited, source, mask), background_lpips_paste(image, source, mask))
    assert torch.equal(strict.background_mse(edited, source, mask), strict.background_mse(image, source, mask))
    inside = torch.where(mask, 1 - source, source)
    assert background_lpips_paste(inside, source, mask).tolist() == [0.0] * 3
    leak = background_lpips(inside, source, mask)
    assert (leak > 0).all()
    assert (leak < 0.5 * background_lpips(inside, source, ~mask)).all()


@pytest.mark.parametrize("metric", MASKED)
def test_identity_symmetry_polarity_order_and_batches(metric):
    image, source, mask = pictures(n=4)
    values = metric(image, source, mask)
    assert values.dtype == torch.float64
    assert metric(source, source, mask).tolist() == [0.0] * 4
    if metric is not background_lpips_paste:  # which differs with the picture that is pasted
        assert torch.allclose(metric(source, image, mask), values, rtol=1e-12)
    outside = torch.where(mask, source, image)
    assert (metric(outside, source, mask) > 2 * metric(outside, source, ~mask)).all()
    order = [2, 0, 3, 1]
    assert torch.allclose(metric(image[order], source[order], mask[order]), values[order], rtol=1e-5)
    single = [metric(image[i : i + 1], source[i : i + 1], mask[i : i + 1]) for i in range(4)]
    assert torch.allclose(torch.cat(single), values, rtol=1e-5)


@pytest.mark.parametrize("metric", MASKED)
def test_no_background_is_nan_in_its_row_alone(metric):
    image, source, mask = pictures()
    mask[1] = True
    assert metric(image, source, mask).isnan().tolist() == [False, True, False]


def test_structure_is_on_values_to_one():
    keys, white = TwoLayerKeys(), torch.ones(1, 3, 40, 40)
    strict.structure(white, white, keys)
    wanted = [(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225]
    assert keys.shown[0].mean(dim=(0, 2, 3)).tolist() == pytest.approx(wanted, rel=1e-5)
    image, source, _ = pictures()
    found = strict.structure(image, source, TwoLayerKeys())
    assert torch.equal(found, structure_distance(image, source, TwoLayerKeys(), scale=1, antialias=True))


def test_the_bounding_box_and_its_margin():
    mask = torch.zeros(1, 40, 50, dtype=torch.bool)
    mask[0, 10:20, 44] = mask[0, 12, 24:44] = True  # a box of 10 x 21
    assert bounding_box(mask, 0) == (10, 20, 24, 45)
    assert bounding_box(mask, 0.1) == (9, 21, 22, 47)
    assert bounding_box(mask, 1) == (0, 30, 3, 50)  # the frame ends it
    assert bounding_box(~mask, 0.1) == (0, 40, 0, 50)
    assert bounding_box(torch.zeros_like(mask)) is None
    with pytest.raises(InputError, match="margin"):
        bounding_box(mask, -0.1)


def test_clip_sees_the_crop():
    encoder, (image, _, mask) = Pooled(), pictures()
    mask[1] = False
    found = strict.clip_crop(image, mask, ["a", "b", "c"], encoder, margin=0.2)
    assert found.isnan().tolist() == [False, True, False]
    for shown, i in zip(encoder.shown, (0, 2), strict=True):
        top, bottom, left, right = bounding_box(mask[i], 0.2)
        assert torch.equal(shown, image[i : i + 1, :, top:bottom, left:right])
    assert encoder.told == [["a"], ["c"]]
    cosine = torch.cosine_similarity(encoder.embed_images(encoder.shown[1]), encoder.embed_texts(["c"])).item()
    assert found[2].item() == pytest.approx(100 * cosine, abs=1e-3)


def striped(step_in, step_out, jump, side=32):
    """Rows of equal steps along x, mirrored in a jump between the columns 15 and 16; the right half is the mask."""
    steps = [step_out] * 15 + [jump] + [step_in] * 15
    signs = [(-1) ** i for i in range(15)] + [1] + [(-1) ** i for i in range(15)]
    line = torch.tensor([0.0, *(s * d for s, d in zip(signs, steps, strict=True))]).cumsum(0) + 0.2
    mask = torch.zeros(1, 1, side, side, dtype=torch.bool)
    mask[..., 16:] = True
    return line.expand(1, 3, side, side).contiguous(), mask


def test_a_seam_in_closed_form():
    levels = 1 / 255
    for step_in, step_out, jump in ((10, 10, 10), (10, 30, 20), (10, 10, 50), (0, 0, 50), (10, 30, 0), (0, 0, 0)):
        image, mask = striped(step_in * levels, step_out * levels, jump * levels)
        around = (step_in + step_out) / 2
        wanted = (jump - around) / (jump + around) if jump + around else 0
        assert seam_score(image, mask).item() == pytest.approx(wanted, abs=1e-5)
        assert seam_score(image.mT.contiguous(), mask.mT.contiguous()).item() == pytest.approx(wanted, abs=1e-5)
        assert seam_score(image, ~mask).item() == pytest.approx(wanted, abs=1e-5)


def test_a_pasted_patch_shows_its_seam():
    height, width = 40, 48
    ramp = (torch.arange(height)[:, None] + torch.arange(width)).float() / 255
    source = (76 / 255 + ramp).expand(2, 3, height, width).contiguous()
    mask = torch.zeros(2, 1, height, width, dtype=torch.bool)
    mask[:, :, 12:30, 10:25] = True
    image = torch.where(mask, source + 25 / 255, source)
    assert seam_score(source, mask).tolist() == pytest.approx([0.0] * 2, abs=1e-4)
    assert (seam_score(image, mask) > 0.8).all()
    far = image.clone()
    far[..., :4, :] = torch.rand(2, 3, 4, width)  # further from the border than its reach
    assert torch.equal(seam_score(far, mask), seam_score(image, mask))
    mask[0], mask[1] = True, False
    assert seam_score(image, mask).isnan().all()


def test_over_edit_counts_the_pixels_of_the_background_that_changed():
    _, source, mask = pictures()
    source = quantise(source) * (200 / 255)
    source = quantise(source)
    image = source.clone()
    image[:, 1, :3, :5] += 11 / 255  # 15 pixels, above the masks, in one channel
    image[:, :, 3, :5] += 10 / 255  # not more than the threshold
    image = torch.where(mask, 1 - source, image)
    background = (~mask).double().sum(dim=(1, 2, 3))
    assert over_edit_share(image, source, mask).tolist() == pytest.approx((15 / background).tolist())
    assert over_edit_share(image, source, mask, 9).tolist() == pytest.approx((20 / background).tolist())
    assert over_edit_share(image, source, mask, 11).tolist() == [0.0] * 3
    with pytest.raises(InputError, match="levels"):
        over_edit_share(image, source, mask, 255)


@pytest.mark.parametrize("spoil", BAD_IMAGES.values(), ids=BAD_IMAGES.keys())
@pytest.mark.parametrize("metric", MASKED)
def test_wrong_images_are_refused(metric, spoil):
    image, source, mask = pictures()
    for pair in ((spoil(image), source), (image, spoil(source))):
        with pytest.raises(InputError, match="images"):
            metric(*pair, mask)


@pytest.mark.parametrize(
    "metric", [*MASKED, lambda x, y, m: seam_score(x, m), lambda x, y, m: strict.clip_crop(x, m, ["a"] * 3, Pooled())]
)
def test_wrong_masks_are_refused(metric):
    image, source, mask = pictures()
    for wrong in (mask.float(), mask[..., 1:], mask[:1], mask[:, 0]):
        with pytest.raises(InputError, match="mask"):
            metric(image, source, wrong)


def test_rows_of_the_table():
    image, source, mask = pictures()
    target = pictures(seed=9)[1]
    ids = ["a", "b", "c"]
    made = [
        EditCase(
            id=ids[i],
            image=source[i],
            target_prompt=f"a [dog] {i}",
            source_prompt=f"a cat {i}",
            mask=mask[i],
            target_image=target[i] if i else None,
            extras=[{}, {"local_phrase": "a [small] dog"}, {"local_phrase": None}][i],
        )
        for i in range(3)
    ]
    extractors = Extractors(perceptual=TwoConvs(), keys=TwoLayerKeys(), clip=Pooled(), identity=Pooled())
    names = {name for name, row in TABLE.items() if row.namespace == "strict"}
    rows = score_batch(collate(made), image, "strict", extractors, arm="x")
    value = {(row["case"], row["metric"].removeprefix("strict/")): row["value"] for row in rows}
    assert {row["metric"] for row in rows if row["case"] == "b"} == names
    lacking = names - {row["metric"] for row in rows if row["case"] == "a"}
    assert lacking == {"strict/target_psnr", "strict/clip_i", "strict/identity_target"}
    assert value["c", "target_psnr"] == pytest.approx(target_psnr(image[2:], target[2:]).item())
    assert [value[i, "background_psnr"] for i in ids] == pytest.approx(background_psnr(image, source, mask).tolist())
    assert extractors.clip.told[0:3] == [["a dog 0"], ["a small dog"], ["a dog 2"]]  # its phrase where a case has one
    assert value["a", "identity_source"] == pytest.approx(value_of_identity(image[:1], source[:1]), abs=1e-6)
    for row in rows:
        low, high = TABLE[row["metric"]].range
        assert low <= row["value"] <= high
    copied = score_batch(collate(made), source, "strict", extractors, arm="copy")
    unmoved = [row["value"] for row in copied if row["metric"] == "strict/clip_directional"]
    assert all(math.isnan(number) for number in unmoved)
    assert [row["value"] for row in copied if row["metric"] == "strict/feature_distance"] == pytest.approx([0] * 3)


def test_a_phrase_that_a_benchmark_reads_is_what_the_crop_is_compared_with(tmp_path):
    samples = {key: PIE[key] for key in ("000000000000", "111000000000")}
    batch = collate(list(pie_bench_cases(write_pie(tmp_path, samples))))
    encoder = Pooled()
    score_batch(batch, batch.image, "strict", Extractors(clip=encoder), arm="copy")
    assert encoder.told[:2] == [["blue velvet, a lamp"], ["fox"]]


def value_of_identity(image, source):
    encoder = Pooled()
    return torch.cosine_similarity(encoder.embed_images(image), encoder.embed_images(source)).item()
