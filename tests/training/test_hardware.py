import pytest
import torch

from gpt_lightning.cli.processes import Launcher
from gpt_lightning.errors import UserError
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


def test_the_peak_of_memory_counts_this_process():
    assert hardware.peak_memory(CPU) > 50e6


VALUES = {"accelerator": "cpu", "devices": 1, "num_nodes": 1, "precision": "auto"}


@pytest.mark.parametrize(
    "devices, count", [(1, 1), (3, 3), ("auto", 1), (-1, 1), ("2", 2), ("0,1", 2), ([0, 1], 2)], ids=str
)
def test_devices_may_be_said_as_lightning_takes_them(devices, count):
    machine = hardware.resolve({**VALUES, "devices": devices, "num_nodes": 2})
    assert (machine.devices, machine.world_size) == (devices, 2 * count)


def test_the_count_is_the_one_of_lightning():
    import lightning

    for devices in (1, 3, "auto", "2"):
        trainer = lightning.Trainer(accelerator="cpu", devices=devices, logger=False)
        assert hardware.resolve({**VALUES, "devices": devices}).world_size == trainer.world_size


def test_the_precision_is_the_one_the_hardware_computes():
    assert hardware.resolve(VALUES).precision in ("32-true", "bf16-mixed")
    assert hardware.resolve({**VALUES, "precision": "bf16-true"}).precision == "bf16-true"


@pytest.mark.skipif(torch.cuda.is_available(), reason="ce test est celui d'une machine sans GPU")
@pytest.mark.parametrize("accelerator", ["gpu", "cuda", "mps"])
def test_a_device_that_is_not_there_is_refused(accelerator):
    with pytest.raises(UserError, match=f"accelerator={accelerator}"):
        hardware.resolve({**VALUES, "accelerator": accelerator})


def test_the_launcher_says_how_many_processes_there_are():
    launcher = Launcher("torchrun", 0, 4, 2, 2)
    for values in ({}, {"devices": 2}, {"devices": "auto", "num_nodes": 2}):
        machine = hardware.resolve({**VALUES, **values}, launcher)
        assert (machine.devices, machine.num_nodes, machine.world_size) == (2, 2, 4)
    with pytest.raises(UserError, match="trainer.devices=3, mais torchrun"):
        hardware.resolve({**VALUES, "devices": 3}, launcher)


@pytest.mark.parametrize(
    "native, ratio, answer", [(True, 3.0, "bf16-mixed"), (True, 1.1, "32-true"), (False, 9.0, "32-true")]
)
def test_the_precision_of_a_processor_is_measured_on_the_shapes_of_the_model(
    native, ratio, answer, monkeypatch
):
    seen = []

    def seconds(tokens, width, dtype):
        seen.append((tokens, width))
        return 1.0 if dtype == torch.bfloat16 else ratio

    monkeypatch.setattr(hardware, "native_bf16", lambda device: native)
    monkeypatch.setattr(hardware, "_product_seconds", seconds)
    hardware.automatic_precision.cache_clear()
    assert hardware.automatic_precision(torch.device("cpu"), 512, 64) == answer
    assert hardware.automatic_precision(torch.device("cpu"), 512, 64) == answer
    assert seen == ([(512, 64)] * 2 if native else [])  # une fois par forme
    hardware.automatic_precision.cache_clear()


def test_a_measured_product_draws_nothing():
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    assert hardware._product_seconds(8, 8, torch.bfloat16) > 0
    assert torch.equal(before, torch.random.get_rng_state())
