"""Combien de threads : ce que la personne donne, ce que la machine décide, ce qui en reste. L'horloge est injectée."""

from types import SimpleNamespace

import pytest
import torch
import yaml

from gpt_lightning.cli import defaults
from gpt_lightning.model import GPTConfig, GPTModel
from gpt_lightning.model.lora import LoRAConfig, adapt
from gpt_lightning.training import measures, threads
from gpt_lightning.training.hardware import Machine

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
SHAPE = (2, 8)


def model(**values) -> GPTModel:
    shape = {"vocab_size": 11, "context_length": 8, "emb_dim": 16, "n_heads": 2, "n_layers": 1}
    return GPTModel(GPTConfig(**{**shape, **values}))


def machine(device=CPU, world_size=1, num_nodes=1) -> Machine:
    return Machine(device, world_size // num_nodes, num_nodes, world_size, "32-true")


@pytest.fixture(autouse=True)
def four_cores(tmp_path, monkeypatch):
    """Quatre cœurs, sans OMP_NUM_THREADS, et aucune mesure retenue."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(threads.VARIABLE, raising=False)
    monkeypatch.setattr(threads, "all_threads", lambda: 4)
    measures._here.clear()


@pytest.fixture
def compared(monkeypatch):
    """Les comparaisons à venir, dans l'ordre : (rapport, part des cœurs)."""
    coming: list[tuple[float, float]] = []
    monkeypatch.setattr(threads, "compare", lambda step, most: threads.Comparison(*coming.pop(0)))
    return coming


def decide(asked="auto", where=None, *, resumes=False, launcher=None):
    where = machine() if where is None else where
    return threads.decide(asked, where, model(), SHAPE, resumes=resumes, launcher=launcher)


@pytest.mark.parametrize("asked", ["auto", 3])
@pytest.mark.parametrize("typed", [True, False])
@pytest.mark.parametrize("variable", [None, "1"])
def test_what_is_typed_wins_and_the_key_over_the_variable(asked, typed, variable, monkeypatch):
    if variable is not None:
        monkeypatch.setenv(threads.VARIABLE, variable)
        monkeypatch.setattr(threads, "all_threads", lambda: int(variable))
    assert threads.asked_threads(asked, typed) == (asked if typed or variable is None else 1)


@pytest.mark.parametrize("ratio, answer", [(0.5, 4), (0.99, 4), (1.0, 1), (1.3, 1), (20.0, 1)])
@pytest.mark.parametrize("share", [0.5, 0.98])
def test_one_thread_is_taken_where_it_is_clearly_faster(ratio, answer, share, compared):
    compared.append((ratio, share))
    assert decide() == answer


@pytest.mark.parametrize(
    "asked, where, more, answer",
    [
        (3, machine(), {}, 3),
        ("auto", machine(CUDA), {}, "auto"),
        ("auto", machine(world_size=2), {}, 2),
        ("auto", machine(world_size=4, num_nodes=2), {}, 2),
        ("auto", machine(world_size=9), {}, 1),
        ("auto", machine(), {"resumes": True}, 4),  # d'avant cette clé
        ("auto", machine(world_size=2, num_nodes=2), {}, 4),  # chaque machine choisirait pour soi
    ],
)
def test_the_rest_measures_nothing(asked, where, more, answer, compared):
    assert decide(asked, where, **more) == answer


@pytest.mark.parametrize("own, answer", [(2, 2), (8, 4)])
def test_a_process_of_srun_may_already_have_its_own_cores(own, answer, monkeypatch):
    monkeypatch.setattr(threads.os, "cpu_count", lambda: 8)
    monkeypatch.setattr(threads, "all_threads", lambda: own)
    assert decide(where=machine(world_size=2), launcher="srun") == answer


@pytest.mark.parametrize("processes, answer", [(2, 4), (3, 2), (8, 1), (9, 1)])
def test_the_single_thread_of_torchrun_is_nobody_s_choice(processes, answer, monkeypatch):
    """`torchrun` met OMP_NUM_THREADS=1 dans chaque processus : les cœurs qu'ils ont se partagent quand même."""
    monkeypatch.setattr(threads.os, "cpu_count", lambda: 64)
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(threads, "all_threads", lambda: 1)
    monkeypatch.setenv(threads.VARIABLE, "1")
    given = threads.asked_threads("auto", False, "torchrun")
    assert decide(given, machine(world_size=processes), launcher="torchrun") == answer
    for typed, variable, launcher in [
        (True, "1", "torchrun"),
        (False, "1", "srun"),
        (False, "3", "torchrun"),
    ]:
        monkeypatch.setenv(threads.VARIABLE, variable)
        monkeypatch.setattr(threads, "all_threads", lambda value=int(variable): value)
        given = threads.asked_threads(1 if typed else "auto", typed, launcher)
        assert decide(given, machine(world_size=processes), launcher=launcher) == int(variable)


@pytest.mark.parametrize(
    "recorded, before, now, typed, variable, answer",
    [
        (3, 1, 1, [], None, 3),
        (3, 2, 2, [], None, 3),
        (4, 1, 2, [], None, 2),  # quatre cœurs, deux processus
        (2, 2, 1, [], None, 4),
        (4, 1, 2, ["threads=auto"], None, 2),
        (3, 2, 2, ["threads=auto"], None, 3),
        (3, 1, 2, ["threads=3"], None, 3),
        (3, 1, 2, [], "3", 3),
    ],
)
def test_a_resumption_keeps_its_threads_unless_others_share_the_cores(
    recorded, before, now, typed, variable, answer, monkeypatch
):
    """`recorded` : ce que le dossier garde, d'un départ à `before` processus."""
    from gpt_lightning.commands import train

    if variable is not None:
        monkeypatch.setenv(threads.VARIABLE, variable)
    monkeypatch.setattr("gpt_lightning.weights.inference.use_threads", lambda count: None)
    defaults.remember_command(typed)
    run = SimpleNamespace(data={"batch_size": SHAPE[0]}, length=SHAPE[1])
    gpt, done = SimpleNamespace(model=model()), SimpleNamespace(world_size=before)
    try:
        assert train.decide_threads(recorded, machine(world_size=now), gpt, run, done) == answer
    finally:
        defaults.remember_command([])


def test_a_single_core_measures_nothing(monkeypatch, compared):
    monkeypatch.setattr(threads, "all_threads", lambda: 1)
    assert decide() == 1


def test_a_calm_machine_decides_once_a_busy_one_each_time(compared):
    """Ce qu'une machine calme a décidé ne change plus, et rien de ce qu'elle fait occupée n'en reste."""
    found = []
    for pair in [(2.0, 0.5), (0.6, 0.97), (1.4, 0.97), (2.0, 0.5), (0.9, 0.8), (9.0, 0.99)]:
        compared.append(pair)
        measures._here.clear()  # chaque fois, un processus neuf
        found.append(decide())
    assert found == [1, 4, 4, 1, 4, 4]


@pytest.mark.parametrize("change", ["torch", "processeur", "lot", "largeur", "précision"])
def test_what_is_remembered_is_of_this_machine_and_this_model(change, compared, monkeypatch):
    compared += [(0.5, 1.0), (2.0, 1.0)]
    assert threads.measure(model(), SHAPE, "32-true", 4) == (0.5, True)
    if change == "torch":
        monkeypatch.setattr(torch, "__version__", "9.9.9")
    if change == "processeur":
        monkeypatch.setattr(threads, "processor", lambda: "un autre")
    other = model(emb_dim=32) if change == "largeur" else model()
    shape = (3, 8) if change == "lot" else SHAPE
    precision = "bf16-mixed" if change == "précision" else "32-true"
    assert threads.measure(other, shape, precision, 4) == (2.0, True)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize(
    "values",
    [{}, {"drop_rate": 0.5}, {"kernels": "reference"}, {"positions": "rope", "activation": "swiglu"}],
)
@pytest.mark.parametrize("lora", [False, True])
def test_a_measured_step_leaves_nothing(precision, values, lora):
    measured = model(**values).train()
    if lora:
        adapt(measured, LoRAConfig(rank=2))
    before = {name: tensor.clone() for name, tensor in measured.state_dict().items()}
    state = torch.random.get_rng_state()
    threads.step_of(measured, SHAPE, precision)()
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(p.grad is None for p in measured.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in measured.state_dict().items())


@pytest.mark.parametrize("slow, fast, cores", [(0.02, 0.01, 3.9), (0.01, 0.2, 2.0), (3.0, 1.0, 4.0)])
def test_a_comparison_is_of_the_average_speeds(slow, fast, cores, monkeypatch):
    """Un pas prend `slow` secondes sur un thread, `fast` sur quatre, qui obtiennent `cores` cœurs."""
    now, used = {"clock": 0.0, "cpu": 0.0}, []

    def step() -> None:
        alone = used[-1] == 1
        now["clock"] += slow if alone else fast
        now["cpu"] += slow if alone else fast * cores

    clock = SimpleNamespace(perf_counter=lambda: now["clock"], process_time=lambda: now["cpu"])
    monkeypatch.setattr(threads, "time", clock)
    monkeypatch.setattr(threads, "use_threads", used.append)
    ratio, share = threads.compare(step, 4)
    assert (ratio, share) == (pytest.approx(fast / slow), pytest.approx(cores / 4)) and used[-1] == 4
    assert now["clock"] < 2 * threads.LONG + 4 * (slow + fast)


CORPUS = ("model=tiny", "data=pydoc", "data.limit=20", "tokenizer=bytes", "callbacks.sample=null")
BRIEF = ("trainer.max_steps=1", "data.batch_size=1", "trainer.limit_val_batches=1", "callbacks.plot=null")


def recorded(folder) -> object:
    return yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))["threads"]


@pytest.mark.slow
def test_a_run_records_its_threads_and_a_resumption_keeps_or_is_told(command, tmp_path):
    """La clé tapée l'emporte sur la variable ; la variable sur ce que le dossier garde."""
    run = tmp_path / "x"
    for typed, answer in (
        ((*CORPUS, *BRIEF, "output_dir=x", "threads=2"), 2),
        (("ckpt_path=x", "trainer.max_steps=2"), 1),
    ):
        done = command("train.py", *typed, cwd=tmp_path, OMP_NUM_THREADS="1")
        assert done.returncode == 0, done.stderr
        assert recorded(run) == answer


def test_a_command_that_reads_a_model_takes_threads_or_refuses_them(command, finished_run):
    cwd, folder, _ = finished_run
    texts = set()
    for value in ("1", "2", "auto"):
        typed = ("Le chat", f"ckpt_path={folder}", "seed=1", "max_new_tokens=4", f"threads={value}")
        done = command("generate.py", *typed, cwd=cwd)
        assert done.returncode == 0, done.stderr
        texts.add(done.stdout)
    assert len(texts) == 1
    for program in ("generate.py", "train.py"):
        done = command(program, "threads=0", cwd=cwd)
        assert done.returncode == 1 and done.stderr.startswith("threads=0 : il faut un entier"), done.stderr
