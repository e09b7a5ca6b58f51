"""The counter of `bench/attention_memory.py` on sizes known by hand, and what maps cost at a size that tests bear."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from bench import attention_memory
from bench.attention_memory import LIMIT, SCOPES, WAYS, Count, Living, Size, main, measure, ratio, report

SMALL = Size(text=64, image=128, double=1, single=1, heads=8, width=16)


def test_the_counter_follows_storages_as_they_come_and_go():
    x = torch.ones(100)
    with Living(x) as living:
        y = x + 1
        view, known = y[:10].view(2, 5), x[3:]  # neither makes bytes
        assert (living.now, living.peak) == (400, 400)
        del y
        assert living.now == 400  # the view holds all of it
        z = view.double()
        assert (living.now, living.peak) == (480, 480)
        del view, known
        assert (living.now, living.peak) == (80, 480)
        z.add_(1)
        del z
        assert (living.now, living.peak) == (0, 480)


def test_the_counter_sees_what_autograd_keeps_and_what_backward_makes():
    x = torch.ones(100, requires_grad=True)
    with Living(x) as living:
        y = x.exp().sum()
        assert living.now == 400 + 4  # the exponential is what its gradient needs
        (gradient,) = torch.autograd.grad(y, x)
        assert living.peak == 400 + 4 + 4 + 400  # with the sum's gradient, of one number, and the exponential's
        assert living.now == 4 + 400
        del gradient, y
        assert living.now == 0


@pytest.fixture(scope="module")
def counted():
    """On real tensors, which are faster at this size."""
    return {
        (scope, on): {way: measure(SMALL, way, scope, checkpoints=on) for way in WAYS}
        for scope in SCOPES
        for on in (True, False)
    }


def test_maps_cost_a_quarter_of_the_naive_ones_at_most(counted):
    for case, counts in counted.items():
        none, naive, ours = (counts[way].peak for way in WAYS)
        joint = SMALL.heads * (SMALL.text + SMALL.image) ** 2 * 4
        assert naive - none >= joint, case  # the logits of all tokens stand at the naive peak
        assert none <= ours, case
        assert ratio(counts) <= LIMIT, case


def test_nothing_of_the_maps_waits_for_the_way_back_but_the_maps(counted):
    maps = SMALL.layers * SMALL.image * 4
    softmax = SMALL.heads * SMALL.image * SMALL.text * 4
    for (_, checkpoints), counts in counted.items():
        assert counts["ours"].kept - counts["none"].kept == maps
        wanted = maps + (0 if checkpoints else SMALL.layers * softmax)
        assert counts["naive"].kept - counts["none"].kept == wanted


@pytest.mark.parametrize("way", WAYS)
def test_fakes_cost_what_real_tensors_cost(counted, way):
    with FakeTensorMode():
        for scope in SCOPES[1:]:
            assert measure(SMALL, way, scope, checkpoints=True) == counted[scope, True][way]


def test_a_way_that_makes_no_maps_is_noticed(monkeypatch):
    monkeypatch.setattr(attention_memory, "NaiveMaps", attention_memory.NoMaps)
    with FakeTensorMode(), pytest.raises(RuntimeError, match="naive: 0 maps of 2 layers"):
        measure(SMALL, "naive", "maps alone")


def test_the_table_says_when_the_aim_is_missed(tmp_path, monkeypatch, capsys):
    counts = {"none": Count(2**20, 0), "naive": Count(5 * 2**20, 2**20), "ours": Count(2 * 2**20, 0)}
    text = report(SMALL, {("maps alone", True): counts})
    assert "| maps alone, checkpointed | 1.0 | 5.0 | 2.0 | 4.0 | 1.0 | **0.250** | 1.0 | 0.0 |" in text
    assert text.strip().endswith("reached.")
    counts["ours"] = Count(2 * 2**20 + 1024 * 100, 0)
    monkeypatch.setattr(attention_memory, "measure_all", lambda size: {("maps alone", False): counts})
    main(["--text", "7", "--out", str(tmp_path / "table.md")])
    written = (tmp_path / "table.md").read_text()
    assert written.strip().endswith("NOT reached.")
    assert "7 text + 1024 image tokens" in written
    assert capsys.readouterr().out.strip() == written.strip()
