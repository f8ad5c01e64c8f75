"""`load` : lire n'importe quelle source de poids connue, et en faire un modèle et son tokenizer."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TypeVar

from torch import Tensor

from gpt_lightning.errors import UserError
from gpt_lightning.model import GPTModel
from gpt_lightning.model.lora import adapter_shapes, is_adapter, merge
from gpt_lightning.model.tasks import TASKS, of_labels
from gpt_lightning.tokenizers import Tokenizer, gpt2
from gpt_lightning.weights import (
    adapters,
    gguf,
    huggingface,
    huggingface_template,
    huggingface_tokenizer,
    original,
    peft,
)
from gpt_lightning.weights import format as form
from gpt_lightning.weights.building import build, check_blocks
from gpt_lightning.weights.untrusted import Damaged, parse_json, read_json, read_torch, reading, regular

HUB = "hf:"
T = TypeVar("T")
log = logging.getLogger("gpt_lightning")


class Loaded(NamedTuple):
    """Un modèle, ce que sa source dit de lui, et le fichier, le dossier ou le nom où il a été lu.

    Ses adaptateurs, s'il en a, y sont déjà ajoutés aux matrices ; `adapted` sont les tenseurs d'avant.
    """

    model: GPTModel
    description: form.Description
    source: str = ""
    guessed: bool = False  # le nombre de têtes n'est pas dans le fichier
    adapted: dict[str, Tensor] | None = None


def load(
    source: str | None = None,
    *,
    n_heads: int | None = None,
    key: str = "ckpt_path",
    base: str | None = None,
) -> tuple[GPTModel, Tokenizer | None]:
    """Charge le modèle (en évaluation, sur CPU) et son tokenizer (None si la source n'en dit rien).

    `source` : None ou `best` (meilleur checkpoint de l'exécution la plus récente), `last`, un dossier d'exécution, un
    .ckpt ; un fichier ou un dossier safetensors de `export` ; un dossier de Hugging Face (GPT-2, Llama, Mistral, Qwen2,
    Qwen3), ou `hf:nom`, dont un modèle en bf16 le reste ; un .gguf (gpt2, llama, qwen2, qwen3), remis en float32 ; un
    dossier d'adaptateurs de peft ; le gpt-model.pt du projet d'origine, dont `n_heads` peut compléter la configuration.
    `key` est le réglage que les phrases nomment ; `base`, désignée comme `source`, est le modèle de départ
    d'adaptateurs, que sinon leur empreinte, ou leur nom chez peft, retrouve. Rien n'est jamais exécuté.
    UserError, en une phrase qui nomme le fichier et le tenseur, sur tout ce qui n'est pas cela.
    """
    loaded = load_and_describe(source, n_heads=n_heads, key=key, base=base)
    return loaded.model, loaded.description.tokenizer


def load_and_describe(
    source: str | None = None,
    *,
    n_heads: int | None = None,
    key: str = "ckpt_path",
    tasks: Sequence[str] = tuple(TASKS),
    base: str | None = None,
) -> Loaded:
    """Comme `load`, avec ce que la source dit du modèle, et laquelle a été lue.

    Dans une exécution, un checkpoint abîmé est signalé, et le plus récent qui ne l'est pas le remplace. UserError si
    la tâche du modèle n'est pas une de `tasks`.
    """
    if source and source.startswith(HUB):
        folder = huggingface.download(source.removeprefix(HUB))
        with reading(folder):
            loaded = _load_folder(folder, base)._replace(source=source)
    else:
        paths = form.find_model(source, key=key, tasks=tasks)
        loaded = first_whole(paths, lambda path: _load_path(path, n_heads, base))
    if loaded.description.task not in tasks:
        task = TASKS[loaded.description.task]
        raise UserError(
            f"{loaded.source} sait {task.does} : sa commande est « {task.command} ckpt_path={loaded.source} »."
        )
    if n_heads is not None and not loaded.guessed:
        raise UserError("n_heads= ne sert qu'au gpt-model.pt du projet d'origine : ces poids disent le leur.")
    if base is not None and loaded.description.lora is None:
        raise UserError(f"base_path= ne sert qu'à des adaptateurs : {loaded.source} a tous ses poids.")
    return loaded


def first_whole(paths: Sequence[Path], read: Callable[[Path], T], *, strict: bool = False) -> T:
    """Lit, par `read`, le premier de `paths` qui n'est pas abîmé ; le journal nomme ceux qui le sont.

    Damaged s'ils le sont tous, ou dès le premier avec `strict`.
    """
    first, *others = paths
    try:
        return read(first)
    except Damaged as error:
        if strict or not others:
            raise
        log.warning(f"{error} {others[0]} est pris à sa place.")
    return first_whole(others, read)


class Resumed(NamedTuple):
    """Ce qu'un checkpoint dit de son modèle, où il en est, les tenseurs de sa base s'il ne les a pas, et depuis combien
    d'évaluations l'arrêt anticipé attend."""

    description: form.Description
    progress: form.TrainingProgress
    base: dict[str, Tensor] | None = None
    waited: int = 0


def resumable(path: str, base: str | None = None) -> Resumed:
    """Lit ce qu'il faut pour reprendre le checkpoint `path`, `base` comme pour `load`. UserError si cela ne se peut."""
    with reading(Path(path)):
        content = read_torch(Path(path))
        progress = form.read_progress(content, path)
        description = form.read(content[form.KEY], Path(path))
        state = form.model_state(content)
        loaded = _assemble(description, state, Path(path), base)
        base_state = loaded.adapted if adapters.is_partial(state) else None
        waits = [int(saved["wait_count"]) for saved in content["callbacks"].values() if "wait_count" in saved]
        return Resumed(description, progress, base_state, max(waits, default=0))


def _load_path(path: Path, n_heads: int | None, base: str | None = None) -> Loaded:
    with reading(path):
        return _load_file(path, n_heads, base)._replace(source=str(path))


def _load_file(path: Path, n_heads: int | None, base: str | None) -> Loaded:
    if path.is_dir():
        return _load_folder(path, base)
    regular(path)
    if path.suffix == ".safetensors":
        return _load_safetensors(path, base)
    if gguf.is_gguf(path):
        description, state = gguf.read(path)
        return Loaded(build(description.config, state, path), description)
    content = read_torch(path)
    if form.is_ours(content):
        description = form.read(content[form.KEY], path)
        return _assemble(description, form.model_state(content), path, base)
    if original.is_original(content):
        return _load_original(path, original.state_of(content), n_heads)
    names = ", ".join(map(str, list(content)[:3])) if isinstance(content, dict) else type(content).__name__
    raise UserError(f"{path} : architecture inconnue (on y trouve {names[:120]}).")


def _assemble(
    description: form.Description, state: dict[str, Tensor], path: Path, base: str | None
) -> Loaded:
    """Construit le modèle de ces tenseurs ; ajoute ses adaptateurs à ses matrices, ou à celles de sa base."""
    if description.lora is None:
        return Loaded(build(description.config, state, path, len(description.labels)), description)
    if adapters.is_partial(state):
        state = adapters.complete(state, description, path, base, lambda source: load(source)[0])
    elif base is not None:
        raise UserError(f"base_path= ne sert pas ici : {path} a ses adaptateurs et leur base.")
    return _merge(description, state, path)


def _merge(description: form.Description, state: dict[str, Tensor], path: Path) -> Loaded:
    """Construit le modèle de ces tenseurs, ceux de ses adaptateurs et de leur base."""
    assert description.lora is not None
    check_blocks(description.config, state, path)
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items() if is_adapter(name)}
    expected = adapter_shapes(description.config, description.lora)
    if shapes != expected:
        wrong = next(name for name in {**expected, **shapes} if shapes.get(name) != expected.get(name))
        raise Damaged(f"{path} : l'adaptateur {wrong} manque, est de trop, ou n'a pas la forme annoncée.")
    plain = merge(state, description.lora)
    return Loaded(
        build(description.config, plain, path, len(description.labels)), description, adapted=dict(state)
    )


def _load_safetensors(path: Path, base: str | None) -> Loaded:
    from safetensors import safe_open

    with reading(path), safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        if form.KEY in metadata:
            description = form.read(parse_json(metadata[form.KEY], path), path)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return _assemble(description, tensors, path, base)
    return _load_folder(path.parent, base)


def _load_folder(folder: Path, base: str | None) -> Loaded:
    if (folder / peft.CONFIG).exists():
        return _load_peft(folder, base)
    if (folder / huggingface.CONFIG).exists():
        return _load_huggingface(folder)
    ours = sorted(folder.glob("*.safetensors"))
    if len(ours) == 1 and _has_metadata(ours[0]):
        return _load_safetensors(ours[0], base)
    raise UserError(
        f"{folder} n'est ni une exécution (checkpoints/), ni un dossier de Hugging Face (config.json), ni un dossier "
        f"de peft (adapter_config.json), ni un export safetensors."
    )


def _has_metadata(path: Path) -> bool:
    from safetensors import safe_open

    regular(path)
    with reading(path), safe_open(path, framework="pt") as file:
        return form.KEY in (file.metadata() or {})


def _load_huggingface(folder: Path) -> Loaded:
    values, tensors = huggingface.read_folder(folder)
    config = huggingface.config_from(values, folder / huggingface.CONFIG)
    tokenizer, why_not = huggingface_tokenizer.read(folder, config.vocab_size)
    labels = huggingface.labels_of(values, tensors, folder)
    if labels and "lm_head.weight" not in tensors:  # qui classe n'a pas toujours de quoi écrire
        config = replace(config, tie_weights=True)
    description = form.Description(config, tokenizer, task=of_labels(labels), labels=labels)
    own = folder / f"{form.KEY}.json"
    if own.exists():  # notre export : des options et un tokenizer que config.json ne dit pas
        description = form.read(read_json(own), own)
        description = description._replace(config=replace(description.config, vocab_padding=1))
    elif tokenizer is None:
        log.warning(
            f"{folder} : son tokenizer ne se lit pas, {why_not} ; les poids se chargent, le texte non."
        )
    else:
        description = huggingface_template.describe(description, folder)
    state = huggingface.state_from(tensors, description.config)
    return Loaded(build(description.config, state, folder, len(description.labels)), description)


def _load_peft(folder: Path, base: str | None) -> Loaded:
    """Des adaptateurs de peft, sur la base que `base` désigne, celle qu'ils nomment, ou celle dont l'empreinte est la
    bonne si nous les avons écrits."""
    if huggingface.weights_of(folder) is not None:
        raise UserError(
            f"{folder} a un modèle entier et des adaptateurs : mettez {peft.CONFIG} et ses poids dans un dossier à eux."
        )
    values, tensors = peft.read(folder)
    own = folder / f"{form.KEY}.json"
    if own.exists():
        description = form.read(read_json(own), own)
        state = adapters.complete({}, description, folder, base, lambda source: load(source)[0])
    else:
        description, state = _load_base(base or peft.base_of(values, folder), folder)
    check_blocks(description.config, state, folder)
    lora, ours = peft.state_from(values, tensors, description.config)
    return _merge(description._replace(lora=lora), {**state, **ours}, folder)


def _load_base(source: str, folder: Path) -> tuple[form.Description, dict[str, Tensor]]:
    """La base d'un dossier de peft, et sa description, où le gabarit du dossier remplace le sien."""
    with adapters.looking(folder):
        model, description, source, *_ = load_and_describe(source, key="base_path")
    state = model.state_dict()
    description = description._replace(base=adapters.fingerprint(state, model.config), base_source=source)
    tokenizer, _ = huggingface_tokenizer.read(folder, model.config.vocab_size)
    said = huggingface_template.describe(form.Description(model.config, tokenizer), folder)
    brings = said.template or said.unknown_template or description.tokenizer is None
    if brings and not description.labels:
        description = description._replace(
            tokenizer=tokenizer,
            task=said.task,
            template=said.template,
            unknown_template=said.unknown_template,
        )
    return description, {name: tensor.float() for name, tensor in state.items()}


def _load_original(path: Path, state: dict[str, Tensor], n_heads: int | None) -> Loaded:
    config = original.config_from(state, path, n_heads)
    if n_heads is None:
        log.warning(
            f"{path} ne dit pas son nombre de têtes : {config.n_heads} (emb_dim / 64) ; n_heads= "
            "pour en donner un autre."
        )
    # ce format ne dit pas son tokenizer, et le projet d'origine n'entraîne qu'avec celui de GPT-2
    tokenizer = gpt2() if config.vocab_size == gpt2().vocab_size else None
    return Loaded(build(config, state, path), form.Description(config, tokenizer), guessed=True)
