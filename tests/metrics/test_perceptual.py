"""LPIPS against torchmetrics on the same random trunk; structure distance against plain loops."""

import pytest
import torch

from lib.core.errors import InputError
from lib.core.images import quantise
from lib.metrics.extractors import LPIPSNet
from lib.metrics.perceptual import feature_distance, lpips, lpips_map, self_similarity, structure_distance
from tests.metrics.test_extractors import BAD_IMAGES, Pooled, TwoConvs, TwoLayerKeys, pictures, seeded


@pytest.fixture(scope="module")
def squeeze():
    from torchmetrics.functional.image.lpips import SqueezeNet

    return seeded(SqueezeNet(pretrained=False), spread=0.05)


@pytest.mark.parametrize("spatial", [False, True])
def test_lpips_is_torchmetrics_own_on_the_same_trunk(squeeze, spatial):
    from torchmetrics.functional.image.lpips import _NoTrainLpips

    reference = _NoTrainLpips(net="squeeze", pnet_rand=True, spatial=spatial)
    reference.net = squeeze
    image, source, _ = pictures()
    wanted = reference(quantise(image), quantise(source), normalize=True)
    ours = (lpips_map if spatial else lpips)(image, source, LPIPSNet("squeeze", trunk=squeeze))
    assert wanted.min() > 1e-5
    assert torch.allclose(ours, wanted.double().reshape(ours.shape), rtol=1e-4, atol=0)
    swapped = reference(quantise(image), quantise(source), normalize=False)  # [0, 1] taken for [-1, 1]
    assert not torch.allclose(ours, swapped.double().reshape(ours.shape), rtol=1e-2, atol=0)


def test_lpips_is_the_loop_over_layers_and_pixels():
    net, (image, source, _) = TwoConvs(), pictures(n=1, height=12, width=14)
    value = lpips(image, source, net).item()
    wanted = 0.0
    for layer, head in enumerate(net.heads):
        x, y = (net.features(shown)[layer][0].double() for shown in net.shown[:2])
        for row in range(x.shape[1]):
            for column in range(x.shape[2]):
                u, v = x[:, row, column], y[:, row, column]
                difference = u / (1e-8 + (u**2).sum()).sqrt() - v / (1e-8 + (v**2).sum()).sqrt()
                wanted += (head.double() * difference**2).sum().item() / (x.shape[1] * x.shape[2])
    assert value == pytest.approx(wanted, rel=1e-9)


def test_the_trunk_sees_minus_one_to_one_under_lpips_own_scaling():
    net = TwoConvs()
    lpips(torch.ones(1, 3, 8, 8), torch.zeros(1, 3, 8, 8), net)
    white, black = (shown[0, :, 0, 0].tolist() for shown in net.shown)
    assert white == pytest.approx([1.030 / 0.458, 1.088 / 0.448, 1.188 / 0.450])
    assert black == pytest.approx([-0.970 / 0.458, -0.912 / 0.448, -0.812 / 0.450])


def distance(image, source):
    return structure_distance(image, source, TwoLayerKeys(), scale=1.0, antialias=True)


def perceived(image, source):
    return lpips(image, source, TwoConvs())


@pytest.mark.parametrize("metric", [distance, perceived])
def test_distances(metric):
    """0 on equal images, more with more noise, the same both ways round, row by row."""
    image, source, _ = pictures(n=4)
    values = metric(image, source)
    assert values.dtype == torch.float64
    assert metric(source, source).tolist() == [0.0] * 4
    assert (values > 0).all()
    assert torch.equal(metric(source, image), values)
    far = pictures(n=4, noise=0.5)[0]
    assert (metric(far, source) > values).all()
    order = torch.tensor([2, 0, 3, 1])
    assert torch.allclose(metric(image[order], source[order]), values[order], rtol=1e-4)
    assert torch.allclose(torch.cat([metric(image[i : i + 1], source[i : i + 1]) for i in range(4)]), values, rtol=1e-4)


def test_self_similarity_is_the_loop_and_the_order_of_heads_does_not_matter():
    keys = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(0)).double()
    keys[1, 3] = 0  # no direction: similar to nothing
    wanted = torch.zeros(2, 5, 5).double()
    for b in range(2):
        for i in range(5):
            for j in range(5):
                if not (b == 1 and 3 in (i, j)):
                    wanted[b, i, j] = torch.cosine_similarity(keys[b, i], keys[b, j], dim=0)
    assert torch.allclose(self_similarity(keys), wanted, atol=1e-12)
    heads_swapped = keys.unflatten(2, (2, 3)).flip(2).flatten(2)
    assert torch.allclose(self_similarity(heads_swapped), wanted, atol=1e-12)


def test_structure_distance_is_the_mean_over_both_maps():
    image, source, _ = pictures()
    keys = TwoLayerKeys()
    value = structure_distance(image, source, keys, scale=1.0, antialias=False)
    maps = [self_similarity(TwoLayerKeys().keys(shown).double()) for shown in keys.shown]
    assert torch.allclose(value, ((maps[0] - maps[1]) ** 2).mean(dim=(1, 2)), rtol=1e-9)


@pytest.mark.parametrize(("size", "small"), [((40, 48), (224, 268)), ((48, 40), (268, 224)), ((30, 90), (160, 480))])
def test_the_shorter_side_becomes_224_and_the_longer_one_at_most_480(size, small):
    keys, image = TwoLayerKeys(), torch.rand(1, 3, *size)
    structure_distance(image, image, keys, scale=1.0, antialias=True)
    assert keys.shown[0].shape == (1, 3, *small)


def test_antialias_filters_what_is_shrunk():
    stripes = torch.zeros(1, 3, 448, 448)
    stripes[..., 2::4] = stripes[..., 3::4] = 1  # columns 0011: without a filter each pixel sees two of one value
    spread = []
    for antialias in (False, True):
        keys = TwoLayerKeys()
        structure_distance(stripes, stripes, keys, scale=1.0, antialias=antialias)
        spread.append(keys.shown[0][..., 8:-8].std(dim=3).mean().item())
    assert spread[1] < 0.8 * spread[0]


@pytest.mark.parametrize("spoil", BAD_IMAGES.values(), ids=BAD_IMAGES.keys())
@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("metric", [distance, perceived, lambda x, y: lpips_map(x, y, TwoConvs())])
def test_wrong_images_are_refused(metric, place, spoil):
    pair = list(pictures(n=1)[:2])
    pair[place] = spoil(pair[place])
    with pytest.raises(InputError, match="images"):
        metric(*pair)


def test_too_small_for_the_net(squeeze):
    image = torch.rand(1, 3, 16, 40)
    with pytest.raises(InputError, match=r"LPIPS with squeeze: found .*16, 40.* at least 17"):
        lpips(image, image, LPIPSNet("squeeze", trunk=squeeze))
    image = torch.rand(1, 3, 17, 17)
    assert lpips(image, image, LPIPSNet("squeeze", trunk=squeeze)).item() == 0


def test_nets_that_answer_in_another_shape_are_refused():
    image, source, _ = pictures(n=2)
    keys, net = TwoLayerKeys(), TwoConvs()
    keys.keys = lambda images: torch.rand(2, 9)
    with pytest.raises(InputError, match="keys of two-layer-vit"):
        structure_distance(image, source, keys, scale=1.0, antialias=True)
    net.heads = net.heads[:1]
    with pytest.raises(InputError, match="features of two-convs"):
        lpips(image, source, net)


def test_feature_distance_is_one_minus_the_cosine():
    image, source, _ = pictures()
    encoder = Pooled()
    wanted = 1 - torch.cosine_similarity(encoder.embed_images(image), encoder.embed_images(source))
    found = feature_distance(image, source, encoder)
    assert found.tolist() == pytest.approx(wanted.tolist(), abs=1e-6)
    assert torch.equal(found, feature_distance(source, image, encoder))
    assert (found > 0).all()
    assert feature_distance(source, source, encoder).abs().max() < 1e-12


@pytest.mark.parametrize("name", [name for name in BAD_IMAGES if name != "another size"])
def test_feature_distance_refuses_wrong_images(name):
    image, source, _ = pictures()
    for pair in ((BAD_IMAGES[name](image), source), (image, BAD_IMAGES[name](source))):
        with pytest.raises(InputError, match="images"):
            feature_distance(*pair, Pooled())
