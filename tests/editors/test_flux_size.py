"""The benchmark at FLUX.1-dev's size: its models have that size (built without memory), and its code runs when tiny."""

import pytest
import torch

from bench import flux_size


def test_the_transformer_and_the_autoencoder_are_flux_s():
    pipe = flux_size.random_flux(torch.device("meta"), torch.bfloat16, tiny=False)
    sizes = [sum(weight.numel() for weight in part.parameters()) for part in (pipe.transformer, pipe.vae)]
    assert sizes == [11_901_408_320, 83_819_683]
    assert pipe.tokenizer_2.model_max_length == 512
    assert {weight.dtype for weight in pipe.transformer.parameters()} == {torch.bfloat16}
    assert torch.get_default_dtype() is torch.float32


def test_a_tiny_one_is_measured_and_the_table_written(tmp_path, capsys):
    out = tmp_path / "size.md"
    flux_size.main(["--tiny", "--device", "cpu", "--steps", "2", "--repeats", "1", "--out", str(out)])
    assert capsys.readouterr().out.strip() == out.read_text().strip()
    (row,) = [line for line in out.read_text().splitlines() if line.startswith("| on the device")]
    cells = [cell.strip() for cell in row.split("|")[2:-1]]
    whole, *phases = (float(cell) for cell in cells[:5])
    assert whole == pytest.approx(sum(phases), abs=0.03)
    assert cells[5] == "4"  # two velocities at each of two steps
    assert float(cells[6]) > 0
    assert cells[7] == "nan"  # of the GPU's memory


def test_a_machine_without_a_gpu_is_told_so(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit):
        flux_size.main([])
    assert "no CUDA device here" in capsys.readouterr().err
