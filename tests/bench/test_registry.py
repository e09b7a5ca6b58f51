"""The table of benchmarks and the one way to open them."""

import pytest

from lib.bench import registry
from lib.bench.registry import BENCHMARKS, open_benchmark, verify_benchmark
from lib.core.errors import InputError
from tests.bench.layouts import write_flowedit, write_photos, write_pie, write_plus

WRITERS = {"photos": write_photos, "pie-bench": write_pie, "pie-bench++": write_plus, "flowedit": write_flowedit}
SIZES = {"photos": 3, "pie-bench": 4, "pie-bench++": 10, "flowedit": 6}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {name: write(tmp_path_factory.mktemp("folder") / "set") for name, write in WRITERS.items()}


def test_every_row_is_sound():
    assert list(BENCHMARKS) == ["world", "photos", "pie-bench", "pie-bench++", "flowedit"]
    for name, row in BENCHMARKS.items():
        assert row.name == name
        assert row.licence
        assert (row.read is None) == (row.verify is None) == (row.count is None)
        assert not (row.needs_folder and row.default)
        assert row.read is None or row.homepage.startswith("https://")
    assert {name for name, row in BENCHMARKS.items() if row.needs_folder} == {"pie-bench", "pie-bench++", "flowedit"}


@pytest.mark.parametrize("name", WRITERS)
def test_every_benchmark_opens_with_its_name_and_licence(folders, name):
    cases = open_benchmark(name, folder=folders[name])
    assert len(cases) == SIZES[name]
    assert (cases[0].benchmark, cases[0].licence) == (name, BENCHMARKS[name].licence)


def test_the_world_is_drawn():
    cases = open_benchmark("world", split="tune", count=3, seed=5)
    assert [case.id for case in cases] == [f"world-tune-5-0000{index}" for index in range(3)]
    assert open_benchmark("world", count=1)[0].id == "world-test-0-00000"
    with pytest.raises(InputError, match="world split: found 'best'"):
        open_benchmark("world", split="best", count=1)
    with pytest.raises(InputError, match="folder of benchmark 'world': found data"):
        open_benchmark("world", folder="data")


def test_a_world_without_a_count_has_a_stated_one(monkeypatch):
    monkeypatch.setattr(registry, "WORLD_CASES", 4)
    assert len(open_benchmark("world")) == 4


def test_more_cases_include_the_fewer(folders):
    def ids(**options):
        return [case.id for case in open_benchmark("pie-bench", folder=folders["pie-bench"], **options)]

    everything, three, two = ids(), ids(count=3), ids(count=2)
    assert set(two) < set(three) < set(everything)
    assert three == [name for name in everything if name in three]  # in the benchmark's own order
    assert three == ids(count=3)
    assert ids(count=4) == everything
    assert any(ids(count=3, seed=seed) != three for seed in range(1, 5))


@pytest.mark.parametrize("name", ["pie", "", None, ["world"]])
def test_unknown_names_list_the_known_ones(name):
    with pytest.raises(
        InputError, match=r"benchmark: found .*; expected one of world, photos, pie-bench, pie-bench\+\+"
    ):
        open_benchmark(name)


@pytest.mark.parametrize("name", ["pie-bench", "pie-bench++", "flowedit"])
def test_a_folder_is_asked_for(name):
    with pytest.raises(InputError, match=r"folder of benchmark .*: found none; expected .*https://"):
        open_benchmark(name)
    with pytest.raises(InputError, match=r"no-such-folder: found no such folder"):
        open_benchmark(name, folder="no-such-folder")


@pytest.mark.parametrize("count", [0, -1, True, 1.5, "3", 5])
def test_counts_that_cannot_be_met_are_refused(folders, count):
    with pytest.raises(InputError, match="number of cases of 'pie-bench': found"):
        open_benchmark("pie-bench", folder=folders["pie-bench"], count=count)


def test_other_splits_are_refused(folders):
    with pytest.raises(InputError, match="split of benchmark 'pie-bench': found 'tune'; expected 'test', the only one"):
        open_benchmark("pie-bench", folder=folders["pie-bench"], split="tune")


def test_verify_goes_through_the_table(folders):
    assert verify_benchmark("photos", folders["photos"]) == {"photos": 3}
    with pytest.raises(InputError, match="type 0: found 1; expected 140"):
        verify_benchmark("pie-bench++", folders["pie-bench++"])
    with pytest.raises(InputError, match="benchmark to verify: found 'world'"):
        verify_benchmark("world")
