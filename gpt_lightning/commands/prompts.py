"""Lire les textes de départ : prompt=, prompt_file=, l'entrée standard, un fichier de plusieurs textes."""

import os
import select
import stat
import sys
from functools import lru_cache
from pathlib import Path
from typing import TextIO

from gpt_lightning.errors import UserError, choice, whole
from gpt_lightning.typing import Settings

SEPARATOR = "---"
SOURCES = ("prompt", "prompt_file", "prompts_file")


def check_sources(settings: Settings) -> None:
    """UserError si les textes de départ, ou le fichier à écrire, ne vont pas ensemble."""
    given = [key for key in SOURCES if settings[key] is not None]
    if len(given) > 1 or (given and settings.get("interactive")):
        both = given[:2] if len(given) > 1 else [*given, "interactive"]
        raise UserError(f"{both[0]}= et {both[1]}= ne vont pas ensemble : gardez l'un des deux.")
    if settings["output"] is not None and settings["prompts_file"] is None:
        raise UserError(
            "output= reçoit les complétions de prompts_file= ; pour un seul texte, redirigez : ... > fichier."
        )
    if settings["output"] is not None and Path(settings["output"]).exists():
        raise UserError(f"output={settings['output']} existe déjà : rien n'est écrasé, donnez un autre nom.")
    if settings["output"] is not None and not Path(settings["output"]).absolute().parent.is_dir():
        raise UserError(f"Le dossier de output={settings['output']} n'existe pas : créez-le d'abord.")


def check_prompts(settings: Settings) -> None:
    """UserError sur ce qui ne va pas ensemble, avant de charger quoi que ce soit."""
    check_sources(settings)
    if settings["interactive"] and settings["num_samples"] != 1:
        raise UserError("interactive=true ne montre qu'une complétion à la fois : retirez num_samples.")
    if "" in (settings["stop"] or ()):
        raise UserError("stop= est vide : il faut le texte devant lequel s'arrêter.")
    for key in ("batch_size", "num_samples"):
        whole(key, settings[key])
    whole("max_new_tokens", settings["max_new_tokens"], 0)
    if settings["seed"] is not None:
        whole("seed", settings["seed"], 0)
    for key in ("logprobs", "stream", "interactive"):
        choice(key, settings[key], (True, False))


def read_prompt(settings: Settings, default: str) -> str:
    """Le texte à continuer : prompt=, prompt_file=, ce qui est envoyé sur l'entrée standard, sinon `default`.

    Le retour à la ligne qui finit un fichier n'est pas du texte.
    """
    prompt = _find_prompt(settings)
    nothing = settings["prompt"] is None and settings["prompt_file"] is None
    return prompt or (default if nothing else "")


def read_prompts(path: str) -> list[str]:
    """Les textes d'un fichier, un par ligne. UserError s'il n'y en a aucun."""
    content = _without_last_newline(_read(path))
    if not content:
        raise UserError(f"prompts_file={path} est vide : il faut un texte par ligne.")
    return content.split("\n")


def _read(path: str) -> str:
    if path == "-":
        content, name = _all_of(sys.stdin), "l'entrée standard"
    else:
        content, name = Path(os.path.expanduser(path)).read_bytes(), path
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{name} n'est pas du texte UTF-8 (octet {error.start}) : convertissez-le.") from None


@lru_cache(maxsize=1)
def _all_of(stream: TextIO) -> bytes:
    """Ce qu'un flux contient : il ne se lit qu'une fois, chaque tâche d'un balayage le relit ici."""
    return stream.buffer.read()


def _without_last_newline(text: str) -> str:
    return text.removesuffix("\n")


def _is_piped() -> bool:
    """Vrai si l'entrée standard est un pipe ou un fichier."""
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (AttributeError, OSError, UserError):  # fermée
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode)


def _stdin_has_text() -> bool:
    """Vrai si l'entrée standard a du texte ; un pipe que personne ne remplit est attendu une seconde."""
    if sys.platform == "win32":
        return True
    return bool(select.select([sys.stdin], [], [], 1.0)[0])


def _find_prompt(settings: Settings) -> str:
    if settings["prompt"] is not None:
        return settings["prompt"]
    if settings["prompt_file"] is not None:
        return _without_last_newline(_read(settings["prompt_file"]))
    if not _is_piped():
        return ""
    if not _stdin_has_text():
        print(
            "[rien sur l'entrée standard : texte de départ par défaut ; « - » l'attendrait]", file=sys.stderr
        )
        return ""
    return _without_last_newline(_read("-"))
