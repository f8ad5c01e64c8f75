"""wandb, trackio et MLflow, sans réseau : ce qu'ils ont écrit se relit, avec leurs bibliothèques."""

import glob
import json
import sqlite3
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpt_lightning.training.loggers import read_metrics
from tests.conftest import ROOT

SECRET = "xK9-secret-42"
TINY = (
    "model=tiny",
    "data=text",
    "tokenizer=words_v2",
    "data.max_length=16",
    "data.batch_size=4",
    "trainer.log_every_n_steps=2",
    "eval_every=4",
    "run_name=essai",
)
SERVICES = {"wandb": ("logger.wandb.mode=offline",), "trackio": (), "mlflow": ()}


def records(content: bytes) -> Iterator[bytes]:
    """Les enregistrements d'un journal de LevelDB, le format d'un fichier .wandb : des blocs de 32 Kio."""
    place, whole = 7, b""  # après l'en-tête du fichier
    while place + 7 <= len(content):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        _, size, kind = struct.unpack_from("<IHB", content, place)
        whole += content[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # entier, ou dernier morceau
            yield whole
            whole = b""


def of_wandb(cwd) -> dict[str, dict]:
    """{numéro: {points, textes, réglages, nombres de la fin}} de tout ce que wandb a écrit sous `cwd`."""
    from wandb.proto import wandb_internal_pb2

    runs: dict[str, dict] = {}
    for path in sorted(glob.glob(f"{cwd}/**/wandb/offline-run-*/run-*.wandb", recursive=True)):
        own = runs.setdefault(
            path.rpartition("run-")[2].removesuffix(".wandb"), {"points": [], "config": {}, "name": ""}
        )
        for data in records(Path(path).read_bytes()):
            record = wandb_internal_pb2.Record.FromString(data)
            if record.HasField("history"):
                item = record.history.item
                own["points"].append(
                    {one.key or one.nested_key[0]: json.loads(one.value_json) for one in item}
                )
            for one in record.run.config.update:
                own["config"][one.key] = json.loads(one.value_json)
            own["name"] = record.run.display_name or own["name"]
        own["files"] = len(glob.glob(f"{cwd}/**/wandb/offline-run-*/**/*.table.json", recursive=True))
    return {
        key: {
            "name": own["name"],
            "config": own["config"],
            "points": [
                (point["step"], name, value)
                for point in own["points"]
                for name, value in point.items()
                if isinstance(value, int | float)
            ],
            "texts": [point["step"] for point in own["points"] if "sample" in point],
        }
        for key, own in runs.items()
    }


def of_trackio(cwd) -> dict[str, dict]:
    runs: dict[str, dict] = {}
    with sqlite3.connect(cwd / "trackio" / "gpt_lightning.db") as base:
        rows = base.execute("select run_name, step, metrics from metrics order by id").fetchall()
        settings = dict(base.execute("select run_name, config from configs").fetchall())
    for name, step, text in rows:
        own = runs.setdefault(name, {"name": name, "points": [], "texts": []})
        own["config"] = json.loads(settings[name])
        for key, value in json.loads(text).items():
            if isinstance(value, int | float):
                own["points"].append((step, key, value))
            elif key == "sample":
                assert "Il " in str(value) or "chat" in str(value)
                own["texts"].append(step)
    return runs


def of_mlflow(cwd) -> dict[str, dict]:
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{cwd}/outputs/mlflow.db")
    experiment = client.get_experiment_by_name("gpt_lightning")
    runs = {}
    for run in client.search_runs([experiment.experiment_id]):
        number, names = run.info.run_id, run.data.metrics
        points = [(p.step, n, p.value) for n in names for p in client.get_metric_history(number, n)]
        texts = [int(one.path[-11:-4]) for one in client.list_artifacts(number, "sample")]
        assert run.info.status == "FINISHED"
        settings = {**run.data.params, "optim": {"lr": float(run.data.params["optim.lr"])}}
        runs[number] = {"name": run.info.run_name, "config": settings, "points": points, "texts": texts}
    return runs


READ = {"wandb": of_wandb, "trackio": of_trackio, "mlflow": of_mlflow}


@pytest.fixture(scope="module", params=SERVICES)
def watched(request, command, text_file, tmp_path_factory):
    """(service, dossier de travail, lancer) : le service est le vrai, et n'a ni clé ni réseau."""
    pytest.importorskip(request.param)
    cwd = tmp_path_factory.mktemp(request.param)

    def train(*typed: str):
        own = (
            *TINY,
            f"data.path={text_file}",
            f"logger=[tensorboard,{request.param}]",
            *SERVICES[request.param],
        )
        given = typed if any(text.startswith("ckpt_path=") for text in typed) else (*own, *typed)
        env = {"TRACKIO_DIR": str(cwd / "trackio"), "WANDB_API_KEY": "", "JETON": SECRET}
        done = command("train.py", *given, cwd=cwd, **env)
        assert done.returncode == 0, done.stderr
        return done

    return request.param, cwd, train


@pytest.mark.slow
def test_what_a_service_holds(watched):
    service, cwd, train = watched
    train("output_dir=course", "trainer.max_steps=8")
    (own,) = READ[service](cwd).values()
    measured = read_metrics(cwd / "course" / "metrics.csv")
    points = {(step, name): value for step, name, value in own["points"]}
    for step, row in measured.items():
        for name in ("train/loss", "val/loss", "lr", "tokens_per_second"):
            if name in row:
                assert points[step, name] == pytest.approx(row[name]), (step, name)
    assert points[8, "final/val/loss"] == pytest.approx(measured[8]["val/loss"])
    assert own["texts"] == [4, 8] and own["name"].startswith("essai")
    assert float(own["config"]["optim"]["lr"]) > 0

    # une reprise continue la même ; un balayage en commence une par tâche
    train("ckpt_path=course", "trainer.max_steps=12")
    (own,) = READ[service](cwd).values()
    steps = {step for step, name, _ in own["points"] if name == "train/loss"}
    assert steps == {2, 4, 6, 8, 10, 12} and own["texts"] == [4, 8, 12]
    train("-m", "output_dir=balayage", "seed=1,2", "trainer.max_steps=4", "run_name=")
    names = {own["name"].rpartition(" ")[0] or own["name"] for own in READ[service](cwd).values()}
    assert len(READ[service](cwd)) == 3, names


@pytest.mark.slow
def test_keys_and_variables_stay_here(watched):
    service, cwd, train = watched
    (cwd / "conf" / "experiment").mkdir(parents=True)
    text = "# @package _global_\ndata:\n  jsonl_key: ${oc.env:JETON}\n"
    (cwd / "conf" / "experiment" / "secrete.yaml").write_text(text, encoding="utf-8")
    train("--config-dir=conf", "experiment=secrete", "output_dir=secrete", "trainer.max_steps=4")
    for path in cwd.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert SECRET.encode() not in content, path
            assert path.suffix != ".wandb" or str(ROOT).encode() + b"/train.py" not in content, path
