import pytest
import torch

from lib.core.errors import InputError
from lib.core.noise import InjectedNoise, Noise


def test_a_case_gets_the_same_noise_in_any_batch():
    like = torch.empty(3, 4, 8, 8)
    batch = Noise(["a", "b", "c"], seed=7).draw(5, like)
    turned = Noise(["c", "a", "b"], seed=7).draw(5, like)
    alone = Noise(["b"], seed=7).draw(5, like[:1])
    assert torch.equal(turned, batch[[2, 0, 1]])
    assert torch.equal(alone[0], batch[1])


def test_noise_depends_on_case_seed_and_step_and_on_nothing_before():
    like = torch.empty(1, 4, 8, 8)
    noise = Noise(["a"], seed=0)
    first = noise.draw(0, like)
    others = [noise.draw(1, like), Noise(["a"], seed=1).draw(0, like), Noise(["b"], seed=0).draw(0, like)]
    assert all((first - other).abs().max() > 0.1 for other in others)
    torch.manual_seed(3)
    assert torch.equal(noise.draw(0, like), first)


def test_keys_do_not_run_into_each_other():
    like = torch.empty(1, 4, 8, 8)
    assert not torch.equal(Noise(["a1"], seed=1).draw(0, like), Noise(["a"], seed=11).draw(0, like))
    assert not torch.equal(Noise(["a"], seed=1).draw(11, like), Noise(["a"], seed=11).draw(1, like))


def test_noise_is_standard_normal_float32_whatever_it_is_like():
    draw = Noise([str(i) for i in range(64)], seed=0).draw(0, torch.empty(64, 16, 16, dtype=torch.bfloat16))
    assert draw.dtype == torch.float32
    assert draw.mean().abs() < 5 / len(draw.flatten()) ** 0.5
    assert abs(draw.var() - 1) < 5 * (2 / len(draw.flatten())) ** 0.5


def test_drawing_leaves_the_global_generator_alone():
    state = torch.get_rng_state()
    Noise(["a"], seed=0).draw(0, torch.empty(1, 8))
    assert torch.equal(torch.get_rng_state(), state)


def test_select_keeps_the_rows_of_the_cases():
    like = torch.empty(3, 8)
    noise = Noise(["a", "b", "c"], seed=0)
    injected = InjectedNoise({2: torch.randn(3, 8)})
    for stream in (noise, injected):
        assert torch.equal(stream.select([2, 0]).draw(2, like[:2]), stream.draw(2, like)[[2, 0]])


def test_wrong_requests_are_refused():
    with pytest.raises(InputError, match="found a batch of 2; expected 1 rows"):
        Noise(["a"], seed=0).draw(0, torch.empty(2, 8))
    with pytest.raises(InputError, match="found -1; expected"):
        Noise(["a"], seed=0).draw(-1, torch.empty(1, 8))
    injected = InjectedNoise({0: torch.randn(1, 8)})
    with pytest.raises(InputError, match=r"found none for step 3; expected any of \[0\]"):
        injected.draw(3, torch.empty(1, 8))
    with pytest.raises(InputError, match=r"found shape \[1, 8\]; expected \[2, 8\]"):
        injected.draw(0, torch.empty(2, 8))
