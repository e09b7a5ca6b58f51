"""Pixel scores against plain loops, closed forms and identities."""

import math

import pytest
import torch

from lib.core.errors import InputError
from lib.core.images import quantise
from lib.metrics.pixels import PSNR_CEILING, background_psnr, background_ssim, target_psnr


def pictures(n=3, height=20, width=24, noise=0.1):
    generator = torch.Generator().manual_seed(0)
    source = torch.rand(n, 3, height, width, generator=generator)
    image = (source + noise * torch.randn(source.shape, generator=generator)).clamp(0, 1)
    mask = torch.zeros(n, 1, height, width, dtype=torch.bool)
    mask[:, :, 3:9, 12:20] = True
    return image, source, mask


def levels(x):
    return (x * 255).round().double() / 255


def naive_background_psnr(image, source, mask):
    """Pixel by pixel."""
    total = count = 0
    for y in range(image.shape[1]):
        for x in range(image.shape[2]):
            if not mask[0, y, x]:
                for c in range(3):
                    total += (levels(image)[c, y, x] - levels(source)[c, y, x]).item() ** 2
                    count += 1
    return -10 * math.log10(total / count)


def naive_ssim(a, b):
    """The SSIM of two images at every pixel, window by window, frame reflected: [H, W], channels averaged."""
    a, b = levels(a), levels(b)
    g = torch.exp(-(torch.arange(-5, 6).double() ** 2) / (2 * 1.5**2))
    window = torch.outer(g, g) / g.sum() ** 2
    height, width = a.shape[1:]

    def mirror(i, n):
        return -i if i < 0 else 2 * (n - 1) - i if i >= n else i

    out = torch.zeros(height, width, dtype=torch.float64)
    for y in range(height):
        rows = [mirror(y + d, height) for d in range(-5, 6)]
        for x in range(width):
            columns = [mirror(x + d, width) for d in range(-5, 6)]
            for c in range(3):
                u, v = a[c][rows][:, columns], b[c][rows][:, columns]
                mu, nu = (window * u).sum(), (window * v).sum()
                var_u, var_v = (window * u * u).sum() - mu**2, (window * v * v).sum() - nu**2
                cov = (window * u * v).sum() - mu * nu
                top = (2 * mu * nu + 0.01**2) * (2 * cov + 0.03**2)
                out[y, x] += top / ((mu**2 + nu**2 + 0.01**2) * (var_u + var_v + 0.03**2)) / 3
    return out


def test_background_psnr_is_the_loop():
    image, source, mask = pictures()
    wanted = [naive_background_psnr(*row) for row in zip(image, source, mask, strict=True)]
    assert background_psnr(image, source, mask).tolist() == pytest.approx(wanted, abs=1e-6)


def test_background_ssim_is_the_loop():
    image, source, mask = pictures(n=1)
    clear = torch.ones(20, 24, dtype=torch.bool)
    clear[0 : 9 + 5, 12 - 5 : 24] = (
        False  # every pixel whose window touches the mask; it reaches the top and right frame
    )
    assert 0 < clear.sum() < 20 * 24
    wanted = naive_ssim(image[0], source[0])[clear].mean().item()
    assert background_ssim(image, source, mask).item() == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("metric", [background_psnr, background_ssim])
def test_what_happens_inside_the_mask_does_not_count(metric):
    image, source, mask = pictures()
    wanted = metric(image, source, mask)
    inside = torch.where(mask, 1 - image, image)
    assert torch.equal(metric(inside, source, mask), wanted)
    outside = torch.where(mask, image, 1 - image)
    assert (metric(outside, source, mask) < wanted).all()


@pytest.mark.parametrize("metric", [background_psnr, background_ssim])
def test_polarity_matters(metric):
    image, source, mask = pictures(height=40, width=40)
    mask[:, :, :, :20] = True
    image = torch.where(mask, image, source)
    assert (metric(image, source, mask) > metric(image, source, ~mask) + 0.05).all()


def test_offset_to_the_blacked_out_convention():
    """PIE-Bench's own PSNR averages the blacked-out frame: larger by 10 log10(all / background)."""
    image, source, mask = pictures()
    kept = ~mask
    official = target_psnr(image * kept, source * kept)
    offset = 10 * math.log10(mask[0].numel() / kept[0].sum().item())
    assert (official - background_psnr(image, source, mask)).tolist() == pytest.approx([offset] * 3, abs=1e-6)


def test_a_constant_shift_in_closed_form():
    source = torch.full((1, 3, 16, 16), 100 / 255)
    image = torch.full((1, 3, 16, 16), 151 / 255)
    mask = torch.zeros(1, 1, 16, 16, dtype=torch.bool)
    a, b = 100 / 255, 151 / 255
    assert target_psnr(image, source).item() == pytest.approx(-20 * math.log10(51 / 255), abs=1e-5)
    assert background_psnr(image, source, mask).item() == pytest.approx(-20 * math.log10(51 / 255), abs=1e-5)
    ssim = (2 * a * b + 1e-4) / (a**2 + b**2 + 1e-4)
    assert background_ssim(image, source, mask).item() == pytest.approx(ssim, abs=1e-6)


def test_identical_pictures_score_the_ceiling_and_nothing_scores_more():
    _, source, mask = pictures()
    assert background_psnr(source, source, mask).tolist() == [PSNR_CEILING] * 3
    assert target_psnr(source, source).tolist() == [PSNR_CEILING] * 3
    assert background_ssim(source, source, mask).tolist() == pytest.approx([1.0] * 3)
    nearly = quantise(source)
    nearly[:, 0, -1, -1] = (nearly[:, 0, -1, -1] - 1 / 255).abs()
    assert not torch.equal(quantise(nearly), quantise(source))
    assert background_psnr(nearly, source, mask).tolist() == [PSNR_CEILING] * 3


def test_less_than_half_a_level_is_no_difference():
    _, source, mask = pictures()
    image = (quantise(source) + 0.4 / 255).clamp(0, 1)
    assert background_psnr(image, source, mask).tolist() == [PSNR_CEILING] * 3


def test_nothing_left_outside_the_mask_is_nan_in_that_row_alone():
    image, source, mask = pictures()
    mask[1] = True
    for metric in (background_psnr, background_ssim):
        assert metric(image, source, mask).isnan().tolist() == [False, True, False]
    mask[2] = True
    mask[2, 0, :4, :4] = False  # background, but no room for a window
    assert background_ssim(image, source, mask).isnan().tolist() == [False, True, True]
    assert background_psnr(image, source, mask).isnan().tolist() == [False, True, False]


BAD = {
    "0 to 255": lambda x: x * 255,
    "-1 to 1": lambda x: 2 * x - 1,
    "uint8": lambda x: (x * 255).to(torch.uint8),
    "channels last": lambda x: x.permute(0, 2, 3, 1),
    "four channels": lambda x: torch.cat([x, x[:, :1]], dim=1),
    "not a number": lambda x: torch.where(x > 0.9, torch.nan, x),
    "another size": lambda x: x[..., :-1],
}


@pytest.mark.parametrize("spoil", BAD.values(), ids=BAD.keys())
@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("metric", [background_psnr, background_ssim, target_psnr])
def test_wrong_images_are_refused(metric, place, spoil):
    image, source, mask = pictures()
    pair = [image, source]
    pair[place] = spoil(pair[place])
    with pytest.raises(InputError, match="images"):
        metric(*pair, *([] if metric is target_psnr else [mask]))


@pytest.mark.parametrize("spoil", [lambda m: m.float(), lambda m: m[:, :, 1:], lambda m: m[:1], lambda m: m[:, 0]])
@pytest.mark.parametrize("metric", [background_psnr, background_ssim])
def test_wrong_masks_are_refused(metric, spoil):
    image, source, mask = pictures()
    with pytest.raises(InputError, match="mask"):
        metric(image, source, spoil(mask))


def test_too_small_for_a_window():
    image, source, mask = pictures(height=5, width=24)
    with pytest.raises(InputError, match="SSIM"):
        background_ssim(image, source, mask)
