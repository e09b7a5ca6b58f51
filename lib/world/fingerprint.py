"""What the world is, as 16 characters: a checkpoint trained on the world fits as long as they stay the same.

Pixels and words are hashed, never source text: a rewritten comment, a faster renderer or a new docstring leaves the
fingerprint as it is; a redrawn sprite, another word or another order of random draws changes it.
"""

from collections.abc import Iterator
from hashlib import sha256
from random import Random

from lib.world.language import caption, training_caption, vocabulary
from lib.world.render import render
from lib.world.scenes import Scene, Thing, sample_scenes
from lib.world.vocabulary import ACCESSORIES, IDENTITIES, OBJECTS, SPLITS

SCENES = 30  # per split, of one object and of two


def sprite_scenes() -> Iterator[Scene]:
    """Every sprite once, so that none can change unseen."""
    things = [Thing(noun) for noun in OBJECTS]
    things += [Thing("cat", accessory=accessory) for accessory in ACCESSORIES]
    things += [Thing(noun, skin=skin, hair=hair) for noun, skin, hair in IDENTITIES]
    yield from (Scene((thing,), background="gray") for thing in things)


def sampled_scenes() -> Iterator[Scene]:
    """The first scenes of each split, of one object and of two."""
    for split in SPLITS:
        for objects in (1, 2):
            yield from sample_scenes(split, SCENES, objects=objects)


def world_fingerprint() -> str:
    """16 hex characters of the sha256 over pictures and captions of fixed scenes."""
    digest = sha256(" ".join(vocabulary()).encode())  # a word's token id is its place in this list
    rng = Random("fingerprint")
    for scene in (*sprite_scenes(), *sampled_scenes()):
        digest.update(render(scene).tobytes())
        digest.update(f"{caption(scene)}\n{training_caption(scene, rng, 1.0)}\n".encode())
    return digest.hexdigest()[:16]
