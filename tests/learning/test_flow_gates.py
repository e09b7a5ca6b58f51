import torch

from lib.learning.flow_gates import Levels, distillation_error, gates, text_to_image
from lib.learning.flux_model import as_pipeline
from lib.world.scenes import sample_scenes


def test_a_model_is_its_own_perfect_student_at_guidance_one(tiny_flux):
    scenes, latents = (
        [*sample_scenes("test", 4)],
        torch.randn(4, 16, 16, 16, generator=torch.Generator().manual_seed(0)),
    )
    assert distillation_error(tiny_flux, tiny_flux, scenes, latents, 1.0) < 1e-4
    assert distillation_error(tiny_flux, tiny_flux, scenes, latents, 8.0) > 0.01


def test_pictures_do_not_depend_on_the_batch(tiny_flux, tiny_vae):
    pipeline = as_pipeline(tiny_flux, tiny_vae)
    pipeline.set_progress_bar_config(disable=True)
    prompts = ["a big cat on a red background", "a small pizza on a blue background", "an apple on a background"]
    with torch.inference_mode():
        together = text_to_image(pipeline, prompts, guidance=3.5, steps=2)
        apart = text_to_image(pipeline, prompts, guidance=3.5, steps=2, batch=2)
        plain = text_to_image(pipeline, prompts[:1], guidance=2.0, steps=2, true_cfg=True)
    assert together.shape == (3, 3, 64, 64)
    assert 0 <= together.min() < together.max() <= 1
    torch.testing.assert_close(apart, together, rtol=0, atol=2e-3)
    assert (together[0] - together[1]).abs().max() > 0.01
    assert plain.shape == (1, 3, 64, 64)


def test_the_object_has_a_gate_of_its_own():
    found = {f"single_{name}": 0.8 for name in ("object", "tint", "place", "background", "pattern", "style", "size")}
    judged = {gate.name: gate for gate in gates(found, Levels())}
    assert {name: gate.verdict for name, gate in judged.items()} == {
        "object accuracy": "ship reached",
        "tint accuracy": "failed",
        "place accuracy": "failed",
        "background accuracy": "failed",
        "pattern accuracy": "failed",
    }
