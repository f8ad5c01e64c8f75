import json
import subprocess
import sys

import pytest
import torch

from gpt_lightning.cli.processes import Launcher
from gpt_lightning.errors import UserError
from gpt_lightning.training import hardware, measures

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
LARGE = 2048, 128  # la forme du défaut : model=mini, 16 textes de 128 jetons


@pytest.fixture(autouse=True)
def no_memory(tmp_path, monkeypatch):
    """Aucune mesure n'est retenue avant un test, ni après."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    measures._here.clear()


@pytest.fixture
def busy():
    """Deux processus qui occupent les cœurs."""
    both = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    yield
    for one in both:
        one.kill()
        one.wait()


def refuse(*_):
    raise AssertionError("rien n'est à mesurer")


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
    "native, ratio, answer", [(True, 3.0, "bf16-mixed"), (True, 1.4, "32-true"), (False, 9.0, "32-true")]
)
def test_the_precision_of_a_processor_is_measured_on_the_shapes_of_the_model(
    native, ratio, answer, monkeypatch
):
    seen = []
    monkeypatch.setattr(hardware, "native_bf16", lambda device: native)
    monkeypatch.setattr(hardware, "_bf16_ratio", lambda *shape: seen.append(shape) or ratio)
    assert hardware.automatic_precision(CPU, *LARGE) == answer
    assert hardware.automatic_precision(CPU, *LARGE) == answer
    assert seen == ([LARGE] if native else [])  # une fois par forme


def test_a_given_precision_measures_nothing(monkeypatch):
    monkeypatch.setattr(hardware, "native_bf16", lambda device: True)
    monkeypatch.setattr(hardware, "_bf16_ratio", refuse)
    for precision in ("32-true", "bf16-mixed"):
        assert hardware.resolve({**VALUES, "precision": precision}).precision == precision
    assert not measures.file().exists()


@pytest.mark.parametrize("shape", [(256, 32), (512, 32), (64, 128)])
def test_a_small_product_is_not_measured(shape, monkeypatch):
    monkeypatch.setattr(hardware, "native_bf16", lambda device: True)
    monkeypatch.setattr(hardware, "_bf16_ratio", refuse)
    assert {hardware.automatic_precision(CPU, *shape) for _ in range(50)} == {"32-true"}


def test_the_same_command_decides_the_same_whatever_the_machine_does(busy, monkeypatch):
    """Chaque passage est un processus neuf : il n'a pour lui que le fichier."""
    monkeypatch.setattr(hardware, "native_bf16", lambda device: True)
    for shape in ((256, 32), LARGE):
        found = set()
        for _ in range(50):
            measures._here.clear()
            found.add(hardware.automatic_precision(CPU, *shape))
        assert len(found) == 1, shape


def test_a_measure_that_flips_decides_once(monkeypatch, caplog):
    ratios = iter([1.6, 1.3, 1.7])
    monkeypatch.setattr(hardware, "native_bf16", lambda device: True)
    monkeypatch.setattr(hardware, "_bf16_ratio", lambda *shape: next(ratios))
    with caplog.at_level("INFO", "gpt_lightning"):
        first = hardware.automatic_precision(CPU, *LARGE)
        assert "retenue" not in caplog.text
        measures._here.clear()
        again = hardware.automatic_precision(CPU, *LARGE)
    assert (first, again) == ("bf16-mixed", "bf16-mixed")
    assert f"retenue dans {measures.file()}" in caplog.text  # on sait quoi effacer
    measures._here.clear()
    measures.file().unlink()
    assert hardware.automatic_precision(CPU, *LARGE) == "32-true"


@pytest.mark.parametrize("what", ["torch", "processeur", "threads", "jetons", "largeur"])
def test_another_machine_or_another_shape_is_measured_again(what, monkeypatch):
    ratios, shape = iter([3.0, 1.0]), list(LARGE)
    monkeypatch.setattr(hardware, "native_bf16", lambda device: True)
    monkeypatch.setattr(hardware, "_bf16_ratio", lambda *shape: next(ratios))
    assert hardware.automatic_precision(CPU, *shape) == "bf16-mixed"
    if what == "torch":
        monkeypatch.setattr(torch, "__version__", "9.9.9")
    elif what == "processeur":
        monkeypatch.setattr(hardware, "processor", lambda: "un autre")
    elif what == "threads":
        monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    else:
        shape[["jetons", "largeur"].index(what)] += 8
    assert hardware.automatic_precision(CPU, *shape) == "32-true"
    assert len(json.loads(measures.file().read_text("utf-8"))) == 2


def test_a_rate_is_remembered(monkeypatch):
    """Il décide de compiler : un débit qui varie ne fait pas changer d'avis."""
    rates = iter([1e14, 2e14, 3e14])
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100 80GB HBM3")
    monkeypatch.setattr(hardware, "_rate", lambda *_: next(rates))
    for _ in range(3):
        measures._here.clear()
        assert hardware.matmul_rate(CUDA, "bf16-mixed") == 1e14
    assert hardware.matmul_rate(CUDA, "32-true") == 2e14
    assert hardware.matmul_rate(CPU, "32-true") == hardware.matmul_rate(CPU, "32-true") == 3e14
    assert len(json.loads(measures.file().read_text("utf-8"))) == 3


def test_a_measured_product_draws_nothing():
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    assert hardware._bf16_ratio(8, 8) > 0 and hardware.matmul_rate(CPU, "32-true") > 0
    assert torch.equal(before, torch.random.get_rng_state())
