"""`tiny-flux`, untrained: a complete FluxPipeline in a small configuration, with tokenizers built from the world's
words.
"""

from pathlib import Path

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from einops import rearrange
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel, T5Tokenizer

from lib.world.language import MAX_WORDS, vocabulary

T5_LENGTH = MAX_WORDS + 1  # the longest caption and its end token
CLIP_LENGTH = 40  # the CLIP tokenizer splits "dark-skinned" in three
ASCII = [chr(code) for code in range(33, 127)]


def t5_tokenizer() -> T5Tokenizer:
    """Unigram: each word of the world is one token; other ASCII words are spelled; other characters are <unk>."""
    words = [(f"▁{word}", -3.0) for word in vocabulary()]
    letters = [(letter, -12.0) for letter in ASCII]
    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -100.0), ("▁", -8.0), *words, *letters]
    return T5Tokenizer(vocab=vocab, extra_ids=0, model_max_length=T5_LENGTH)


def clip_tokenizer() -> CLIPTokenizer:
    """Byte-level BPE whose merges spell out the world's words: each part between hyphens is one token."""
    from tokenizers.pre_tokenizers import ByteLevel

    alphabet = sorted(ByteLevel.alphabet())
    tokens = ["<|startoftext|>", "<|endoftext|>", *alphabet, *(f"{letter}</w>" for letter in alphabet)]
    merges: list[tuple[str, str]] = []
    for word in sorted({part for entry in vocabulary() for part in entry.split("-")}):
        pieces = [*word[:-1], f"{word[-1]}</w>"]
        while len(pieces) > 1:  # merge from the right, so that no word's merges break another's
            pair = (pieces[-2], pieces[-1])
            pieces[-2:] = ["".join(pair)]
            if pair not in merges:
                merges.append(pair)
                tokens.append(pieces[-1])
    vocab = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=CLIP_LENGTH)


def pack(latents: Tensor) -> Tensor:
    """[B, C, h, w] to FLUX's tokens [B, h/2 * w/2, 4 C]."""
    return rearrange(latents, "b c (h p) (w q) -> b (h w) (c p q)", p=2, q=2)


def position_ids(side: int) -> Tensor:
    """FLUX's image ids of a side x side grid of tokens: [side * side, 3] = (0, row, column)."""
    row, column = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    return torch.stack([torch.zeros_like(row), row, column], -1).reshape(-1, 3).float()


class TinyFlux(nn.Module):
    """Transformer and both text encoders, trained together. The blocks' matrices are `blocks` for the optimiser."""

    def __init__(self) -> None:
        super().__init__()
        clip, t5 = clip_tokenizer(), t5_tokenizer()
        self.transformer = FluxTransformer2DModel(
            in_channels=64,
            num_layers=2,
            num_single_layers=4,
            attention_head_dim=32,
            num_attention_heads=6,
            joint_attention_dim=128,
            pooled_projection_dim=96,
            guidance_embeds=True,
            axes_dims_rope=(4, 14, 14),
        )
        self.text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(clip),
                hidden_size=96,
                intermediate_size=192,
                num_hidden_layers=2,
                num_attention_heads=3,
                max_position_embeddings=CLIP_LENGTH,
                projection_dim=96,
                bos_token_id=clip.bos_token_id,
                eos_token_id=clip.eos_token_id,
                pad_token_id=clip.pad_token_id,
            )
        )
        self.text_encoder_2 = T5EncoderModel(
            T5Config(
                vocab_size=len(t5),
                d_model=128,
                d_kv=32,
                num_heads=4,
                d_ff=256,
                num_layers=2,
                dropout_rate=0.0,
                feed_forward_proj="gated-gelu",
                pad_token_id=t5.pad_token_id,
                eos_token_id=t5.eos_token_id,
                use_cache=False,
            )
        )

    def modules_by_optimiser(self) -> dict[str, nn.Module]:
        """Named parts; those called "blocks…" hold matrices for Muon."""
        flux = self.transformer
        rest = [flux.time_text_embed, flux.context_embedder, flux.x_embedder, flux.norm_out, flux.proj_out]
        blocks = [flux.transformer_blocks, flux.single_transformer_blocks, self.text_encoder_2.encoder.block]
        rest += [self.text_encoder, self.text_encoder_2.shared, self.text_encoder_2.encoder.final_layer_norm]
        return {"blocks": nn.ModuleList(blocks), "rest": nn.ModuleList(rest)}

    def embed(self, clip_ids: Tensor, t5_ids: Tensor) -> tuple[Tensor, Tensor]:
        """(sequence [B, L, 128], pooled [B, 96]) of token ids."""
        return self.text_encoder_2(t5_ids)[0], self.text_encoder(clip_ids).pooler_output

    def forward(self, x: Tensor, t: Tensor, sequence: Tensor, pooled: Tensor, guidance: Tensor) -> Tensor:
        """Velocity of packed latents x [B, 64, 64] at noise levels t [B]."""
        return self.transformer(
            hidden_states=x,
            timestep=t,
            guidance=guidance,
            pooled_projections=pooled,
            encoder_hidden_states=sequence,
            txt_ids=torch.zeros(sequence.shape[1], 3),
            img_ids=position_ids(int(x.shape[1] ** 0.5)),
            return_dict=False,
        )[0]


def as_pipeline(model: TinyFlux, vae: AutoencoderKL) -> FluxPipeline:
    """The pipeline around the model's parts, with FLUX.1-dev's scheduler."""
    scheduler = FlowMatchEulerDiscreteScheduler(
        shift=3.0,
        use_dynamic_shifting=True,
        base_shift=0.5,
        max_shift=1.15,
        base_image_seq_len=256,
        max_image_seq_len=4096,
    )
    return FluxPipeline(
        scheduler=scheduler,
        vae=vae,
        text_encoder=model.text_encoder,
        tokenizer=clip_tokenizer(),
        text_encoder_2=model.text_encoder_2,
        tokenizer_2=t5_tokenizer(),
        transformer=model.transformer,
    )


def save_half(pipeline: FluxPipeline, folder: Path) -> None:
    """Save as safetensors: bfloat16, the dtype of FLUX.1-dev; the autoencoder in float16, as `tiny-vae` is kept."""
    for model in (pipeline.transformer, pipeline.text_encoder, pipeline.text_encoder_2):
        model.to(torch.bfloat16)
    pipeline.vae.to(torch.float16)
    pipeline.vae.register_to_config(_name_or_path="tiny-vae")  # not the folder of this machine that it was read from
    pipeline.save_pretrained(folder, safe_serialization=True)
