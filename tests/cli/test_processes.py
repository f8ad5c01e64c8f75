"""Les processus de torchrun et de srun, lus dans leurs variables d'environnement, et ce qu'ils se disent."""

import os
import threading

import pytest

from gpt_lightning.cli import processes
from gpt_lightning.cli.processes import Launcher

TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "x",
    "RANK": "3",
    "WORLD_SIZE": "4",
    "LOCAL_WORLD_SIZE": "2",
    "GROUP_WORLD_SIZE": "2",
    "LOCAL_RANK": "1",
    "GROUP_RANK": "1",
}
SLURM = {
    "SLURM_JOB_NAME": "gpt",
    "SLURM_NTASKS": "8",
    "SLURM_NTASKS_PER_NODE": "4",
    "SLURM_NNODES": "2",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
}


@pytest.mark.parametrize(
    "environment, expected",
    [
        ({}, None),
        (TORCHRUN, Launcher("torchrun", 3, 4, 2, 2, local_rank=1, node=1)),
        (SLURM, Launcher("srun", 5, 8, 4, 2, local_rank=1, node=1)),
        ({**SLURM, "SLURM_JOB_NAME": "bash"}, None),
        ({**SLURM, "SLURM_NTASKS": "1"}, None),
        ({"LOCAL_RANK": "1", "WORLD_SIZE": "2"}, None),  # un enfant de Lightning
    ],
    ids=str,
)
def test_the_launcher_is_read_from_the_environment(environment, expected):
    assert processes.launcher(environment) == expected


def test_slurm_must_say_its_tasks_per_node():
    with pytest.raises(ValueError, match="ntasks-per-node"):
        processes.launcher({key: value for key, value in SLURM.items() if key != "SLURM_NTASKS_PER_NODE"})


def test_followers_receive_the_settings_of_the_first(monkeypatch):
    for name in ("TORCHELASTIC_USE_AGENT_STORE", "TORCHELASTIC_RESTART_COUNT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(processes._free_port() - 1))
    monkeypatch.setattr(
        processes.SharedSettings, "current", None
    )  # rendu à la fin : ce processus n'est pas un rang
    first = processes.SharedSettings(Launcher("torchrun", 0, 2, 2, 1))
    received = []
    other = processes.SharedSettings(Launcher("torchrun", 1, 2, 2, 1))
    follower = threading.Thread(target=lambda: received.extend(other))
    follower.start()
    sent = [{"seed": 1, "nom": "été"}, {"seed": 2, "liste": [1, None]}]
    for settings in (*sent, None):
        first.send(settings)
    follower.join(timeout=20)
    assert received == sent and not follower.is_alive()


def test_a_child_reads_its_settings_once_and_nobody_else_can(monkeypatch):
    import stat
    from pathlib import Path

    from lightning.pytorch.strategies.launchers import subprocess_script

    from gpt_lightning.cli import processes

    monkeypatch.setattr(processes, "_prepared", None)  # remis à la fin : ce processus n'est pas un enfant
    settings = {"logger": {"clé": "secret"}, "seed": 3, "threads": 2}
    with processes.launch_children("train", settings, {"prêt": 1}):
        commands = [subprocess_script._hydra_subprocess_cmd(rank)[0] for rank in (1, 2)]
        files = [Path(command[-1]) for command in commands]
        assert files[0] != files[1] and all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in files)
        assert "secret" not in " ".join(commands[0])
        monkeypatch.setattr("sys.argv", ["train", processes.CHILD, str(files[0])])
        assert processes.receive_settings() == settings and not files[0].exists()
        assert processes.once_per_machine(lambda: 0) == {"prêt": 1}
    assert not files[1].exists()


@pytest.mark.parametrize("before", [None, "7"])
@pytest.mark.parametrize("decided", [2, "auto"])
def test_children_have_the_threads_of_the_run_and_the_next_task_its_own(before, decided, monkeypatch):
    """Lightning lit la variable : absente, il la choisit lui-même, et l'y laisse."""
    from gpt_lightning.cli import processes

    name = "OMP_NUM_THREADS"
    monkeypatch.setenv(name, "1")
    monkeypatch.delenv(name) if before is None else monkeypatch.setenv(name, before)
    with processes.launch_children("train", {"threads": decided}, None):
        assert os.environ.get(name) == (before if decided == "auto" else "2")
        os.environ[name] = "9"
    assert os.environ.get(name) == before
