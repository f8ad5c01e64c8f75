"""Un défaut que personne n'a tapé ne fait rien échouer ; ce qui a été tapé est pris, ou refusé d'une phrase."""

import json
import shutil
import socket
from contextlib import closing

import pytest

from gpt_lightning.cli import defaults
from gpt_lightning.cli.composition import choices, compose_resolved
from gpt_lightning.cli.targets import resolve
from gpt_lightning.demos import DEMOS
from gpt_lightning.errors import Unfit, UserError
from gpt_lightning.training.run_config import RunConfig
from gpt_lightning.weights import StartingPoint
from tests.conftest import sentences
from tests.serving.test_command import Served
from tests.test_before import BEFORE, write

MODELS, EXPERIMENTS = choices("model"), (None, *choices("experiment"))
QUICK = (
    "trainer.max_steps=2",
    "logger.tensorboard=null",
    "callbacks.plot=null",
    "trainer.precision=32-true",
    "trainer.accelerator=cpu",
)


def slowly(value: object):
    """Ce cas, parmi les longs : ceux qui restent disent la même loi."""
    return pytest.param(value, marks=pytest.mark.slow)


@pytest.fixture(autouse=True)
def nothing_typed():
    yield
    defaults.remember_command(())


def at_most(limit: int):
    """Un essai qui refuse data.max_length au-delà de `limit`, et dit ce qui irait."""

    def attempt(settings):
        if settings["data"]["max_length"] > limit:
            raise Unfit("trop long", "c'est la limite", {"data.max_length": limit})
        return settings

    return attempt


def test_a_default_takes_what_fits_and_the_log_says_it(caplog):
    asked = {"data": {"max_length": 256, "batch_size": 4}, "seed": 1}
    with caplog.at_level("INFO", "gpt_lightning"):
        used = defaults.follow(asked, at_most(32))
    assert used == {"data": {"max_length": 32, "batch_size": 4}, "seed": 1}
    assert asked["data"]["max_length"] == 256
    assert "data.max_length=32 au lieu de 256, c'est la limite" in caplog.text


@pytest.mark.parametrize("typed", ["data.max_length=256", "+data.max_length=256", "++data.max_length=256"])
def test_what_was_typed_is_refused(typed):
    defaults.remember_command([typed, "seed=1"])
    with pytest.raises(UserError, match="trop long"):
        defaults.follow({"data": {"max_length": 256}}, at_most(32))


def test_a_resumed_run_keeps_its_numbers():
    with pytest.raises(UserError, match="trop long"):
        resumed = {"data": {"max_length": 256}, "ckpt_path": "last", "strict_resume": False}
        defaults.follow(resumed, at_most(32))


@pytest.mark.parametrize("fit", [{}, {"data.max_length": 256}, {"data.unknown": 1}, {"unknown.key": 1}])
def test_a_fit_that_changes_nothing_ends(fit):
    def attempt(settings):
        raise Unfit("trop long", "", fit)

    with pytest.raises(UserError, match="trop long"):
        defaults.follow({"data": {"max_length": 256}}, attempt)


def test_two_keys_that_never_agree_end():
    def attempt(settings):
        raise Unfit("jamais", "", {"a": 1 - settings["a"]})

    with pytest.raises(UserError, match="jamais"):
        defaults.follow({"a": 0}, attempt)


def test_the_first_way_that_nobody_typed_is_taken():
    def attempt(settings):
        if settings["warmup"] + settings["decay"] > 10:
            raise Unfit("non", "", {"warmup": 10 - settings["decay"]}, {"decay": 10 - settings["warmup"]})
        return settings

    defaults.remember_command(["warmup=8"])
    assert defaults.follow({"warmup": 8, "decay": 5}, attempt) == {"warmup": 8, "decay": 2}


def judged(*typed: str, context: int | None = None) -> RunConfig:
    """Ce que train.py juge sans corpus ; `context` est celui de poids de départ."""
    defaults.remember_command(typed)
    settings, _ = compose_resolved("train", *typed, "output_dir=dossier")
    optimizer = resolve("optim", settings["optim"]["_target_"])
    asked = defaults.follow(settings, lambda values: RunConfig.read(values, optimizer))
    start = StartingPoint(dict(asked.model))
    if context is not None:
        start = StartingPoint({**asked.model, "context_length": context}, source="poids", state={})
    return defaults.follow(asked.values(), lambda values: RunConfig.read(values, optimizer).settle(start, ()))


LONG = [pytest.param(context, marks=pytest.mark.slow) for context in (1, 8, 100, 128)]


@pytest.mark.parametrize("context", [None, 1024, *LONG])
@pytest.mark.parametrize("experiment", EXPERIMENTS)
@pytest.mark.parametrize("model", MODELS)
def test_every_experiment_suits_every_model(model, experiment, context):
    typed = [f"model={model}", *([f"experiment={experiment}"] if experiment else [])]
    used = judged(*typed, context=context)
    usual, _ = compose_resolved("train", *typed, "output_dir=dossier")
    limit = context or used.model["context_length"]
    assert used.length == min(usual["data"]["max_length"], limit)
    assert (used.data.get("stride") or 1) <= used.length


@pytest.mark.slow
@pytest.mark.parametrize("data", choices("data"))
@pytest.mark.parametrize("context", [1, 100])
def test_every_corpus_suits_every_context(data, context):
    typed = [f"data={data}", *(["data.path=a.txt"] if data == "text" else [])]
    assert judged(*typed, context=context).length <= context
    with pytest.raises(UserError, match=f"essayez data.max_length={context}"):
        judged(*typed, "data.max_length=101", context=context)


@pytest.mark.slow
@pytest.mark.parametrize("width", [30, 32, 36, 90, 96, 98])
@pytest.mark.parametrize("positions", ["learned", "rope"])
@pytest.mark.parametrize("model", ["tiny", "mini", "gpt124m", "gpt1558m"])
def test_the_heads_follow_the_width(model, positions, width):
    used = judged(f"model={model}", f"model.emb_dim={width}", f"model.positions={positions}")
    assert width % used.model["n_heads"] == 0


@pytest.mark.parametrize("width", [33, 35, 99])
@pytest.mark.parametrize("typed", [(), ("model=modern",), ("model=mini", "model.positions=rope")])
def test_an_odd_width_has_heads_of_an_even_dimension(typed, width):
    """Une largeur impaire ne se partage pas en dimensions paires : celle d'une tête s'en sépare."""
    used = judged(*typed, f"model.emb_dim={width}")
    assert used.model["head_dim"] % 2 == 0 and used.model["emb_dim"] == width
    with pytest.raises(UserError, match="essayez model.head_dim=12"):
        judged("model.emb_dim=33", "model.n_heads=3", "model.head_dim=11")


def test_typed_heads_are_refused():
    with pytest.raises(UserError, match="essayez model.n_heads="):
        judged("model=tiny", "model.emb_dim=30", "model.n_heads=4")


@pytest.mark.parametrize("name", ["NAdam", "SGD", "Adagrad", "RMSprop", "Adadelta"])
def test_another_optimiser_has_its_own_rate(name):
    used = judged("optim=target", f"optim._target_=torch.optim.{name}")
    assert isinstance(used.optim["lr"], float)
    with pytest.raises(UserError, match="n'a pas de règle"):
        judged("optim=target", "optim.lr=auto", f"optim._target_=torch.optim.{name}")


@pytest.fixture
def cwd(tmp_path):
    """De petits corpus, et une exécution de chaque tâche, de contexte 128."""
    write.corpora(tmp_path)
    for name in write.TASKS:
        shutil.copytree(BEFORE / name, tmp_path / "outputs" / name)
        (tmp_path / name).symlink_to(tmp_path / "outputs" / name)
    return tmp_path


def lines(path, count: int) -> None:
    path.write_text("\n".join(path.read_text(encoding="utf-8").splitlines()[:count]), encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("start", ["auto", slowly("outputs/text"), slowly("outputs/lora"), slowly("export")])
@pytest.mark.parametrize("experiment, path", [("instruct", "dialogues.jsonl"), ("classify", "avis.csv")])
def test_an_experiment_starts_from_any_weights(experiment, path, start, command, cwd):
    if start == "export":
        typed = ("ckpt_path=outputs/text", "format=safetensors", "to=export")
        assert command("gpt_lightning", "export", *typed, cwd=cwd).returncode == 0
    typed = [f"experiment={experiment}", f"data.path={path}", f"init_from={start}"]
    done = command("train.py", *typed, "output_dir=essai", *QUICK, cwd=cwd)
    assert done.returncode == 0, done.stderr
    resumed = command("train.py", "ckpt_path=essai", "trainer.max_steps=3", cwd=cwd)
    assert resumed.returncode == 0, resumed.stderr
    refused = command("train.py", *typed, "data.max_length=129", *QUICK, cwd=cwd)
    assert refused.returncode == 1 and "essayez data.max_length=128" in refused.stderr
    assert len(sentences(refused.stderr)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, slowly(3), slowly(6), slowly(17)])
@pytest.mark.parametrize(
    "typed",
    [
        ("model=tiny", "data.path=texte.txt"),
        ("model=tiny", "data.path=texte.txt", "tokenizer=characters"),
        ("experiment=instruct", "data.path=dialogues.jsonl"),
        ("experiment=classify", "data.path=avis.csv"),
    ],
    ids=" ".join,
)
def test_a_corpus_of_any_size_trains(typed, count, command, cwd):
    text = (cwd / "texte.txt").read_text(encoding="utf-8")
    (cwd / "texte.txt").write_text(text[: 40 * count], encoding="utf-8")
    pairs = [{"prompt": f"Que fait {n} ?", "completion": f"Il fait {n}."} for n in range(count)]
    (cwd / "dialogues.jsonl").write_text("\n".join(map(json.dumps, pairs)), encoding="utf-8")
    lines(cwd / "avis.csv", 1 + max(6, count))  # deux étiquettes
    done = command("train.py", *typed, "output_dir=essai", *QUICK, cwd=cwd)
    assert done.returncode == 0, done.stderr
    again = command("train.py", "ckpt_path=essai", "trainer.max_steps=3", cwd=cwd)
    assert again.returncode == 0, again.stderr


@pytest.mark.parametrize(
    "typed, said",
    [
        (("model.vocab_size=300",), "tokenizer.size=300 au lieu de 2048"),
        (("global_batch_tokens=96", "model.context_length=32"), "data.batch_size=3 au lieu de 16"),
        (("global_batch_size=6",), "data.batch_size=6 au lieu de 16"),
        (("optim.schedule=wsd", "optim.warmup=2"), "optim.decay=0 au lieu de 0.2"),
        (
            ("trainer.max_time=00:00:00:02", "trainer.max_steps=-1"),
            "optim.schedule=constant au lieu de linear",
        ),
        (("eval_every=100000", "save_every=100000", "data.eval_batches=5000", "decoding=top_k"), ""),
    ],
)
def test_what_is_typed_sets_what_is_not(typed, said, command, cwd):
    more = ("model=tiny", "data.path=texte.txt", "output_dir=essai")
    done = command("train.py", *more, *QUICK, *typed, cwd=cwd)
    if said.startswith("optim.decay"):  # 0.2 de deux pas n'en fait aucun
        said = ""
    assert done.returncode == 0 and said in done.stdout, done.stderr


COMMANDS = {
    "generate": ("prompt=Il", "max_new_tokens=300"),
    "chat": ("prompt=Que fait le chat ?",),
    "classify": ("prompt=Le chat dort bien.",),
    "evaluate": (),
    "evaluate texte": ("data=text", "data.path=texte.txt"),
    "evaluate dialogues": ("data=instruct", "data.path=dialogues.jsonl"),
    "evaluate avis": ("data=classify", "data.path=avis.csv"),
    "export": ("to=sorti",),
    "export safetensors": ("to=sorti", "format=safetensors"),
    "export lora": ("to=sorti", "format=lora"),
    "export peft": ("to=sorti", "format=peft"),
}
SUITS = {
    "text": {"generate", "chat", "evaluate", "evaluate texte", "evaluate dialogues", "export"},
    "instruct": {"generate", "chat", "evaluate", "evaluate texte", "evaluate dialogues", "export"},
    "lora": {
        *("generate", "chat", "evaluate", "evaluate texte", "evaluate dialogues"),
        *("export", "export lora", "export peft"),
    },
    "classify": {"classify", "evaluate", "evaluate avis", "export"},
}


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("task", SUITS)
def test_a_command_suits_a_model_or_says_what_to_type(task, name, command, cwd):
    done = command("gpt_lightning", name.split()[0], f"ckpt_path={task}", *COMMANDS[name], cwd=cwd)
    assert "Traceback" not in done.stderr
    if name in SUITS[task] or name == "export safetensors":
        assert done.returncode == 0, done.stderr
    else:
        assert done.returncode == 1 and len(sentences(done.stderr)) == 1, done.stderr
        assert ":" in done.stderr or "«" in done.stderr


DEMOS_OF_A_MODEL = sorted(name for name in DEMOS if "ckpt_path" in compose_resolved(f"demos/{name}")[0])


@pytest.mark.slow
@pytest.mark.parametrize("name", DEMOS_OF_A_MODEL)
@pytest.mark.parametrize("task", SUITS)
def test_a_demo_suits_a_model_that_writes(task, name, command, cwd):
    done = command(f"gpt_lightning.demos.{name}", f"ckpt_path={task}", cwd=cwd)
    assert "Traceback" not in done.stderr
    if task == "classify":
        assert done.returncode == 1 and "gpt_lightning classify" in done.stderr
        assert len(sentences(done.stderr)) == 1
    else:
        assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("task", SUITS)
def test_a_server_suits_a_model_that_writes(task, command, cwd, cache):
    if task == "classify":
        for name in ("serve", "play"):
            done = command("gpt_lightning", name, f"ckpt_path={task}", "port=0", cwd=cwd)
            assert done.returncode == 1 and "gpt_lightning classify" in done.stderr
            assert len(sentences(done.stderr)) == 1
        return
    with Served(cwd, f"ckpt_path={task}", cache=cache) as served:
        asked = {"messages": [{"role": "user", "content": "Que fait le chat ?"}], "max_tokens": 4}
        for path, body in (("completions", {"prompt": "Il", "max_tokens": 4}), ("chat/completions", asked)):
            status, answer = served.ask(f"/v1/{path}", body)
            if task == "text" and path == "chat/completions":
                assert status == 400 and answer["error"]["code"] == "not_a_chat_model"
            else:
                assert status == 200, answer
        assert served.stopped()[0] == 0


def test_evaluate_follows_the_model_and_refuses_what_is_typed(command, cwd):
    for name in ("text", "instruct"):
        export = ("format=safetensors", f"to={name}-sorti")
        assert command("gpt_lightning", "export", f"ckpt_path={name}", *export, cwd=cwd).returncode == 0
        typed = (f"ckpt_path={name}-sorti", "data=instruct", "data.path=dialogues.jsonl")
        done = command("gpt_lightning", "evaluate", *typed, cwd=cwd)
        assert done.returncode == 0 and "data.max_length=128 au lieu de 256" in done.stderr
        done = command("gpt_lightning", "evaluate", *typed, "data.max_length=256", cwd=cwd)
        assert done.returncode == 1 and "essayez data.max_length=128" in done.stderr


def test_a_stride_nobody_typed_follows_the_window(command, cwd):
    typed = ("experiment=original", "model=tiny", "tokenizer=bytes", "data=text", "data.path=texte.txt")
    typed = (*typed, "data.max_length=64", *QUICK)
    done = command("train.py", *typed, "output_dir=outputs/essai", cwd=cwd)
    assert done.returncode == 0 and "data.stride=64 au lieu de 128" in done.stdout, done.stderr
    done = command("gpt_lightning", "evaluate", "ckpt_path=outputs/essai", "data.max_length=32", cwd=cwd)
    assert done.returncode == 0 and done.stderr.count("data.stride=32 au lieu de 64") == 1, done.stderr
    done = command("train.py", *typed, "data.stride=65", cwd=cwd)
    assert done.returncode == 1 and "data.stride=65" in done.stderr


def test_the_number_retained_is_in_the_record(command, cwd):
    typed = ("experiment=instruct", "data.path=dialogues.jsonl", "output_dir=essai")
    assert command("train.py", *typed, *QUICK, cwd=cwd).returncode == 0
    from gpt_lightning.cli.record import load_yaml

    assert load_yaml(cwd / "essai" / "config.yaml")["data"]["max_length"] == 128


def test_a_port_nobody_typed_is_free():
    from gpt_lightning.serving import server

    with closing(server.listen("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = {"host": "127.0.0.1", "port": port}

        def listen(values: dict) -> socket.socket:
            return server.listen(values["host"], values["port"])

        with closing(defaults.follow(settings, listen)) as free:
            assert free.getsockname()[1] != port
        defaults.remember_command([f"port={port}"])
        with pytest.raises(UserError, match="port=0"):
            defaults.follow(settings, listen)
