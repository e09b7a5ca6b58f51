"""PIE-Bench's own scores: the quirks in closed form, a port read off its description, and its rows of the table."""

import math

import numpy as np
import pytest
import torch

from lib.bench.cases import EditCase, collate
from lib.core.errors import InputError
from lib.core.images import quantise, to_uint8
from lib.metrics import official, strict
from lib.metrics.official import with_border
from lib.metrics.perceptual import structure_distance
from lib.metrics.pixels import background_psnr
from lib.metrics.tables import TABLE, Extractors, aggregate, score_batch
from tests.metrics.test_extractors import BAD_IMAGES, Pooled, TwoConvs, TwoLayerKeys, pictures


def lpips_part(image, source, mask, part="unedit", *, border=True):
    return official.lpips_part(image, source, mask, TwoConvs(), part, border=border)


MASKED = [official.mse, official.psnr, official.ssim, lpips_part]


def test_the_border_ring_is_edit_region_on_all_four_sides():
    mask = torch.zeros(2, 1, 6, 7, dtype=torch.bool)
    mask[1, 0, 2, 3] = True
    ringed = with_border(mask)
    assert ringed[0].sum() == 2 * 6 + 2 * 7 - 4
    assert ringed[1].sum() == ringed[0].sum() + 1
    assert not ringed[0, 0, 1:-1, 1:-1].any()
    assert mask.sum() == 1  # the caller's own is untouched
    share = with_border(torch.zeros(1, 1, 512, 512, dtype=torch.bool)).double().mean().item()
    assert share == pytest.approx(0.0078, abs=5e-5)


def test_only_the_border_differs_with_and_without_the_switch():
    _, source, _ = pictures(n=1)
    mask = torch.zeros(1, 1, 40, 48, dtype=torch.bool)
    image = source.clone()
    image[..., 0, :] = 1 - image[..., 0, :]
    assert official.psnr(image, source, mask).item() == math.inf
    assert official.psnr(image, source, mask, border=False).item() < 30


def test_a_constant_shift_in_closed_form():
    source, image = torch.full((1, 3, 20, 20), 100 / 255), torch.full((1, 3, 20, 20), 151 / 255)
    mask = torch.zeros(1, 1, 20, 20, dtype=torch.bool)
    a, b = 100 / 255, 151 / 255
    assert official.mse(image, source, mask, border=False).item() == pytest.approx(0.2**2, abs=1e-7)
    assert official.psnr(image, source, mask, border=False).item() == pytest.approx(-20 * math.log10(0.2), abs=1e-5)
    wanted = (2 * a * b + 1e-4) / (a**2 + b**2 + 1e-4)
    assert official.ssim(image, source, mask, border=False).item() == pytest.approx(wanted, abs=1e-6)
    mask[..., :10] = True  # half the frame: half the error over the same number of pixels
    assert official.mse(image, source, mask, border=False).item() == pytest.approx(0.02, abs=1e-7)


@pytest.mark.parametrize("border", [True, False])
def test_the_offset_to_the_strict_psnr(border):
    """PSNR_official - PSNR_strict = 10 log10(all pixels / background pixels), on random masks."""
    image, source, _ = pictures(n=8)
    share = torch.linspace(0.02, 0.95, 8)[:, None, None, None]
    mask = torch.rand(8, 1, 40, 48, generator=torch.Generator().manual_seed(1)) < share
    counted = with_border(mask) if border else mask
    found = official.psnr(image, source, mask, border=border) - background_psnr(image, source, counted)
    wanted = [10 * math.log10(row.numel() / (~row).sum().item()) for row in counted]
    assert min(wanted) > 0.05
    assert found.tolist() == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize(("part", "sign"), [("unedit", -1), ("edit", 1)])
def test_parity_with_a_port_of_the_published_evaluation(part, sign):
    """As its script does it, image by image: uint8 / 255, times 1 - mask (or mask), torchmetrics' modules, float32."""
    from torchmetrics.image import PeakSignalNoiseRatio, StructuralSimilarityIndexMeasure
    from torchmetrics.regression import MeanSquaredError

    image, source, mask = pictures()
    found = {name: getattr(official, name)(image, source, mask, part) for name in ("psnr", "mse", "ssim")}
    for i in range(3):
        edit = mask[i, 0].numpy().astype(np.float32)
        edit[0, :] = edit[-1, :] = edit[:, 0] = edit[:, -1] = 1
        keep = (edit if sign > 0 else 1 - edit)[:, :, None].repeat(3, axis=2)
        pair = []
        for x in (image, source):
            pixels = to_uint8(x[i]).permute(1, 2, 0).numpy()  # as Pillow opens it
            blacked = (np.array(pixels).astype(np.float32) / 255) * keep
            pair.append(torch.tensor(blacked).permute(2, 0, 1)[None].contiguous())
        assert found["psnr"][i].item() == pytest.approx(PeakSignalNoiseRatio(data_range=1.0)(*pair).item(), abs=1e-4)
        assert found["mse"][i].item() == pytest.approx(MeanSquaredError()(*pair).item(), rel=1e-4)
        ssim = StructuralSimilarityIndexMeasure(data_range=1.0)(*pair).item()
        assert found["ssim"][i].item() == pytest.approx(ssim, abs=1e-5)


def test_parts_add_up_and_polarity_matters():
    image, source, mask = pictures()
    parts = [official.mse(image, source, mask, part) for part in ("unedit", "edit", "whole")]
    assert torch.allclose(parts[0] + parts[1], parts[2], rtol=1e-12)
    inside = torch.where(mask, image, source)  # changed in the mask alone
    for metric, same in ((official.mse, 0), (official.psnr, math.inf), (official.ssim, 1), (lpips_part, 0)):
        assert metric(inside, source, mask).tolist() == pytest.approx([same] * 3)
        assert (metric(inside, source, ~mask, border=False) - same).abs().min() > 1e-4
        assert (metric(inside, source, mask, "edit") - same).abs().min() > 1e-4


def test_the_masked_area_counts_as_perfect():
    """A larger mask looks better although the noise outside is the same; the strict scores stay where they are."""
    source = torch.full((4, 3, 64, 64), 0.5)
    noise = 0.1 * torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    image = (source + noise).clamp(0, 1)
    mask = torch.zeros(4, 1, 64, 64, dtype=torch.bool)
    for i, height in enumerate((0, 16, 32, 48)):
        mask[i, :, :height] = True
    flattered = official.psnr(image, source, mask)
    assert (flattered.diff() > 1).all()
    assert flattered[-1] - flattered[0] == pytest.approx(10 * math.log10(62 / 15), abs=0.3)  # rows left inside the ring
    assert background_psnr(image, source, mask).tolist() == pytest.approx([20.0] * 4, abs=0.3)
    assert (official.ssim(image, source, mask).diff() > 0.05).all()
    assert (lpips_part(image, source, mask).diff() < 0).all()
    assert np.ptp(strict.background_mse(image, source, mask).numpy()) < 0.1 * 0.01


@pytest.mark.parametrize("metric", MASKED)
def test_symmetry_order_and_batches(metric):
    image, source, mask = pictures(n=4)
    values = metric(image, source, mask)
    assert torch.allclose(metric(source, image, mask), values, rtol=1e-12)
    order = [2, 0, 3, 1]
    assert torch.allclose(metric(image[order], source[order], mask[order]), values[order], rtol=1e-5)
    single = [metric(image[i : i + 1], source[i : i + 1], mask[i : i + 1]) for i in range(4)]
    assert torch.allclose(torch.cat(single), values, rtol=1e-5)


def test_an_empty_part_is_nan_in_its_row_alone():
    image, source, mask = pictures()
    mask[1] = True
    for metric in MASKED:
        assert metric(image, source, mask).isnan().tolist() == [False, True, False]
    mask[2] = False
    for metric in MASKED:
        assert metric(image, source, mask, "edit", border=False).isnan().tolist() == [False, False, True]
    assert not official.mse(image, source, mask, "edit").isnan().any()  # the ring is always there
    found = official.clip_edited(image, mask, ["a"] * 3, Pooled(), border=False)
    assert found.isnan().tolist() == [False, False, True]


def test_structure_feeds_values_to_255():
    image = torch.stack([torch.full((40, 40), level / 255) for level in (255, 0, 51)])[None]
    keys = TwoLayerKeys()
    assert official.structure(image, image, keys).item() == 0
    wanted = [(255 - 0.485) / 0.229, (0 - 0.456) / 0.224, (51 - 0.406) / 0.225]
    assert keys.shown[0].mean(dim=(0, 2, 3)).tolist() == pytest.approx(wanted, rel=1e-5)
    image, source, _ = pictures()
    found = official.structure(image, source, TwoLayerKeys())
    assert torch.equal(found, structure_distance(image, source, TwoLayerKeys(), scale=255, antialias=False))
    assert not torch.allclose(
        found, structure_distance(image, source, TwoLayerKeys(), scale=1, antialias=False), rtol=0.05
    )


def test_clip_sees_the_whole_frame_black_outside_the_mask_and_the_prompt_without_brackets():
    encoder, (image, _, mask) = Pooled(), pictures()
    prompts = ["a [red] cat", "a dog", "[two] [birds]"]
    found = official.clip_edited(image, mask, prompts, encoder)
    assert encoder.told == [["a red cat", "a dog", "two birds"]]
    assert torch.equal(encoder.shown[0], quantise(image) * with_border(mask))
    plain = Pooled()
    whole = official.clip_whole(image, prompts, plain)
    assert plain.told == encoder.told
    assert torch.equal(plain.shown[0], image)
    cosine = torch.cosine_similarity(plain.embed_images(image), plain.embed_texts(plain.told[0]))
    assert whole.tolist() == pytest.approx((100 * cosine).tolist(), abs=1e-3)
    assert (whole - found).abs().min() > 0.1


@pytest.mark.parametrize("spoil", BAD_IMAGES.values(), ids=BAD_IMAGES.keys())
@pytest.mark.parametrize("metric", MASKED)
def test_wrong_images_are_refused(metric, spoil):
    image, source, mask = pictures()
    for pair in ((spoil(image), source), (image, spoil(source))):
        with pytest.raises(InputError, match="images"):
            metric(*pair, mask)


@pytest.mark.parametrize("metric", MASKED)
def test_wrong_masks_and_parts_are_refused(metric):
    image, source, mask = pictures()
    for wrong in (mask.float(), mask[..., 1:], mask[:1], mask[:, 0]):
        with pytest.raises(InputError, match="mask"):
            metric(image, source, wrong)
    with pytest.raises(InputError, match="part: found 'background'"):
        metric(image, source, mask, "background")


def test_too_small_for_a_window():
    image, source, mask = (x[..., :5, :] for x in pictures())
    with pytest.raises(InputError, match="SSIM"):
        official.ssim(image, source, mask)


def cases(masked=True, prompted=True):
    _, source, mask = pictures()
    return [
        EditCase(
            id=f"case-{i}",
            image=source[i],
            target_prompt=f"a [dog] {i}",
            source_prompt=f"a [cat] {i}" if prompted or i else None,
            mask=mask[i] if masked or i else None,
        )
        for i in range(3)
    ]


EXTRACTORS = Extractors(perceptual=TwoConvs(), keys=TwoLayerKeys(), clip=Pooled(), identity=Pooled())
OFFICIAL = {name for name, row in TABLE.items() if row.namespace == "pie_official"}


def test_rows_carry_their_namespace_and_their_network():
    batch, image = collate(cases()), pictures()[0]
    rows = score_batch(batch, image, "pie_official", EXTRACTORS, arm="flowedit", seed=7)
    assert [row["case"] for row in rows] == [case.id for case in batch.cases for _ in OFFICIAL]
    assert {row["metric"] for row in rows} == OFFICIAL
    assert all(name.startswith("pie_official/") for name in OFFICIAL)
    assert {(row["arm"], row["seed"]) for row in rows} == {("flowedit", 7)}
    value = {(row["case"], row["metric"].split("/")[1]): row["value"] for row in rows}
    psnr = official.psnr(image, batch.image, batch.mask).tolist()
    assert [value[case.id, "psnr_unedit_part"] for case in batch.cases] == pytest.approx(psnr)
    texts = [f"a cat {i}" for i in range(3)]
    sources = official.clip_whole(batch.image, texts, Pooled()).tolist()
    assert [value[case.id, "clip_similarity_source_image"] for case in batch.cases] == pytest.approx(sources)
    seen = {row["metric"].split("/")[1]: row["extractor"] for row in rows}
    assert seen["lpips_unedit_part"] == "two-convs"
    assert seen["structure_distance"] == "two-layer-vit"
    assert seen["clip_similarity_target_image"] == "pooled"
    assert seen["psnr_unedit_part"] == ""
    for row in rows:
        low, high = TABLE[row["metric"]].range
        assert low <= row["value"] <= high


def test_what_is_lacking_has_no_row():
    batch, image = collate(cases(masked=False, prompted=False)), pictures()[0]
    rows = score_batch(batch, image, "pie_official", EXTRACTORS, arm="x")
    lacking = OFFICIAL - {row["metric"] for row in rows if row["case"] == "case-0"}
    assert lacking == {name for name in OFFICIAL if {"mask", "source prompt"} & {*TABLE[name].needs}}
    assert {row["metric"] for row in rows if row["case"] == "case-1"} == OFFICIAL
    bare = score_batch(batch, image, "pie_official", arm="x")
    assert {row["metric"] for row in bare} == {f"pie_official/{m}_unedit_part" for m in ("psnr", "mse", "ssim")}
    full = score_batch(collate(cases()), image, "pie_official", arm="x")
    assert [row for row in full if row["case"] != "case-0"] == bare  # each from its own case


def test_infinite_and_missing_values_are_counted_and_never_hidden():
    batch = collate(cases())
    image = batch.image.clone()
    image[2] = pictures()[0][2]
    rows = score_batch(batch, image, "pie_official", arm="copy of two")
    psnr = "pie_official/psnr_unedit_part"
    found = aggregate(rows).set_index("metric").loc[psnr]
    third = official.psnr(image, batch.image, batch.mask)[2].item()
    assert found[["mean", "finite_mean", "n", "missing", "infinite"]].tolist() == [math.inf, third, 3, 0, 2]
    for row in rows:
        if row["case"] == "case-1":
            row["value"] = math.nan
    found = aggregate(rows).set_index("metric")
    assert found.loc[psnr, ["n", "missing", "infinite"]].tolist() == [2, 1, 1]
    mse = found.loc["pie_official/mse_unedit_part"]
    assert mse["mean"] == mse["finite_mean"] == pytest.approx(10 ** (-third / 10) / 2)
    twice = aggregate(rows + [row | {"seed": 1} for row in rows]).set_index("metric")
    assert twice.equals(found)  # seeds of a case are averaged first


def test_a_column_holds_one_score_of_one_network():
    rows = score_batch(collate(cases()), pictures()[0], "pie_official", EXTRACTORS, arm="x")
    with pytest.raises(InputError, match="'psnr_unedit_part'"):
        aggregate([rows[0] | {"metric": "psnr_unedit_part"}])
    other = [row | {"extractor": "vgg"} for row in rows if row["metric"] == "pie_official/lpips_unedit_part"]
    with pytest.raises(InputError, match="two-convs and vgg; expected one extractor"):
        aggregate(rows + other)


@pytest.mark.parametrize("spoil", BAD_IMAGES.values(), ids=BAD_IMAGES.keys())
def test_a_batch_of_wrong_images_is_refused(spoil):
    with pytest.raises(InputError, match="images"):
        score_batch(collate(cases()), spoil(pictures()[0]), "pie_official", arm="x")


def test_there_are_two_namespaces():
    with pytest.raises(InputError, match="namespace: found 'official'"):
        score_batch(collate(cases()), pictures()[0], "official", arm="x")
    assert {row.namespace for row in TABLE.values()} == {"pie_official", "strict"}
    assert all(row.direction in ("higher", "lower", "") and row.missing for row in TABLE.values())
