"""The benchmark of the renderer, with a clock that ticks only when it is read."""

from itertools import count

from bench import world


def test_rates_are_amounts_over_seconds():
    rates = world.measure(20, 3, clock=count(0, 2).__next__)  # every piece of work takes two seconds
    assert {name: rate for name, rate in rates.items() if "scenes" in name} == {
        "scenes of one object, rendered": 10,
        "scenes of two objects, rendered": 10,
        "scenes of one object, sampled from the train split": 10,
    }
    assert {rate for name, rate in rates.items() if "edits" in name} == {5}


def test_the_slower_kind_of_scene_decides():
    rates = {"one, rendered": 1500.0, "two, rendered": 999.0, "masks": 3.0}
    assert world.report(rates, "A machine.").endswith("Aim of 1,000 rendered scenes per second: missed.\n")
    assert world.report(rates | {"two, rendered": 1000.0}, "A machine.").endswith(": reached.\n")
    assert "| one, rendered | 1,500 |" in world.report(rates, "A machine.")
    assert world.processor()
