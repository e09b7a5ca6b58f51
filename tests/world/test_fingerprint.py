import os
import subprocess
import sys

import pytest

from lib.core.paths import DATA, ROOT
from lib.world import fingerprint
from lib.world.fingerprint import sampled_scenes, sprite_scenes, world_fingerprint
from lib.world.vocabulary import BACKGROUNDS

PINNED = "e45ce73bdd88d950"  # another value means another world: every checkpoint trained on this one is void


def test_the_world_is_what_it_was():
    assert world_fingerprint() == PINNED


def test_two_processes_with_other_hash_seeds_see_the_same_world():
    code = "from lib.world.fingerprint import world_fingerprint; print(world_fingerprint())"
    for seed in "12":
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        found = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        )
        assert found.stdout.strip() == PINNED, found.stderr


def test_every_sprite_is_looked_at():
    seen = {thing.sprite for scene in sprite_scenes() for thing in scene.things}
    seen |= {thing.accessory for scene in sprite_scenes() for thing in scene.things} - {"none"}
    assert seen == {file.stem for file in (DATA / "sprites").glob("*.png")}


def test_sixty_scenes_of_each_split():
    sizes = [len(scene.things) for scene in sampled_scenes()]
    assert sizes == ([1] * 30 + [2] * 30) * 3


@pytest.mark.parametrize("what", ["color", "caption", "word"])
def test_another_world_has_another_fingerprint(what, monkeypatch):
    if what == "color":
        monkeypatch.setitem(BACKGROUNDS, "pink", (246, 176, 205))
    elif what == "caption":
        monkeypatch.setattr(fingerprint, "caption", lambda scene: "a picture")
    else:
        monkeypatch.setattr(fingerprint, "vocabulary", lambda: ["a", "an"])
    assert world_fingerprint() != PINNED
