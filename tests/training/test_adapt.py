"""Adapter et classer : la reprise sur les mêmes bits, un ou deux processus, la base gelée, retrouvée, ou refusée."""

import csv
import json
import shutil
import signal

import pytest
import torch

from gpt_lightning import weights
from gpt_lightning.cli import signals
from gpt_lightning.errors import UserError
from gpt_lightning.model.lora import is_adapter
from gpt_lightning.training.callbacks import StopOnSignal
from gpt_lightning.training.loggers.metrics_csv import read_metrics
from gpt_lightning.weights.adapters import fingerprint
from gpt_lightning.weights.loading import load_and_describe
from gpt_lightning.wording import parameters_of
from tests.resilience.runs import read, same_run
from tests.resilience.test_stops import run

WORDS = {"animal": ["chat", "chien", "loup", "ours"], "fruit": ["pomme", "poire", "figue", "mûre"]}
SMALL = ("data.max_length=32", "data.batch_size=4", "eval_every=4", "trainer.log_every_n_steps=1")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Un petit modèle de texte, sur des octets."""
    folder = tmp_path_factory.mktemp("base")
    text = folder / "texte.txt"
    text.write_text("Le chat dort, le chien veille, la poire tombe, la figue sèche. " * 200, encoding="utf-8")
    typed = ["model=tiny", "data=text", f"data.path={text}", "tokenizer=bytes", *SMALL, "trainer.max_steps=8"]
    choices = {"model": "tiny", "data": "text", "tokenizer": "bytes"}
    run(folder / "course", *typed, "data.stride=32", "callbacks.sample=null", choices=choices)
    return folder / "course"


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    path = tmp_path_factory.mktemp("avis") / "avis.csv"
    with open(path, "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["text", "label"])
        for i in range(15):
            table.writerows(
                [f"{word} {i} {'x' * (i % 5)}", label] for label, several in WORDS.items() for word in several
            )
    return path


@pytest.fixture(scope="module")
def talks(labelled):
    path = labelled.with_name("dialogues.jsonl")
    rows = [
        {"prompt": f"{w} {i} ?", "completion": f"Un {k}."}
        for k, several in WORDS.items()
        for w in several
        for i in range(15)
    ]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def typed_for(case: str, base, labelled, talks) -> list[str]:
    text = base.parent / "texte.txt"
    from_base = [f"init_from={base}", *SMALL]
    return {
        "texte": [
            *from_base,
            "data=text",
            f"data.path={text}",
            "data.stride=32",
            "lora=default",
            "lora.rank=4",
        ],
        "réponses": [
            *from_base,
            "experiment=instruct",
            f"data.path={talks}",
            "data.max_length=64",
            "lora=default",
            "lora.modules=all",
            "lora.drop_rate=0.2",
            "lora.save=adapters",
        ],
        "classes": [*from_base, "experiment=classify", f"data.path={labelled}", "data.class_weights=auto"],
        "dernier bloc": [*from_base, "experiment=classify", f"data.path={labelled}", "train_on=last_block"],
        "classes adaptées": [
            *from_base,
            "experiment=classify",
            f"data.path={labelled}",
            "lora=default",
            "lora.save=adapters",
            "trainer.accumulate_grad_batches=2",
        ],
    }[case]


CASES = ("texte", "réponses", "classes", "dernier bloc", "classes adaptées")


@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    [pytest.param(one, marks=pytest.mark.slow) if one in CASES[:1] + CASES[2:4] else one for one in CASES],
)
def test_stopped_and_resumed_it_ends_on_the_same_bits(case, base, labelled, talks, tmp_path, monkeypatch):
    typed = [
        *typed_for(case, base, labelled, talks),
        "trainer.max_steps=8",
        "save_every=3",
        "callbacks.sample.max_new_tokens=4",
    ]
    choices = {"data": "text"}
    for one in typed:
        key, _, value = one.partition("=")
        choices |= {key: value} if key in ("experiment", "lora") else {}
    choices |= {"data": {"instruct": "instruct", "classify": "labels"}.get(choices.get("experiment"), "text")}
    run(tmp_path / "entier", *typed, choices=choices)
    monkeypatch.setattr(signals._State, "received", 0)
    agreed = StopOnSignal._agree

    def stop(self, trainer, **options):
        signals._State.received = signal.SIGTERM if trainer.global_step == 5 else 0
        return agreed(self, trainer, **options)

    monkeypatch.setattr(StopOnSignal, "_agree", stop)
    with pytest.raises(signals.Interrupted):
        run(tmp_path / "course", *typed, choices=choices)
    monkeypatch.setattr(StopOnSignal, "_agree", lambda self, trainer, **options: 0)
    run(tmp_path / "course", choices=choices)
    same_run(tmp_path / "course", tmp_path / "entier")


@pytest.mark.slow
@pytest.mark.parametrize("case", ["réponses", "classes", "classes adaptées"])
def test_one_process_learns_what_two_learn(case, base, labelled, talks, command, tmp_path):
    common = [*typed_for(case, base, labelled, talks), "trainer.max_steps=6", "optim=adamw", "optim.lr=3e-3"]
    common += ["trainer.precision=32-true", "callbacks.sample=null", "lora.drop_rate=0"]
    common = [
        one
        for one in common
        if "accumulate" not in one and not ("lora." in one and "lora=default" not in common)
    ]
    splits = {
        "un": ["data.batch_size=8"],
        "accumulé": ["trainer.accumulate_grad_batches=2"],
        "deux": ["trainer.devices=2"],
    }
    found = {}
    for name, typed in splits.items():
        done = command("train.py", *common, *typed, f"output_dir={name}", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        found[name] = read_metrics(tmp_path / name / "metrics.csv")
    for name in ("accumulé", "deux"):
        for step, row in found["un"].items():
            for key in {"train/loss", "grad_norm", "val/loss", "val/accuracy", "val/f1"} & row.keys():
                assert found[name][step][key] == pytest.approx(row[key], rel=5e-5), (name, step, key)


@pytest.fixture(scope="module")
def adapted(base, talks, labelled, tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapte") / "course"
    typed = [
        *typed_for("texte", base, labelled, talks),
        "trainer.max_steps=6",
        "callbacks.sample=null",
        "optim.lr=1e-2",
    ]
    run(folder, *typed, choices={"data": "text", "lora": "default"})
    return folder


def test_the_base_does_not_move_and_muon_leaves_the_adapters_to_adamw(base, adapted):
    before = read(base / "checkpoints" / "best.ckpt")["state_dict"]
    last = read(adapted / "checkpoints" / "last.ckpt")
    after = last["state_dict"]
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    moved = [name for name in after if name.endswith("lora_B") and after[name].abs().max() > 0]
    assert len(moved) == sum(map(is_adapter, after)) // 2 > 0
    (state,) = last["optimizer_states"]
    assert len(state["state"]) == 2 * len(moved)  # ni gradient, ni moment pour le reste
    assert all("exp_avg" in one and "momentum_buffer" not in one for one in state["state"].values())
    described = last["gpt_lightning"]
    assert (
        described["lora"]["rank"] == 4
        and described["base"]
        and described["base_source"].endswith("best.ckpt")
    )


def test_a_checkpoint_with_adapters_is_read_as_one_plain_model(base, adapted):
    found = load_and_describe(str(adapted))
    assert found.description.lora is not None and not any(map(is_adapter, found.model.state_dict()))
    ids = torch.randint(250, (1, 20))
    assert (found.model(ids) - weights.load(str(base))[0](ids)).abs().max() > 1e-4
    known = found.description
    assert fingerprint(weights.load(str(base))[0].state_dict(), known.config) == known.base


def test_a_base_that_is_gone_is_said_without_turning_round(base, labelled, talks, tmp_path, monkeypatch):
    """Des adaptateurs seuls, deux fois, et plus de base : chacun serait la base de l'autre."""
    monkeypatch.chdir(tmp_path)
    gone = tmp_path / "outputs" / "base"
    shutil.copytree(base, gone)
    typed = [one.replace(str(base), str(gone)) for one in typed_for("réponses", base, labelled, talks)]
    for name in ("a", "b"):
        more = ["trainer.max_steps=2", "callbacks.sample=null", "model.drop_rate=0.1"]
        run(tmp_path / "outputs" / name, *typed, *more, choices={"data": "instruct", "lora": "default"})
    assert load_and_describe("outputs/a").description.base_source.endswith("best.ckpt")
    gone.rename(tmp_path / "outputs" / "déplacée")  # retrouvée par son empreinte, malgré un autre dropout
    wanted = load_and_describe("outputs/a").model.state_dict()
    shutil.rmtree(tmp_path / "outputs" / "déplacée")
    calls = []
    original = weights.loading.load_and_describe
    monkeypatch.setattr(
        weights.loading, "load_and_describe", lambda *a, **k: calls.append(a) or original(*a, **k)
    )
    with pytest.raises(UserError, match="n'est pas ici"):
        weights.load("outputs/a")
    assert len(calls) < 12 and wanted


def test_adapters_with_a_hole_are_damaged(adapted, tmp_path):
    content = torch.load(adapted / "checkpoints" / "best.ckpt", weights_only=True)
    name = next(name for name in content["state_dict"] if name.endswith("lora_B"))
    del content["state_dict"][name]
    torch.save(content, tmp_path / "troué.ckpt")
    with pytest.raises(UserError, match="l'adaptateur .*lora_B manque"):
        weights.load(str(tmp_path / "troué.ckpt"))


def exported(command, adapted, to, *typed, code=0):
    done = command("gpt_lightning", "export", f"ckpt_path={adapted}", f"to={to}", *typed, cwd=to.parent)
    assert done.returncode == code and "Traceback" not in done.stderr, done.stderr
    return done.stderr


def test_adapters_travel_alone_and_know_their_base(base, adapted, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = exported(command, adapted, tmp_path / "seuls", "format=lora")
    alone = weights.loading.load_and_describe(str(adapted)).adapted
    count = sum(tensor.numel() for name, tensor in alone.items() if "lora_" in name)
    assert parameters_of(count) in said  # ceux qu'il écrit, et non ceux du modèle
    exported(command, adapted, tmp_path / "tout", "format=safetensors", "merge=false")
    exported(command, adapted, tmp_path / "fondu", "format=safetensors")
    sizes = {
        one: sum(f.stat().st_size for f in (tmp_path / one).glob("*.safetensors"))
        for one in ("seuls", "tout")
    }
    assert sizes["seuls"] < sizes["tout"] / 3
    ids = torch.randint(250, (2, 20))
    wanted = weights.load(str(adapted))[0](ids)
    for name in ("seuls", "tout", "fondu"):
        assert torch.equal(weights.load(str(tmp_path / name))[0](ids), wanted), name
    assert torch.equal(weights.load("seuls", base=str(base))[0](ids), wanted)
    with pytest.raises(UserError, match="a été appris sur un autre modèle .*base_path= le sien"):
        weights.load("seuls", base="fondu")
    with pytest.raises(UserError, match="base_path= ne sert"):
        weights.load("fondu", base=str(base))
    with pytest.raises(UserError, match="base_path= ne sert"):
        weights.load("tout", base=str(base))
    moved = base.with_name("ailleurs")
    base.rename(moved)
    try:
        with pytest.raises(UserError, match="n'a que des adaptateurs, et leur base .* n'est pas ici"):
            weights.load("seuls")
        shutil.copytree(moved, tmp_path / "outputs" / "copie")
        assert torch.equal(weights.load("seuls")[0](ids), wanted)  # retrouvée par son empreinte
    finally:
        moved.rename(base)


@pytest.mark.slow
def test_an_export_that_does_not_fit_is_refused(base, adapted, command, tmp_path):
    for source, typed, what in [
        (adapted, ["format=lora", "merge=true"], "format=lora écrit les adaptateurs à part"),
        (adapted, ["format=hf", "merge=false"], "n'a pas de place pour des adaptateurs"),
        (adapted, ["merge=oui"], "merge=oui"),
        (base, ["format=lora"], "format=lora demande des adaptateurs"),
        (base, ["merge=true"], "merge=true demande des adaptateurs"),
    ]:
        assert what in exported(command, source, tmp_path / "sortie", *typed, code=1)
    assert not (tmp_path / "sortie").exists()
    exported(command, adapted, tmp_path / "hf", "format=hf", "merge=true")
    assert "lora" not in json.loads((tmp_path / "hf" / "gpt_lightning.json").read_text())


@pytest.mark.parametrize(
    "typed, what",
    [
        (["lora.rank=8"], "lora.rank= n'a pas d'effet sans adaptateurs : ajoutez lora=default"),
        (["lora=default"], "lora=default part d'un modèle déjà entraîné"),
        (["train_on=lora"], "train_on=lora demande des adaptateurs"),
        (["lora=default", "train_on=head"], "train_on=head n'apprend pas les adaptateurs"),
        (["lora=default", "lora.save=peu"], "lora.save=peu"),
        pytest.param(["lora=default", "lora.rank=0"], "lora.rank=0", marks=pytest.mark.slow),
        pytest.param(["train_on=tout"], "train_on=tout", marks=pytest.mark.slow),
    ],
)
def test_a_mistake_gets_one_sentence(typed, what, command, tmp_path):
    done = command("train.py", "model=tiny", *typed, cwd=tmp_path)
    assert done.returncode == 1 and what in done.stderr and "Traceback" not in done.stderr, done.stderr


@pytest.mark.parametrize(
    "typed, what",
    [
        (["lora=default", "lora.modules=[out_head]"], "out_head n'est pas une couche qui s'adapte"),
        (["experiment=instruct", "lora=default", "data.template=chatml"], "prenez data.template=texte"),
        pytest.param(["train_on=head"], "train_on=head n'a rien à apprendre ici", marks=pytest.mark.slow),
    ],
)
def test_what_only_the_model_tells_is_one_sentence_too(typed, what, base, talks, command, tmp_path):
    path = talks if "experiment=instruct" in typed else base.parent / "texte.txt"
    common = [f"init_from={base}", f"data.path={path}", "data.max_length=64"]
    done = command("train.py", *common, *typed, cwd=tmp_path)
    assert done.returncode == 1 and what in done.stderr and "Traceback" not in done.stderr, done.stderr


@pytest.fixture(scope="module")
def classifier(base, labelled, command, tmp_path_factory):
    cwd = tmp_path_factory.mktemp("classement")
    typed = [
        f"init_from={base}",
        "experiment=classify",
        f"data.path={labelled}",
        *SMALL,
        "data.max_length=16",
    ]
    done = command("train.py", *typed, "trainer.max_steps=60", "eval_every=30", "optim.lr=1e-2", cwd=cwd)
    assert done.returncode == 0, done.stderr
    return cwd, done


def test_a_run_that_classifies_says_what_it_is_worth(classifier):
    cwd, done = classifier
    for words in (
        "2 étiquettes",
        "exactitude",
        "toujours « ",
        "TF-IDF",
        "précision  rappel",
        "classify prompt=",
    ):
        assert words in done.stdout + done.stderr, words
    (folder,) = cwd.glob("outputs/*/*")
    rows = read_metrics(folder / "metrics.csv")
    last = rows[max(rows)]
    assert last["val/accuracy"] > 0.9 and 0 < last["val/f1"] <= 1 and "val/perplexity" not in last
    with open(folder / "plots" / "confusion.csv", encoding="utf-8") as file:
        table = list(csv.reader(file))
    assert table[0][1:] == ["animal", "fruit"] and (folder / "plots" / "confusion.png").exists()
    right = sum(int(table[1 + rank][1 + rank]) for rank in range(2))
    assert right / sum(int(cell) for row in table[1:] for cell in row[1:]) == pytest.approx(
        last["val/accuracy"]
    )
    assert any("» animal (" in path.read_text() for path in (folder / "samples").iterdir())


def test_it_classifies_a_text_or_many(classifier, command, tmp_path):
    cwd, _ = classifier
    one = command("gpt_lightning", "classify", "prompt=figue 3 x", cwd=cwd)
    assert one.returncode == 0 and one.stdout.splitlines()[0] == "fruit", one.stderr
    (tmp_path / "t.txt").write_text("chat 2\nfigue 3 x\nours 7\n")
    for name in (None, "r.csv", "r.tsv", "r.jsonl"):
        typed = [f"prompts_file={tmp_path / 't.txt'}"] + ([f"output={tmp_path / name}"] if name else [])
        done = command("gpt_lightning", "classify", *typed, cwd=cwd)
        assert done.returncode == 0, done.stderr
        text = (tmp_path / name).read_text() if name else done.stdout
        if name == "r.jsonl":
            found = [json.loads(line)["label"] for line in text.splitlines()]
        else:
            found = [
                row[0] for row in csv.reader(text.splitlines(), delimiter="," if name == "r.csv" else "\t")
            ][1:]
        assert found == ["animal", "fruit", "animal"], name
    piped = command("gpt_lightning", "classify", cwd=cwd, stdin="ours 4")
    assert piped.stdout.startswith("animal"), piped.stderr
    (best,) = cwd.glob("outputs/*/*/checkpoints/best.ckpt")
    learned = weights.load_for_inference(str(best), tasks=("classify",)).max_length
    long = command("gpt_lightning", "classify", "prompt=" + "ours 4 " * 60, cwd=cwd)
    assert f"coupé à {learned} jetons" in long.stderr


@pytest.mark.parametrize("dtype", ["fp32", pytest.param("int8", marks=pytest.mark.slow)])
def test_it_is_evaluated(dtype, classifier, labelled, command):
    cwd, _ = classifier
    done = command("gpt_lightning", "evaluate", f"dtype={dtype}", cwd=cwd)
    assert done.returncode == 0 and "F1 moyen" in done.stdout and "nats par texte" in done.stdout, done.stderr


@pytest.mark.parametrize(
    "typed, what",
    [
        ([], "Il manque le texte à classer"),
        (["prompt=a", "prompt_file=b"], "ne vont pas ensemble"),
        (["prompt=a", "output=x.csv"], "output="),
        (["prompt=a", "batch_size=4"], "batch_size= n'a pas d'effet"),
        (["prompts_file=t.txt", "output=x.doc"], ".csv, .tsv ou .jsonl"),
        (["prompt=a", "ckpt_path=absent"], "ckpt_path=absent"),
    ],
)
def test_a_mistake_of_classify_gets_one_sentence(typed, what, classifier, command):
    cwd, _ = classifier
    (cwd / "t.txt").write_text("un\n")
    done = command("gpt_lightning", "classify", *typed, cwd=cwd, stdin="")
    assert done.returncode == 1 and what in done.stderr and "Traceback" not in done.stderr, done.stderr


@pytest.mark.slow
def test_each_command_refuses_the_task_of_another(classifier, base, command):
    cwd, _ = classifier
    (folder,) = cwd.glob("outputs/*/*")
    for script in (["generate.py"], ["gpt_lightning", "chat"]):
        done = command(*script, f"ckpt_path={folder}", cwd=cwd, stdin="")
        assert done.returncode == 1 and "classify ckpt_path=" in done.stderr, done.stderr
    done = command("gpt_lightning", "classify", "prompt=a", f"ckpt_path={base}", cwd=cwd)
    assert done.returncode == 1 and "python generate.py" in done.stderr
    done = command("train.py", f"init_from={folder}", cwd=cwd)
    assert done.returncode == 1 and "sait classer un texte" in done.stderr


@pytest.mark.slow
def test_a_classifier_goes_on_with_its_labels_in_their_order(classifier, labelled, command, tmp_path):
    (folder,) = classifier[0].glob("outputs/*/*")
    more = tmp_path / "plus.csv"
    more.write_text(
        labelled.read_text(encoding="utf-8").replace("animal", "fruit").replace("text,label", "text,label")
    )
    typed = [
        "experiment=classify",
        f"init_from={folder}",
        f"data.path={labelled}",
        *SMALL,
        "trainer.max_steps=4",
    ]
    done = command("train.py", *typed, "data.max_length=16", "output_dir=suite", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert read(tmp_path / "suite" / "checkpoints" / "best.ckpt")["gpt_lightning"]["labels"] == [
        "animal",
        "fruit",
    ]
    assert next(iter(read_metrics(tmp_path / "suite" / "metrics.csv").values()))["train/loss"] < 0.3
