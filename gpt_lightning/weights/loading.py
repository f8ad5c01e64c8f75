"""`load` : de n'importe quelle source de poids connue à un modèle et son tokenizer."""

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gpt_lightning import messages
from gpt_lightning.errors import UserError
from gpt_lightning.model import GPTConfig, GPTModel
from gpt_lightning.tokenizers import Tokenizer, gpt2
from gpt_lightning.weights import format as form
from gpt_lightning.weights import huggingface, huggingface_tokenizer, original
from gpt_lightning.weights.files import read_json, read_torch, reading
from gpt_lightning.weights.sources import find_checkpoint

HUB = "hf:"
log = logging.getLogger("gpt_lightning")


class Loaded(NamedTuple):
    """Un modèle, son tokenizer, et des débuts de texte dans sa langue si la source en garde."""

    model: GPTModel
    tokenizer: Tokenizer | None
    prompts: tuple[str, ...] = ()
    corpus: str = ""


def load(
    source: str | None = None, *, n_heads: int | None = None, key: str = "ckpt_path"
) -> tuple[GPTModel, Tokenizer | None]:
    """Le modèle (en évaluation, sur CPU) et son tokenizer (None si la source n'en dit rien).

    `source` : None ou `best` (meilleur checkpoint de l'exécution la plus récente), `last`, un dossier d'exécution, un
    .ckpt ; un fichier ou un dossier safetensors de `export` ; un dossier GPT-2 de Hugging Face, ou `hf:nom` ; le
    gpt-model.pt du projet d'origine, dont `n_heads` peut compléter la configuration ; `key` est le réglage que les
    phrases nomment. Rien n'est jamais exécuté.
    UserError, en une phrase qui nomme le fichier et le tenseur, sur tout ce qui n'est pas cela.
    """
    return load_described(source, n_heads=n_heads, key=key)[:2]


def load_described(
    source: str | None = None, *, n_heads: int | None = None, key: str = "ckpt_path"
) -> Loaded:
    """Comme `load`, avec les débuts de texte que la source garde."""
    if source and source.startswith(HUB):
        found = _from_huggingface(huggingface.download(source.removeprefix(HUB)))
    elif (path := find_checkpoint(source, key=key)).is_dir():
        found = _from_folder(path)
    elif path.suffix == ".safetensors":
        found = _from_safetensors(path)
    elif form.is_ours(content := read_torch(path)):
        found = _from_checkpoint(path, content)
    elif original.is_original(content):
        return _from_original(path, original.state_of(content), n_heads)
    else:
        seen = ", ".join(map(str, list(content)[:3])) if isinstance(content, dict) else type(content).__name__
        raise UserError(f"{path} : architecture inconnue (on y trouve {seen}).")
    if n_heads is not None:
        raise UserError("n_heads= ne sert qu'au gpt-model.pt du projet d'origine : ces poids disent le leur.")
    return found


def resumable(path: str) -> tuple[form.Description, form.Progress]:
    """Ce que le checkpoint `path` dit de son modèle, et où il en est. UserError s'il ne peut pas être repris."""
    content = read_torch(Path(path))
    progress = form.read_progress(content, path)
    return form.read(content[form.KEY], Path(path)), progress


def _from_checkpoint(path: Path, checkpoint: dict[str, Any]) -> Loaded:
    known = form.read(checkpoint[form.KEY], path)
    return Loaded(build(known.config, form.model_state(checkpoint), path), *known[1:])


def _from_safetensors(path: Path) -> Loaded:
    from safetensors import safe_open

    with reading(path), safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        if form.KEY in metadata:
            known = form.read(json.loads(metadata[form.KEY]), path)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return Loaded(build(known.config, tensors, path), *known[1:])
    return _from_folder(path.parent)


def _from_folder(folder: Path) -> Loaded:
    if (folder / huggingface.CONFIG).exists():
        return _from_huggingface(folder)
    ours = sorted(folder.glob("*.safetensors"))
    if len(ours) == 1 and _has_metadata(ours[0]):
        return _from_safetensors(ours[0])
    raise UserError(
        f"{folder} n'est ni une exécution (checkpoints/), ni un dossier de Hugging Face (config.json), ni un export "
        f"safetensors."
    )


def _has_metadata(path: Path) -> bool:
    from safetensors import safe_open

    with reading(path), safe_open(path, framework="pt") as file:
        return form.KEY in (file.metadata() or {})


def _from_huggingface(folder: Path) -> Loaded:
    values, tensors = huggingface.read_folder(folder)
    config = huggingface.config_from(values, folder / huggingface.CONFIG)
    tokenizer, why_not = huggingface_tokenizer.read(folder, config.vocab_size)
    rest: tuple[Any, ...] = ()
    ours = folder / f"{form.KEY}.json"
    if ours.exists():  # notre export : des options et un tokenizer que GPT-2 ne dit pas
        exported, tokenizer, *more = form.read(read_json(ours), ours)
        rest = tuple(more)
        config = replace(exported, vocab_padding=1)
    elif tokenizer is None:
        log.warning(messages.unread_tokenizer(str(folder), why_not))
    return Loaded(build(config, huggingface.state_from(tensors, config), folder), tokenizer, *rest)


def _from_original(path: Path, state: dict[str, Tensor], n_heads: int | None) -> Loaded:
    config = original.config_from(state, path, n_heads)
    if n_heads is None:
        log.warning(messages.guessed_heads(str(path), config.n_heads))
    # ce format ne dit pas son tokenizer, et le projet d'origine n'entraîne qu'avec celui de GPT-2
    tokenizer = gpt2() if config.vocab_size == gpt2().vocab_size else None
    return Loaded(build(config, state, path), tokenizer)


def build(config: GPTConfig, state: dict[str, Tensor], path: Path) -> GPTModel:
    """Un modèle fait de ces tenseurs, sans les copier. UserError qui nomme le tenseur absent ou mal formé."""
    with torch.device("meta"):
        model = GPTModel(config, draw=False)
    expected = model.state_dict()
    if config.tie_weights and "tok_emb.weight" in state:
        state = {**state, "out_head.weight": state["tok_emb.weight"]}
    for name, tensor in expected.items():
        if name not in state:
            raise UserError(f"{path} : il manque le tenseur {name}.")
        if state[name].shape != tensor.shape:
            raise UserError(
                f"{path} : le tenseur {name} a la forme {tuple(state[name].shape)}, il faudrait {tuple(tensor.shape)}."
            )
    model.load_state_dict({name: state[name] for name in expected}, assign=True)
    if config.tie_weights:
        model.out_head.weight = model.tok_emb.weight
    return model.requires_grad_(True).eval()
