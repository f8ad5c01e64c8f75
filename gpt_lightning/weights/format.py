"""Le format d'un checkpoint : ce fichier est le seul à connaître ses clés et sa version.

    {"gpt_lightning": {"format_version": 1, "model": {...}, "tokenizer": {...}, "progress": {...}},
     "state_dict": {"model.tok_emb.weight": ...}, ...}

Un checkpoint de l'entraînement a tout cela ; un export safetensors en a la description, sous la même clé.
"""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TypeGuard

from torch import Tensor

from gpt_lightning import layout
from gpt_lightning.errors import UserError, whole
from gpt_lightning.model import GPTConfig
from gpt_lightning.model.lora import LoRAConfig
from gpt_lightning.model.tasks import TASKS, TEXT
from gpt_lightning.tokenizers import Tokenizer, from_state
from gpt_lightning.tokenizers.dialects import read_name
from gpt_lightning.typing import State
from gpt_lightning.weights.untrusted import read_description, reading

VERSION = 1  # des poids : ils se chargent pour toujours
TRAINING_VERSION = 5  # de ce qu'il faut pour reprendre : où en est l'entraînement, l'optimiseur
RESUMABLE = (4, TRAINING_VERSION)  # 4 : sans `partial`, que rien n'a
KEY = "gpt_lightning"
_PREFIX = "model."  # le nom du GPTModel dans le LightningModule


class Description(NamedTuple):
    """Ce qu'un fichier de poids dit de lui-même ; `prompts` sont des débuts de texte dans la langue du modèle, `corpus`
    le nom et la licence de ce qu'il a lu."""

    config: GPTConfig
    tokenizer: Tokenizer | None
    prompts: tuple[str, ...] = ()
    corpus: str = ""
    task: str = TEXT.name  # une de model/tasks.py : répondre a un gabarit `template`, classer des `labels`
    template: str = ""  # « nom » ou « nom:consigne »
    labels: tuple[str, ...] = ()
    lora: LoRAConfig | None = None  # ses adaptateurs, l'empreinte de leur base, et d'où elle venait
    base: str = ""
    base_source: str = ""
    max_length: int | None = None  # jetons d'un texte classé, à l'entraînement : le reste n'est pas lu
    unknown_template: bool = (
        False  # sa source a un gabarit que l'on ne reconnaît pas ; aucun fichier d'ici ne le dit
    )
    identity: str = ""  # l'empreinte du corpus qu'un entraînement d'ici lui a fait lire


class TrainingProgress(NamedTuple):
    """Où en est un entraînement, en grandeurs qui ne dépendent ni du lot ni du nombre de processus."""

    step: int  # pas d'optimiseur faits
    tokens: int  # jetons lus en tout
    epoch: int  # passages entiers sur le corpus
    windows: int  # fenêtres lues dans le passage en cours
    corpus: str  # l'empreinte des jetons, de leur découpage et de leur tokenizer
    tokens_per_step: int
    world_size: int
    evaluated: bool = True  # faux si l'évaluation due à ce pas a été interrompue
    loss_sums: tuple[tuple[float, int], ...] = ()  # par processus, depuis la dernière ligne du journal
    metrics: Mapping[str, float] = {}  # les dernières mesures
    targets: int | None = None  # jetons appris en tout ; None : tous ceux qui sont lus
    partial: bool = (
        False  # vrai si le dernier pas d'un passage lit ce qui reste ; faux : il attendait le suivant
    )
    formats: bool = False  # vrai si un dossier y est lu dans tous ses formats ; faux : .txt, .md, .jsonl


def name_every_id(config: GPTConfig, tokenizer: Tokenizer) -> GPTConfig:
    """La forme du modèle quand il écrit : ce que son tokenizer ne nomme pas ne s'écrit pas."""
    return replace(config, vocab_size=min(config.vocab_size, tokenizer.vocab_size))


def describe(description: Description) -> State:
    """La description d'un modèle, en valeurs simples : de quoi le reconstruire sans configuration."""
    config, tokenizer, prompts, corpus, task, template, labels, lora, base, base_source, length, *_ = (
        description
    )
    state = tokenizer.state() if tokenizer else None
    always = {"format_version": VERSION, "model": config.to_dict(), "tokenizer": state}
    more: State = {"prompts": list(prompts), "corpus": corpus}
    if TASKS[task] is not TEXT:
        more |= {"task": task, "template": template, "labels": list(labels)}
    if lora is not None:
        more |= {"lora": lora.to_dict(), "base": base, "base_source": base_source}
    if length is not None:
        more |= {"max_length": length}
    return always | {key: value for key, value in more.items() if value}


def read(content: object, path: Path) -> Description:
    """Relit la description que `describe` a écrite. UserError si elle est d'un autre format."""
    values: State = content if isinstance(content, dict) else {}
    version = values.get("format_version")
    if isinstance(version, int) and version > VERSION:
        raise UserError(
            f"{path} est au format {version}, plus récent que ce programme, qui lit le {VERSION} : mettez-le à jour."
        )
    if version != VERSION:
        raise UserError(f"{path} est au format {version}, ce programme lit le {VERSION}.")
    state, config = values["tokenizer"], GPTConfig.from_dict(values["model"])
    tokenizer = from_state(state) if state else None
    if tokenizer is not None and not 0 < tokenizer.vocab_size <= config.vocab_size:
        raise UserError(
            f"{path} : son tokenizer a {tokenizer.vocab_size} identifiants, et son modèle {config.vocab_size}."
        )
    task, labels = _choice(values, "task", tuple(TASKS), TEXT.name, path), values.get("labels", ())
    if TASKS[task].labelled != bool(labels):
        raise UserError(f"{path} : {len(labels)} étiquettes pour la tâche {task}.")
    lora, max_length, progress = values.get("lora"), values.get("max_length"), values.get("progress")
    if max_length is not None:
        whole(f"{path} : max_length", max_length, 1, config.context_length)
    return Description(
        config,
        tokenizer,
        tuple(map(str, values.get("prompts", ()))),
        str(values.get("corpus", "")),
        task,
        _template(values, path),
        tuple(map(str, labels)),
        LoRAConfig.from_dict(lora) if lora else None,
        str(values.get("base", "")),
        str(values.get("base_source", "")),
        max_length,
        identity=str(progress.get("corpus", "")) if isinstance(progress, dict) else "",
    )


def _choice(values: State, key: str, choices: tuple[str, ...], default: str, path: Path) -> str:
    value = values.get(key, default)
    if value not in choices:
        raise UserError(
            f"{path} : {key}={str(value)[:40]!r}, que ce programme ne connaît pas ; mettez-le à jour."
        )
    return value


def _template(values: State, path: Path) -> str:
    value = values.get("template", "")
    if value:
        try:
            read_name(value)
        except UserError:
            _choice(values, "template", ("",), "", path)
    return value


def task_of(run: Path) -> str:
    """La tâche d'une exécution, que son checkpoint nomme ; ses tenseurs ne sont pas lus.

    Si tous sont abîmés, celle de l'entraînement par défaut : qui les lira dira mieux pourquoi.
    """
    for path in layout.checkpoints_of(run, "best"):
        with contextlib.suppress(UserError), reading(path):
            content = read_description(path)
            if is_ours(content):
                return read(content[KEY], path).task
    return TEXT.name


def step_of(path: Path) -> int:
    """Le pas d'optimiseur de ce checkpoint ; ses tenseurs ne sont pas lus."""
    with reading(path):
        content = read_description(path)
        assert is_ours(content)
        return int(content["global_step"])


def find_model(
    source: str | None, *, key: str = "ckpt_path", tasks: Sequence[str] = tuple(TASKS)
) -> list[Path]:
    """Comme `layout.find_checkpoints`, parmi les exécutions dont la tâche est une de `tasks`."""

    def nothing() -> str:
        task = TASKS[tasks[0]]
        if layout.newest_run() is None:
            return layout.NO_RUN
        return f"Aucun modèle sous outputs/ ne sait {task.does} : lancez d'abord « {task.training} »."

    return layout.find_checkpoints(
        source, key=key, accepts=lambda run: task_of(run) in tasks, nothing=nothing
    )


def newest_of(*tasks: str) -> Path | None:
    """L'exécution la plus récente d'une de ces tâches."""
    return layout.newest_run(accepts=lambda run: task_of(run) in tasks)


def is_ours(content: object) -> TypeGuard[State]:
    """Vrai pour le contenu d'un checkpoint du projet."""
    return isinstance(content, dict) and KEY in content


def model_state(checkpoint: State) -> dict[str, Tensor]:
    """Les tenseurs d'un checkpoint sous les noms du `GPTModel`."""
    state = checkpoint.get("state_dict", {})
    return {name.removeprefix(_PREFIX): tensor for name, tensor in state.items()}


def write_progress(checkpoint: State, description: Description, progress: TrainingProgress) -> None:
    """Ajoute à un checkpoint de Lightning la description du modèle et où en est l'entraînement."""
    where = {**progress._asdict(), "metrics": dict(progress.metrics)}
    checkpoint[KEY] = {**describe(description), "training_version": TRAINING_VERSION, "progress": where}


def read_progress(content: object, path: str) -> TrainingProgress:
    """Lit où en est un checkpoint dont l'entraînement se reprend. UserError, qui dit quoi faire, sinon."""
    if not is_ours(content):
        raise UserError(
            f"{path} n'est pas un checkpoint de gpt_lightning : init_from= part des poids d'ailleurs."
        )
    if "optimizer_states" not in content:
        raise UserError(
            f"{path} n'a que les poids : reprenez last.ckpt, ou partez de ces poids avec init_from=."
        )
    version = content[KEY].get("training_version", 1) if isinstance(content[KEY], dict) else None
    if isinstance(version, int) and version > TRAINING_VERSION:
        raise UserError(
            f"{path} vient d'une version plus récente du projet : mettez-le à jour pour reprendre."
        )
    if version not in RESUMABLE:
        raise UserError(
            f"{path} vient d'une version du projet qui réglait autrement l'optimiseur : cet entraînement ne se reprend "
            f"pas ; init_from= part de ses poids."
        )
    progress = TrainingProgress(**content[KEY]["progress"])
    for name in ("step", "tokens", "epoch", "windows", "tokens_per_step", "world_size"):
        whole(f"{path} : {name}", getattr(progress, name), 0, 2**62)
    return progress
