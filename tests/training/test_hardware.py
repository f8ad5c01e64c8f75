import pytest
import torch

from gpt_lightning.training import hardware

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    "name, tera",
    [
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA A10G", 70),
        ("NVIDIA A10", 125),
        ("NVIDIA L40S", 362),
        ("NVIDIA L4", 121),
        ("NVIDIA H200", 989),
        ("NVIDIA H200 NVL", 835),
        ("NVIDIA RTX A6000", 155),
    ],
)
def test_the_peak_of_a_known_card(monkeypatch, name, tera):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    assert hardware.peak_flops(CUDA, "bf16-mixed") == tera * 1e12
    assert hardware.peak_flops(CUDA, "32-true") is None  # la table est en 16 bits


def test_no_figure_rather_than_a_wrong_one(monkeypatch):
    for name in ("Carte inconnue", "NVIDIA RTX A1000", "NVIDIA RTX A4000"):
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device, name=name: name)
        assert hardware.peak_flops(CUDA, "bf16-mixed") is None
    assert hardware.peak_flops(CPU, "bf16-mixed") is None
    assert hardware.peak_flops(CPU, "32-true", 2e11) == 2e11
    for wrong in (0, -1, "vite", True):
        with pytest.raises(ValueError, match="peak_flops"):
            hardware.peak_flops(CPU, "32-true", wrong)


def test_the_environment_says_what_ran():
    import yaml

    found = hardware.environment()
    assert found["packages"]["torch"] == torch.__version__ and found["cores"] >= 1
    assert yaml.safe_load(yaml.safe_dump(found)) == found
    assert hardware.peak_memory(CPU) > 50e6
