"""Un modèle pour l'inférence : le trouver, le charger, le mettre sur un appareil dans une précision."""

import logging
import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch

from gpt_lightning.errors import UserError, choice, whole
from gpt_lightning.model import GPTConfig, GPTModel
from gpt_lightning.model.fast.inference import BITS, compile_for_inference, for_inference, is_supported
from gpt_lightning.model.lora import is_adapter
from gpt_lightning.model.tasks import WRITERS
from gpt_lightning.tokenizers import Tokenizer
from gpt_lightning.tokenizers.dialects import read_name
from gpt_lightning.tokenizers.template import template_for
from gpt_lightning.weights.building import build
from gpt_lightning.weights.format import Description, name_every_id, newest_of
from gpt_lightning.weights.loading import Loaded, load_and_describe
from gpt_lightning.wording import cannot_compile, duration

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
MOST_THREADS = 1024  # au-delà, le système refuse d'en créer, et le processus meurt
log = logging.getLogger("gpt_lightning")


def to_device(
    model: GPTModel, device: str = "auto", dtype: str = "auto", *, compile: bool = False
) -> GPTModel:
    """Met le modèle sur `device` (auto, cpu, cuda, mps), en `dtype` (auto, fp32, bf16, int8, int4), prêt à écrire.

    `compile` : l'écriture d'un jeton devient un seul graphe, et le journal dit combien de temps cela a pris.

    `auto` prend le GPU s'il y en a un, et bf16 s'il le calcule (CUDA 8.0 et plus), fp32 sinon : il ne quantifie jamais.
    int8 et int4 sont pour le CPU ; là où torch n'a pas ce noyau, le type suivant le remplace, et le
    journal le dit.
    UserError si l'appareil n'est pas là, si le choix n'existe pas, ou si torch ne peut pas compiler.
    """
    choice("compile", compile, (True, False))
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        device = next(name for name in ("cuda", "mps", "cpu") if present[name])
    kind = str(device).partition(":")[0]
    if kind not in present:
        raise UserError(f"device={device} : les choix sont auto, cpu, cuda, mps.")
    index = str(device).partition(":")[2] or "0"
    if kind == "cuda" and present[kind] and not (index.isdigit() and int(index) < torch.cuda.device_count()):
        raise UserError(f"device={device} : il y a {torch.cuda.device_count()} GPU, numérotés à partir de 0.")
    if not present[kind]:
        raise UserError(f"device={device}, mais cet appareil n'est pas visible ici : essayez device=auto.")
    choice("dtype", dtype, ("auto", *DTYPES, *BITS))
    if dtype in BITS and kind != "cpu":
        raise UserError(f"dtype={dtype} est pour le CPU : sur {kind}, dtype=bf16, ou device=cpu.")
    if dtype == "auto":
        dtype = "bf16" if kind == "cuda" and native_bf16(torch.device(device)) else "fp32"
    while dtype in BITS and not is_supported(dtype):
        fallback = "int8" if dtype == "int4" else "fp32"
        log.warning(
            f"dtype={dtype} : ce torch n'en a pas le produit sur ce processeur ; dtype={fallback} est pris à sa place."
        )
        dtype = fallback
    stored = dtype
    if dtype in BITS:
        stored = "bf16" if native_bf16(torch.device(device)) else "fp32"
        if stored == "fp32":
            log.warning(
                f"dtype={dtype} : ce processeur n'a pas le bf16, ses produits y gagnent moins ; le texte est le même."
            )
    ready = for_inference(model.to(device, DTYPES[stored]), dtype, pack=not compile)
    return _compile(ready) if compile else ready


def _compile(model: GPTModel) -> GPTModel:
    log.info("compile=true : la compilation commence, une minute à peu près.")
    began = time.monotonic()
    try:
        compile_for_inference(model)
    except Exception as error:  # le compilateur C++ qui manque, un noyau que torch ne sait pas écrire
        raise UserError(cannot_compile(type(error).__name__, str(error))) from error
    log.info(f"Compilé en {duration(time.monotonic() - began)}.")
    return model


@lru_cache
def native_bf16(device: torch.device) -> bool:
    """Vrai si l'appareil calcule en bf16 : CUDA 8.0 et plus, CPU avec AMX ou AVX512-BF16. Ailleurs, torch l'imite."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    names = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return device.type == "cpu" and any(getattr(torch.cpu, name, lambda: False)() for name in names)


@lru_cache
def all_threads() -> int:
    """Les threads que torch prend de lui-même : ceux d'OMP_NUM_THREADS, sinon un par cœur."""
    return torch.get_num_threads()


def use_threads(threads: int | str) -> None:
    """Fait calculer le CPU sur `threads` threads ; `auto` : ceux que torch prend de lui-même. UserError sinon."""
    most = all_threads()
    torch.set_num_threads(most if threads == "auto" else whole("threads", threads, most=MOST_THREADS))


class Inference(NamedTuple):
    """Le nom de la source, le modèle sur son appareil, son tokenizer, un début de texte dans sa langue, son gabarit."""

    source: str
    model: GPTModel
    tokenizer: Tokenizer
    prompt: str
    template: str = ""  # celui d'un modèle qui a appris à répondre, ou celui que la commande demande
    labels: tuple[str, ...] = ()  # celles d'un modèle qui classe
    max_length: int | None = None  # jetons qu'il a lus d'un texte ; None : tout son contexte
    unknown_template: bool = False  # il en a un que l'on ne reconnaît pas, et la commande n'en demande pas
    bare: GPTModel | None = None  # le même sans ses adaptateurs, s'il en a et si la commande le demande
    corpus: str = ""  # l'empreinte de ce qu'un entraînement d'ici lui a fait lire


def load_for_inference(
    source: str | None,
    *,
    n_heads: int | None = None,
    device: str = "auto",
    dtype: str = "auto",
    compile: bool = False,
    threads: int | str = "auto",
    tasks: Sequence[str] = WRITERS,
    base: str | None = None,
    template: str | None = None,
    bare: bool = False,
    key: str = "ckpt_path",
) -> Inference:
    """Charge ce qu'il faut pour écrire avec `source`, désignée comme pour `load`. UserError sans tokenizer.

    Le CPU calcule sur `threads` threads. `auto` n'y regarde pas la charge de la machine : une graine redonne le même
    texte.

    L'exécution la plus récente est celle de la première des `tasks` qui en a une. `template` remplace le gabarit du
    modèle ; UserError s'il n'a pas ses jetons.

    `bare` : charger aussi le modèle d'avant ses adaptateurs. `key` : la clé qui désigne `source`, pour les phrases.

    Le début de texte est vide si la source n'en garde pas : le modèle commence alors un document.
    """
    if template is not None:
        read_name(template, "template")
    use_threads(threads)
    if source in (None, "best", "last") and newest_of(tasks[0]) is not None:
        tasks = tasks[:1]
    loaded = load_and_describe(source, n_heads=n_heads, key=key, tasks=tasks, base=base)
    model, description, source = loaded.model, loaded.description, loaded.source
    if description.tokenizer is None:
        raise UserError(
            f"{source} ne dit pas son tokenizer, et son texte ne peut pas être encodé : mettez son tokenizer.json (ou "
            f"vocab.json et merges.txt) à côté des poids, ou partez-en avec train.py init_from={source} tokenizer=gpt2."
        )
    description = _in_template(description, source, template)
    assert description.tokenizer is not None
    model.config = name_every_id(model.config, description.tokenizer)
    prompt = description.prompts[0] if description.prompts else ""
    before = _before_adapters(loaded, model.config) if bare else None
    ready = to_device(model, device, dtype, compile=compile)
    return Inference(
        source,
        ready,
        description.tokenizer,
        prompt,
        description.template,
        description.labels,
        description.max_length,
        description.unknown_template,
        None if before is None else to_device(before, device, dtype, compile=compile),
        description.identity,
    )


def _before_adapters(loaded: Loaded, config: GPTConfig) -> GPTModel | None:
    """Le modèle sans les adaptateurs que `loaded` a ; None s'il n'en a pas."""
    if loaded.adapted is None:
        return None
    state = {name: tensor for name, tensor in loaded.adapted.items() if not is_adapter(name)}
    model = build(loaded.description.config, state, Path(loaded.source))
    model.config = config
    return model


def _in_template(description: Description, source: str, name: str | None) -> Description:
    """La description, dans le gabarit `name` si la commande en demande un : son tokenizer finit alors une réponse."""
    assert description.tokenizer is not None
    if name is None:
        return description
    template = template_for(name, description.tokenizer, "template")
    if template.tokenizer.vocab_size > description.tokenizer.vocab_size:
        raise UserError(
            f"template={template.kind} : {source} n'a pas ses jetons ; prenez template=texte, ou apprenez-les-lui par "
            f"train.py experiment=instruct data.template={template.kind}."
        )
    return description._replace(template=name, tokenizer=template.tokenizer, unknown_template=False)
