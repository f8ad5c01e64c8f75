"""Un texte court : ce que `data.path=` change de lui-même quand un texte n'a pas de quoi remplir les défauts.

Ce sont des surcharges comme les autres, mises devant celles de la ligne de commande. Une clé tapée l'emporte donc, et
une reprise les retrouve dans config.yaml. Une commande qui choisit son modèle, ses poids de départ ou une expérience
n'en a aucune : elle dit déjà ce qu'elle veut.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser

from gpt_lightning.cli.composition import known_keys
from gpt_lightning.cli.console import log
from gpt_lightning.cli.defaults import is_typed, value_at
from gpt_lightning.errors import UserError
from gpt_lightning.typing import Settings
from gpt_lightning.wording import magnitude

SHORT = 1_000_000  # octets ; au-delà, les défauts de conf/
LITTLE = 200_000  # octets ; jusque-là, un plus petit vocabulaire, de plus petits lots, moins de passages
READ = 4 * SHORT  # octets des documents et des archives que l'on ouvre pour mesurer leur texte
TOLD = ("text_key", "errors", "max_expansion")  # ce que la commande dit de leur lecture
CHOSEN = ("model", "experiment", "init_from", "ckpt_path", "data.limit")
LENGTHS = (
    "trainer.max_epochs",
    "trainer.max_steps",
    "trainer.max_time",
    "trainer.fast_dev_run",
    "max_tokens",
)


def suit(size: int) -> dict[str, str]:
    """Les réglages d'un texte de `size` octets, {clé: valeur telle qu'on la tape}.

    De petits lots font assez de pas de peu de jetons ; peu de passages et un dropout évitent de retenir par cœur.
    """
    vocabulary, batch, passes = (1024, 4, 4) if size <= LITTLE else (2048, 8, 6)
    return {
        "tokenizer.size": str(vocabulary),
        "model.drop_rate": "0.1",
        "data.batch_size": str(batch),
        "data.passes": str(passes),
        "eval_every": str(max(5, min(100, size // 4000))),  # une dizaine d'évaluations
        "callbacks": "early_stopping",
        "callbacks.early_stopping.patience": "3",
    }


def with_short_text(overrides: list[str], command: str) -> list[str]:
    """Ces surcharges, précédées de ce qui va à leur texte s'il est court."""
    fits = fitting(overrides, command)
    return [*(f"{key}={value}" for key, value in fits.items()), *overrides]


def fitting(overrides: list[str], command: str) -> dict[str, str]:
    """Ce qui va au texte de ces surcharges et que personne n'a tapé ; rien s'il n'est pas court.

    Une commande qui n'apprend pas de vocabulaire lit le texte avec celui d'un modèle : rien n'y change.
    """
    typed = {text.partition("=")[0].lstrip("+") for text in overrides}
    size = None if typed & set(CHOSEN) else _size(overrides)
    if size is None or "tokenizer.size" not in known_keys(command):
        return {}
    fits, groups = suit(size), known_keys(command)
    if "tokenizer" in typed:
        del fits["tokenizer.size"]
    if typed & set(LENGTHS):
        del fits["data.passes"]
    if "callbacks" in typed:
        del fits["callbacks.early_stopping.patience"]
    return {key: value for key, value in fits.items() if key not in typed and key.partition(".")[0] in groups}


def announce(overrides: list[str], used: Settings) -> None:
    """Écrit dans le journal les réglages d'un texte court qui servent et que personne n'a donnés, s'il y en a.

    Une reprise n'en dit rien : ses réglages sont ceux de son dossier.
    """
    size = None if used["ckpt_path"] is not None else _size(overrides)
    fits = {} if size is None else suit(size)
    taken = [
        f"{key}={value}"
        for key, value in fits.items()
        if f"{key}={value}" in overrides and not is_typed(key) and _serves(key, value, used)
    ]
    if taken:
        log.info(f"Réglage    : texte court : {magnitude(size or 0, 'o')}, donc {' '.join(taken)}")


def _serves(key: str, value: str, used: Settings) -> bool:
    """Vrai si la clé vaut `value`, tel qu'on le tape, dans les réglages qui servent ; un groupe, si son choix y est."""
    if key == "callbacks":
        return used[key].get(value) is not None
    return str(value_at(used, key)) == value


def _size(overrides: list[str]) -> int | None:
    """Les octets du texte court de `data.path=` ; None sans lui, s'il est long, ou si ses fichiers ne le disent pas.

    Un document qui ne se lit pas n'en dit rien, ni trop d'octets à lire : les défauts de conf/ servent alors.
    """
    data = dict(map(_pair, overrides))
    if data.get("data") != "text" or not data.get("data.path") or data.get("data.source", "files") != "files":
        return None
    from gpt_lightning.data import documents
    from gpt_lightning.data.reading import find_files

    path = data["data.path"]
    try:
        files = find_files(path if isinstance(path, list) else str(path), suffixes=documents.SUFFIXES).files
        plain = [file for file in files if file.suffix.lower() in (*documents.PLAIN, "")]
        size, others = sum(file.stat().st_size for file in plain), sorted({*files} - {*plain})
        if size > SHORT or sum(file.stat().st_size for file in others) > READ:
            return None
        told = [data.get(f"data.{name}") for name in TOLD]
        if any(isinstance(value, list | dict) for value in told):
            return None
        stamps = tuple((file, file.stat().st_mtime_ns) for file in others)
        size += _text_size(stamps, *told)
    except (UserError, OSError):
        return None
    return size if size <= SHORT else None


def _pair(override: str) -> tuple[str, Any]:
    """La clé et la valeur d'une surcharge, comme Hydra les lit ; celle qui ne dit rien de la lecture n'en a pas."""
    key = override.partition("=")[0].lstrip("+")
    if key not in ("data", "data.path", "data.source", *(f"data.{name}" for name in TOLD)):
        return key, None
    return key, OverridesParser.create().parse_override(override).value()


@lru_cache
def _text_size(files: tuple[tuple[Path, int], ...], *told: Any) -> int:
    """Les octets du texte de ces fichiers, lus comme la commande le dit, jusqu'à dépasser SHORT. UserError sinon."""
    from gpt_lightning.data import documents

    given = {name: value for name, value in zip(TOLD, told, strict=True) if value is not None}
    size = 0
    for piece in documents.read_files([file for file, _ in files], documents.Options(**given)):
        size += len(piece.text.encode("utf-8", "surrogatepass"))
        if size > SHORT:
            break
    return size
