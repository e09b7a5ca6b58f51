"""FlowEdit at 1024 x 1024 on a random transformer of FLUX.1-dev's size: seconds per edit, overhead, peak memory.

What is timed does not depend on what the weights know. The transformer (11.9 billion parameters) and the autoencoder
have FLUX.1-dev's configurations; the text encoders are small ones of the same output sizes, as prompts are embedded
once per edit and take no part in the loop. Its table is not in the repository: it was not measured yet.

    python -m bench.flux_size                     # a GPU with 30 GB or more
    python -m bench.flux_size --tiny --device cpu  # the same code at a size that any machine bears
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import nan

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from bench.overhead import clock_of, device_name, make_batch, measure
from lib.backbones.flux import FluxBackbone
from lib.core.paths import resolve
from lib.editors.registry import editor_named
from lib.learning.flux_model import clip_tokenizer, t5_tokenizer

TEXT_TOKENS = 512  # FLUX.1-dev's


def random_flux(device: torch.device, dtype: torch.dtype, *, tiny: bool) -> FluxPipeline:
    """A FluxPipeline with random weights in FLUX.1-dev's configuration; `tiny`: one thin block of each kind."""
    torch.manual_seed(0)
    heads, doubles, singles, width = (2, 1, 1, 32) if tiny else (24, 19, 38, 4096)
    channels = (16, 16, 16, 16) if tiny else (128, 256, 512, 512)
    clip, t5 = clip_tokenizer(), t5_tokenizer()
    t5.model_max_length = TEXT_TOKENS
    with torch.device(device), _default_dtype(dtype):
        transformer = FluxTransformer2DModel(
            num_layers=doubles,
            num_single_layers=singles,
            num_attention_heads=heads,
            joint_attention_dim=width,
            guidance_embeds=True,
        )
        vae = AutoencoderKL(
            block_out_channels=channels,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
            norm_num_groups=16 if tiny else 32,
            latent_channels=16,
            use_quant_conv=False,
            use_post_quant_conv=False,
            scaling_factor=0.3611,
            shift_factor=0.1159,
        )
        special = {f"{name}_token_id": getattr(clip, f"{name}_token_id") for name in ("bos", "eos", "pad")}
        text = CLIPTextModel(CLIPTextConfig(vocab_size=len(clip), hidden_size=768, num_hidden_layers=1, **special))
        special = {f"{name}_token_id": getattr(t5, f"{name}_token_id") for name in ("eos", "pad")}
        sizes = {"d_model": width, "d_kv": 8, "num_heads": 2, "d_ff": 64, "num_layers": 1}
        long_text = T5EncoderModel(T5Config(vocab_size=len(t5), use_cache=False, **sizes, **special))
    scheduler = FlowMatchEulerDiscreteScheduler(
        shift=3.0, use_dynamic_shifting=True
    )  # the rest is FLUX.1-dev's as it is
    pipe = FluxPipeline(scheduler, vae, text, clip, long_text, t5, transformer)
    for part in (transformer, vae, text, long_text):
        part.to(dtype).eval().requires_grad_(False)
    return pipe


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Weights made in this type at once: in float32 first, the large transformer would take twice its memory."""
    standing = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(standing)


def run(pipe: FluxPipeline, side: int, repeats: int, steps: int | None = None) -> dict[str, float]:
    """Seconds of the phases of one FlowEdit at its default settings, its overhead, and peak memory in GB."""
    backbone = FluxBackbone(pipe, name="random FLUX")
    on_gpu = backbone.device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(backbone.device)
    batch = make_batch(side, 1)
    found = measure([editor_named("flowedit")], backbone, batch, repeats, clock_of(backbone.device), steps)["flowedit"]
    peak = torch.cuda.max_memory_allocated(backbone.device) / 1e9 if on_gpu else nan
    return found | {"peak GB": peak}


def report(rows: dict[str, dict[str, float]], facts: str) -> str:
    """A Markdown table: a row per way of placing the weights."""
    head = ("seconds per edit", "encode", "embed", "loop", "decode", "transformer calls", "overhead", "peak GB")
    lines = ["# FlowEdit at the size of FLUX.1-dev", "", facts, "", "| weights | " + " | ".join(head) + " |"]
    lines.append("|---|" + "---:|" * len(head))
    for name, row in rows.items():
        whole = sum(row[phase] for phase in ("encode", "embed", "loop", "decode"))
        seconds = [f"{value:.2f}" for value in (whole, *(row[p] for p in ("encode", "embed", "loop", "decode")))]
        lines.append(
            f"| {name} | {' | '.join(seconds)} | {row['calls']:g} | {row['overhead']:.3f} | {row['peak GB']:.1f} |"
        )
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure with all weights on the GPU, then with offload; print the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--tiny", action="store_true", help="thin blocks, to try the script")
    parser.add_argument("--side", type=int, default=None, help="pixels (1024; 64 if tiny)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=None, help="instead of FlowEdit's 28")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", help="file to write, relative to the repository (bench/flux_size.md; none if tiny)")
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("no CUDA device here; --tiny --device cpu tries the script")
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    side = options.side or (64 if options.tiny else 1024)
    pipe = random_flux(device, dtype, tiny=options.tiny)
    size = sum(p.numel() for p in pipe.transformer.parameters()) / 1e9
    rows = {"on the device": run(pipe, side, options.repeats, options.steps)}
    if device.type == "cuda":
        pipe.to("cpu")
        torch.cuda.empty_cache()
        pipe.enable_model_cpu_offload(device=device)
        rows["offloaded between parts"] = run(pipe, side, 1, options.steps)
    settings = f"FlowEdit with {options.steps} steps" if options.steps else "FlowEdit's default settings"
    facts = (
        f"{device_name(device)}; random weights, transformer of {size:.3g} billion parameters in "
        f"{str(dtype).removeprefix('torch.')}; one picture of {side} x {side}, {TEXT_TOKENS} text tokens, "
        f"{settings}; medians of {options.repeats} repeats (offloaded: one); torch {torch.__version__}."
    )
    text = report(rows, facts)
    print(text)
    out = options.out or (None if options.tiny else "bench/flux_size.md")
    if out:
        resolve(out).write_text(text)


if __name__ == "__main__":
    main()
