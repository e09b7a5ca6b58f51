"""The untrained model: its words, its shapes, and that the folder it is saved in says the same."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from diffusers import FluxPipeline
from einops import rearrange
from safetensors import safe_open

from lib.backbones.load import load_backbone
from lib.learning.flow_objective import tokens
from lib.learning.flux_model import CLIP_LENGTH, T5_LENGTH, clip_tokenizer, pack, position_ids, t5_tokenizer
from lib.world.language import MAX_WORDS, caption, vocabulary
from lib.world.scenes import Scene, Thing, sample_scenes
from lib.world.vocabulary import BACKGROUNDS, HAIRS, NOUNS, PATTERNS, PLACES, SIZES, SKINS, STYLES, TINTS

LONGEST = (
    "a light-skinned curly-haired woman on the left and a dark-skinned white-haired man on the right of "
    "a checkered purple background in spotlight style"
)
CAPTIONS = [
    caption(scene) for split in ("train", "test") for n in (1, 2) for scene in sample_scenes(split, 150, objects=n)
] + [LONGEST]


@pytest.fixture(scope="module")
def t5():
    return t5_tokenizer()


@pytest.fixture(scope="module")
def clip():
    return clip_tokenizer()


@pytest.fixture(scope="module")
def backbone(tiny_flux_folder):
    return load_backbone(tiny_flux_folder, device="cpu")


def test_every_word_is_one_t5_token(t5):
    for word in vocabulary():
        assert t5.tokenize(word) == [f"▁{word}"]
    assert len({t5.convert_tokens_to_ids(f"▁{word}") for word in vocabulary()}) == len(vocabulary())


def test_every_part_of_a_word_is_one_clip_token(clip):
    for word in vocabulary():
        wanted = [part for each in word.split("-") for part in (f"{each}</w>", "-</w>")][:-1]
        assert clip.tokenize(word) == wanted


def test_no_caption_is_cut_or_unknown(t5, clip):
    for text in CAPTIONS:
        ids = t5(text).input_ids
        assert len(ids) == len(text.split()) + 1 <= T5_LENGTH
        assert t5.unk_token_id not in ids
        assert ids[-1] == t5.eos_token_id
        ids = clip(text).input_ids
        assert len(ids) == len(text.replace("-", " - ").split()) + 2 <= CLIP_LENGTH
        assert ids.count(clip.eos_token_id) == ids.count(clip.bos_token_id) == 1  # CLIP's unknown is its end token
        assert (ids[0], ids[-1]) == (clip.bos_token_id, clip.eos_token_id)
    assert len(t5(LONGEST).input_ids) == MAX_WORDS + 1 == T5_LENGTH


def test_captions_survive_the_tokenizers(t5, clip):
    for text in CAPTIONS[::20]:
        assert t5.decode(t5(text).input_ids, skip_special_tokens=True) == text
        assert clip.decode(clip(text).input_ids, skip_special_tokens=True).replace(" - ", "-").strip() == text


def test_other_words_are_spelled_and_other_letters_unknown(t5):
    assert t5.unk_token_id not in t5("Draw a Zebra, please!").input_ids
    assert t5.unk_token_id in t5("a crêpe").input_ids


def test_tokens_are_padded_after_the_end(t5, clip):
    clip_ids, t5_ids = tokens(["", "a cat", LONGEST])
    assert (clip_ids.shape, t5_ids.shape) == ((3, CLIP_LENGTH), (3, T5_LENGTH))
    assert t5_ids[0].tolist() == [t5.eos_token_id] + [t5.pad_token_id] * (T5_LENGTH - 1)
    assert t5_ids[2, -1] == t5.eos_token_id
    assert t5_ids[1, :2].tolist() == [t5.convert_tokens_to_ids(word) for word in ("▁a", "▁cat")]
    ends = (clip_ids == clip.eos_token_id).int().argmax(1)
    assert ends.tolist() == [1, 3, len(LONGEST.replace("-", " - ").split()) + 1]


def test_configs_and_tokenizers_agree_in_the_saved_folder(backbone, t5, clip):
    pipe = backbone.pipe
    for config, loaded, made in (
        (pipe.text_encoder.config, pipe.tokenizer, clip),
        (pipe.text_encoder_2.config, pipe.tokenizer_2, t5),
    ):
        assert config.vocab_size == len(loaded) == len(made)
        assert config.eos_token_id == loaded.eos_token_id == made.eos_token_id
        assert config.pad_token_id == loaded.pad_token_id == made.pad_token_id
        assert loaded.unk_token_id == made.unk_token_id
        assert loaded.model_max_length == made.model_max_length
        assert loaded.get_vocab() == made.get_vocab()
        for text in [*CAPTIONS[::15], "", "Draw a Zebra, please!"]:
            assert loaded(text).input_ids == made(text).input_ids
    assert pipe.text_encoder.config.bos_token_id == pipe.tokenizer.bos_token_id == clip.bos_token_id
    assert pipe.text_encoder.config.max_position_embeddings == pipe.tokenizer.model_max_length == CLIP_LENGTH


def one_word_apart() -> list[tuple[str, str]]:
    """Pairs of captions in which one word differs, for every attribute that a caption says."""
    cat = Scene((Thing("cat", tint="red", accessory="hat"),), "blue", "striped", "ink")
    man = Scene((Thing("man", skin="light-skinned", hair="red-haired"),), "blue")
    pairs = []
    for name, values in {"noun": NOUNS[:-2], "tint": [*TINTS][1:], "size": SIZES, "place": PLACES}.items():
        scenes = [replace(cat, things=(replace(cat.things[0], **{name: value}),)) for value in values]
        pairs += pairwise(map(caption, scenes))
    for name, values in {"skin": SKINS, "hair": HAIRS}.items():
        scenes = [replace(man, things=(replace(man.things[0], **{name: value}),)) for value in values]
        pairs += pairwise(map(caption, scenes))
    for name, values in {"background": BACKGROUNDS, "pattern": PATTERNS, "style": STYLES[1:]}.items():
        pairs += pairwise(caption(replace(cat, **{name: value})) for value in values)
    pairs.append((caption(cat), caption(replace(cat, things=(replace(cat.things[0], accessory="bow"),)))))
    return pairs


def test_captions_one_word_apart_are_embedded_apart(tiny_flux):
    """Also in the pooled vector: without an eos id in the CLIP config all prompts pool to one."""
    pairs = one_word_apart()
    assert len(pairs) > 50
    (left, left_pooled), (right, right_pooled) = (tiny_flux.embed(*tokens(texts)) for texts in zip(*pairs, strict=True))
    assert ((left - right).abs().amax(dim=(1, 2)) > 0.01).all()
    assert ((left_pooled - right_pooled).abs().amax(dim=1) > 0.01).all()


def test_the_pooled_vector_is_read_at_the_end_token(tiny_flux, clip):
    text = "a big red cat"
    ids, t5_ids = tokens([text])
    pooled = tiny_flux.embed(ids, t5_ids)[1]
    end = ids[0].tolist().index(clip.eos_token_id)
    states = tiny_flux.text_encoder(ids).last_hidden_state
    assert torch.equal(pooled[0], states[0, end])
    short = tiny_flux.embed(ids[:, : end + 1], t5_ids)[1]  # what is padded behind it does not matter
    torch.testing.assert_close(short, pooled, rtol=0, atol=1e-5)


def test_packing_and_positions_are_flux_pipelines():
    latents = torch.randn(3, 16, 8, 12)
    assert torch.equal(pack(latents), FluxPipeline._pack_latents(latents, 3, 16, 8, 12))
    theirs = FluxPipeline._prepare_latent_image_ids(1, 8, 8, torch.device("cpu"), torch.float32)
    assert torch.equal(position_ids(8), theirs)


def test_the_saved_folder_gives_the_same_velocity(backbone, tiny_flux):
    prompts, draw = ["a big red cat on the left of a plain blue background", LONGEST], torch.Generator().manual_seed(4)
    x = torch.randn(2, 16, 16, 16, generator=draw)
    for t, guidance in ((1.0, 1.0), (0.3, 5.5)):
        found = backbone.velocity(x, t, backbone.embed(prompts, guidance))
        embedded = tiny_flux.embed(*tokens(prompts))
        wanted = tiny_flux(pack(x), torch.full((2,), t), *embedded, torch.full((2,), guidance))
        wanted = rearrange(wanted, "b (h w) (c p q) -> b c (h p) (w q)", h=8, p=2, q=2)
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
        assert wanted.std() > 0.01


def test_velocity_hears_everything_it_is_given(tiny_flux):
    x, t, one = torch.randn(1, 64, 64, generator=torch.Generator().manual_seed(5)), torch.tensor([0.5]), torch.ones(1)
    ids = tokens(["a big red cat on the left of a plain blue background"])
    sequence, pooled = tiny_flux.embed(*ids)
    other_sequence, other_pooled = tiny_flux.embed(*tokens([LONGEST]))
    wanted = tiny_flux(x, t, sequence, pooled, one)
    for changed in (
        (x.flip(1), t, sequence, pooled, one),
        (x, t / 2, sequence, pooled, one),
        (x, t, other_sequence, pooled, one),
        (x, t, sequence, other_pooled, one),
        (x, t, sequence, pooled, 4 * one),
    ):
        assert (tiny_flux(*changed) - wanted).abs().max() > 1e-3


def test_the_folder_holds_halves_only(tiny_flux_folder):
    files = sorted(tiny_flux_folder.rglob("*.safetensors"))
    assert [file.parent.name for file in files] == ["text_encoder", "text_encoder_2", "transformer", "vae"]
    wanted = dict.fromkeys(("text_encoder", "text_encoder_2", "transformer"), "BF16") | {"vae": "F16"}
    for file in files:
        with safe_open(file, "pt") as weights:
            names = list(weights.keys())
            assert {weights.get_slice(name).get_dtype() for name in names} == {wanted[file.parent.name]}, file


def test_the_backbone_reads_the_folders_own_text_length(backbone):
    assert backbone.text_tokens == T5_LENGTH
    assert backbone.embed([LONGEST]).prompt_embeds.shape == (1, T5_LENGTH, 128)
    assert backbone.guidance_mode == "distilled"
