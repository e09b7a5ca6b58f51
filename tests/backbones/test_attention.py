"""Access to attention: harmless when idle, put back whatever happens, and the maps those of the full computation."""

from types import SimpleNamespace

import pytest
import torch

from lib.backbones import attention
from lib.backbones.attention import (
    Sharing,
    TextMaps,
    attention_layers,
    checkpointed,
    ending_after,
    hooked,
    latent_mask,
    resolve_layers,
    text_map,
    token_mask,
    within_memory,
)
from lib.core.errors import InputError
from tests.editors.analytic import Mixture
from tests.editors.deep import LAYERS, deepen, full_maps, of_depth

T = 0.6


@pytest.fixture(scope="module")
def deep(flux):
    return deepen(flux)


@pytest.fixture
def x():
    return torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def cond(deep):
    return deep.embed(["a red cat", "the dog"], 2.0)


def nothing(layer, q, k, v):
    return k, v


def weights(backbone, *positions):
    rows = torch.zeros(len(positions), backbone.text_tokens)
    for row, found in zip(rows, positions, strict=True):
        row[list(found)] = 1 / len(found)
    return rows


# Processors


def test_a_hook_that_changes_nothing_changes_nothing(deep, x, cond):
    wanted = deep.velocity(x, T, cond)
    with hooked(deep, range(LAYERS), nothing):
        assert torch.equal(deep.velocity(x, T, cond), wanted)


def test_every_layer_passes_its_keys_and_values_through_the_hook(deep, x, cond):
    plain = deep.velocity(x, T, cond)
    for layer in range(LAYERS):
        seen = []

        def negative(at, q, k, v, seen=seen):
            seen.append((at, q.shape, k.shape, v.shape))
            return k, -v

        with hooked(deep, [layer], negative):
            changed = deep.velocity(x, T, cond)
        shape = (2, deep.text_tokens + 16, 2, 16)
        assert seen == [(layer, shape, shape, shape)]
        assert (changed - plain).abs().max() > 1e-4


def test_the_stock_processors_come_back_whatever_happens(deep, x, cond):
    def state():
        transformer = deep.pipe.transformer
        blocks = transformer.transformer_blocks, transformer.single_transformer_blocks
        processors = [attention.processor for attention in attention_layers(deep)]
        return [*blocks, *processors, transformer.is_gradient_checkpointing]

    def broken(layer, q, k, v):
        raise ZeroDivisionError

    before = state()
    with pytest.raises(ZeroDivisionError), ending_after(deep, 3), checkpointed(deep), hooked(deep, [0, 3], broken):
        deep.velocity(x, T, cond)
    assert all(one is other for one, other in zip(state(), before, strict=True))
    with hooked(deep, [0, 4], nothing), checkpointed(deep), ending_after(deep, 0):
        assert all(one is not other for one, other in zip(state()[:2], before[:2], strict=True))
    assert all(one is other for one, other in zip(state(), before, strict=True))


def test_only_flux_has_it():
    with pytest.raises(InputError, match=r"attention of mixture: found SimpleNamespace; expected a FLUX"):
        attention_layers(Mixture())


# Layers


def test_shares_of_the_depth_are_the_papers_layers_and_fit_any_depth():
    large, small, least = of_depth(19, 38), of_depth(2, 4), of_depth(1, 1)
    assert resolve_layers(large, 8 / 57, 44 / 57) == tuple(range(8, 44))
    assert resolve_layers(large, 20 / 38, 1, "single") == tuple(range(39, 57))
    assert resolve_layers(large, 0, 1, "single") == tuple(range(19, 57))
    assert resolve_layers(large, 0, 1, "double") == tuple(range(19))
    assert resolve_layers(small, 8 / 57, 44 / 57) == (1, 2, 3, 4)
    assert resolve_layers(small, 20 / 38, 1, "single") == (4, 5)
    assert resolve_layers(least, 20 / 38, 1, "single") == (1,)  # none has its middle there: the nearest
    for first, last in ((0.5, 0.5), (-0.1, 0.5), (0.5, 1.1)):
        with pytest.raises(InputError, match="share of the layers"):
            resolve_layers(small, first, last)


# Sharing


def shared(deep, x, cond, other, **options):
    """The velocity of `x` while values of `other` latents are put back."""
    sharing = Sharing(deep, (2, 4), intervals=1, **options)
    with sharing.up(0, "first"):
        deep.velocity(other, T, cond)
    with sharing.down(0, "first"):
        return deep.velocity(x, T, cond)


def test_values_put_back_are_those_recorded(deep, x, cond):
    """By hooks of torch on the value projections, which know nothing of processors."""
    other = x.flip(0) + 1
    text = deep.text_tokens
    m = torch.rand(2, 16, generator=torch.Generator().manual_seed(1))
    rules = {
        "all": lambda new, old: old,
        "image": lambda new, old: torch.cat([new[:, :text], old[:, text:]], 1),
        "masked": lambda new, old: torch.cat(
            [new[:, :text], m[..., None] * new[:, text:] + (1 - m[..., None]) * old[:, text:]], 1
        ),
    }
    found_before = []
    for mode, rule in rules.items():
        old, handles = {}, []
        for layer in (2, 4):
            to_v = attention_layers(deep)[layer].to_v
            handles.append(to_v.register_forward_hook(lambda _, __, out, at=layer, old=old: old.update({at: out})))
        deep.velocity(other, T, cond)
        for handle in handles:
            handle.remove()
        handles = [
            attention_layers(deep)[layer].to_v.register_forward_hook(
                lambda _, __, out, at=layer, rule=rule, old=old: rule(out, old[at])
            )
            for layer in (2, 4)
        ]
        wanted = deep.velocity(x, T, cond)
        for handle in handles:
            handle.remove()
        found = shared(deep, x, cond, other, mode=mode, mask=m)
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
        found_before.append(found)
    assert all((one - deep.velocity(x, T, cond)).abs().max() > 1e-4 for one in found_before)
    assert (found_before[0] - found_before[1]).abs().max() > 1e-5
    assert torch.equal(shared(deep, x, cond, other, mode="none"), deep.velocity(x, T, cond))


def test_one_s_own_values_and_a_full_mask_change_nothing(deep, x, cond):
    plain = deep.velocity(x, T, cond)
    assert torch.equal(shared(deep, x, cond, x, mode="all", keys=True), plain)
    assert torch.equal(shared(deep, x, cond, x + 1, mode="masked", mask=torch.ones(2, 16), keys=True), plain)
    one = shared(deep, x, cond, x + 1, mode="masked", mask=torch.zeros(2, 16), keys=True)
    other = shared(deep, x, cond, x + 1, mode="masked", mask=torch.zeros(2, 16))
    assert (one - other).abs().max() > 1e-5  # keys matter


def test_what_was_recorded_when():
    """Late: by interval. Not late: by noise level, the topmost one by an evaluation of its own."""

    def recorded(*, late):
        stub = of_depth(1, 1)
        for block in (*stub.pipe.transformer.transformer_blocks, *stub.pipe.transformer.single_transformer_blocks):
            block.attn = SimpleNamespace(processor=SimpleNamespace(_attention_backend=None, _parallel_config=None))
            block.attn.set_processor = lambda processor, attn=block.attn: setattr(attn, "processor", processor)
        evaluated = []

        def velocity(x, t, cond):
            evaluated.append(t)
            hook = attention_layers(stub)[1].processor
            if hasattr(hook, "hook"):
                hook.hook(1, *[torch.tensor(t)] * 3)

        stub.velocity = velocity
        sharing = Sharing(stub, (1,), intervals=2, late=late)
        levels = [1.0, 0.75, 0.5, 0.25, 0.0]  # interval i goes from levels[i + 1] up to levels[i]
        for i in reversed(range(4)):
            for stage, t in (("first", levels[i + 1]), ("mid", (levels[i] + levels[i + 1]) / 2)):
                with sharing.up(i, stage):
                    velocity(None, t, None)
        sharing.complete(None, 1.0, None)
        kept = {key: value[1][1].item() for key, value in sharing._recorded.items()}
        return kept, len(evaluated)

    middles = {(0, "mid"): 0.875, (1, "mid"): 0.625}
    assert recorded(late=True) == ({(0, "first"): 0.75, (1, "first"): 0.5, **middles}, 8)
    assert recorded(late=False) == ({(0, "first"): 1.0, (1, "first"): 0.75, **middles}, 9)


def test_sharing_refuses_what_it_cannot_do(deep):
    with pytest.raises(InputError, match="mode of sharing: found 'half'"):
        Sharing(deep, (), intervals=1, mode="half")
    with pytest.raises(InputError, match="mask of the cases: found none"):
        Sharing(deep, (), intervals=1, mode="masked")


# Maps


@pytest.mark.parametrize("padding", [True, False])
def test_maps_are_those_of_the_full_softmax(deep, x, cond, monkeypatch, padding):
    words = weights(deep, (1, 2), (0,))
    real = None if padding else torch.arange(deep.text_tokens) < torch.tensor([[4], [3]])
    with torch.no_grad():
        wanted = full_maps(monkeypatch, deep, x, T, cond, words, real)
        maps = TextMaps(words, real)
        with hooked(deep, range(LAYERS), maps.hook), maps.collect() as found:
            deep.velocity(x, T, cond)
    assert len(wanted) == len(found) == LAYERS
    for layer in range(LAYERS):
        torch.testing.assert_close(found[layer], wanted[layer], rtol=1e-5, atol=1e-6)
        assert wanted[layer].std() > 1e-5


def test_the_softmax_over_all_text_columns_sums_to_1():
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 3, 20, 5, 8, generator=generator)
    torch.testing.assert_close(text_map(q, k, torch.ones(3, 7)), torch.ones(3, 13))
    one = torch.eye(7)[[2, 4, 6]]
    for chunk in (1, 2, 5, 64):
        torch.testing.assert_close(text_map(q, k, one, chunk=chunk), text_map(q, k, one, chunk=3))


def gradient(backbone, x, cond, words, monkeypatch=None, saved=None):
    """Of the maps' squares after two chained evaluations, as LORE chains them: naively if given a monkeypatch."""
    x = x.clone().requires_grad_()
    if monkeypatch is not None:
        first = full_maps(monkeypatch, backbone, x, T, cond, words)
        v = backbone.velocity(x, T, cond)
        second = full_maps(monkeypatch, backbone, x - 0.1 * v, T, cond, words)
        loss = sum((one + other).square().sum() for one, other in zip(first[1:4], second[1:4], strict=True))
        return torch.autograd.grad(loss, x)[0]
    maps = TextMaps(words)
    layers = (1, 2, 3)
    with hooked(backbone, layers, maps.hook):
        with maps.collect() as first:
            v = backbone.velocity(x, T, cond)
        with maps.collect() as second, ending_after(backbone, 3):
            backbone.velocity(x - 0.1 * v, T, cond)
        loss = sum((first[layer] + second[layer]).square().sum() for layer in layers)
        return torch.autograd.grad(loss, x)[0]


def test_gradients_are_those_of_the_full_computation_with_and_without_checkpoints(deep, x, cond, monkeypatch):
    words = weights(deep, (1, 2), (0,))
    wanted = gradient(deep, x, cond, words, monkeypatch)
    plain = gradient(deep, x, cond, words)
    with checkpointed(deep):
        kept = gradient(deep, x, cond, words)
    assert wanted.abs().max() > 1e-5
    scale = wanted.abs().max()
    torch.testing.assert_close(plain / scale, wanted / scale, rtol=0, atol=1e-5)
    torch.testing.assert_close(kept / scale, wanted / scale, rtol=0, atol=1e-5)


def test_blocks_are_computed_again_only_where_keeping_them_takes_too_much(deep, x, monkeypatch):
    transformer = deep.pipe.transformer
    tokens = deep.text_tokens + 16  # 8 x 8 latents in patches of 2
    kept = 2 * attention.KEPT * LAYERS * 2 * tokens * transformer.inner_dim * 4
    for limit, again in ((kept, False), (kept - 1, True)):
        monkeypatch.setattr(attention, "KEPT_BYTES", limit)
        with within_memory(deep, x):
            assert transformer.is_gradient_checkpointing == again
        assert not transformer.is_gradient_checkpointing


def test_ending_early_is_exact_up_to_there(deep, x, cond):
    maps = TextMaps(weights(deep, (1,), (1,)))
    for last in range(LAYERS):
        ran = []
        blocks = [*deep.pipe.transformer.transformer_blocks, *deep.pipe.transformer.single_transformer_blocks]
        handles = [b.register_forward_hook(lambda *_, i=i, ran=ran: ran.append(i)) for i, b in enumerate(blocks)]
        with torch.no_grad(), hooked(deep, range(LAYERS), maps.hook):
            with maps.collect() as whole:
                deep.velocity(x, T, cond)
            with maps.collect() as part, ending_after(deep, last), deep.count() as counter:
                deep.velocity(x, T, cond)
        for handle in handles:
            handle.remove()
        assert counter.calls == 1
        assert ran == [*range(LAYERS), *range(last + 1)]
        assert list(part) == list(range(last + 1))
        assert all(torch.equal(part[layer], whole[layer]) for layer in part)


def test_maps_keep_q_and_k_alone_for_the_way_back():
    """Bytes that autograd saves, each storage once, at 4 heads x 8; `bench/attention_memory.py` has FLUX's sizes."""
    generator = torch.Generator().manual_seed(0)
    text, image, heads, width = 64, 64, 4, 8
    words = torch.ones(1, text) / text

    def naive(q, k):
        columns = torch.einsum("blhd,bmhd->bhlm", q, k)[..., :text] / width**0.5
        return (columns.softmax(-1).mean(1)[:, text:] * words[:, None]).sum(-1)

    sizes = []
    for way in (naive, lambda q, k: text_map(q, k, words)):
        q, k = (torch.randn(1, text + image, heads, width, generator=generator, requires_grad=True) for _ in range(2))
        storages = {}

        def keep(tensor, storages=storages):
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            way(q, k)
        sizes.append(sum(storages.values()))
    assert sizes[1] == 2 * q.nbytes + words.nbytes
    assert sizes[1] <= sizes[0] / 4


# Masks


def test_masks_over_tokens(deep, x):
    mask = torch.zeros(2, 1, 32, 32, dtype=torch.bool)
    mask[0, :, 8:16, 0:12] = True  # a token and a half
    mask[1, :, 31, 31] = True  # a pixel: no token has half of its own in it
    found = token_mask(deep, mask, x)
    assert found.nonzero().tolist() == [[0, 4], [0, 5], [1, 15]]
    wide = latent_mask(deep, found, x)
    assert wide.shape == (2, 1, 8, 8)
    assert wide[0, 0].nonzero().tolist() == [[r, c] for r in (2, 3) for c in range(4)]
    soft = token_mask(deep, mask, x, soft=True)
    assert soft.min() >= 0
    assert soft.max() <= 1
    assert soft[0, 4] > 0.8
    assert 0.3 < soft[0, 5] < 0.7
    for bad, words in ((torch.ones_like(mask), "every"), (torch.zeros_like(mask), "no")):
        with pytest.raises(InputError, match=f"mask: found {words} pixel in it"):
            token_mask(deep, torch.cat([mask[:1], bad[:1]]), x)
