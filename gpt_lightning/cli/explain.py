"""Faire une phrase de l'erreur si c'est une faute de la personne ; toute autre garde sa trace."""

import difflib
import errno
import os
import sys
import traceback
from collections.abc import Iterable, Sequence
from typing import NoReturn

from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf.errors import OmegaConfBaseException

from gpt_lightning.cli import habits, words
from gpt_lightning.cli.composition import CONF, choices, known_keys, unknown_choice
from gpt_lightning.errors import UserError
from gpt_lightning.wording import cannot_write

REFUSED = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)  # d'une écriture seulement


def leave(error: Exception, config_name: str) -> NoReturn:
    """Finit la commande sur une phrase si c'est une faute de la personne ; sinon l'erreur continue, avec sa trace."""
    if not _explain_and_print(error, config_name):
        raise error
    sys.exit(1)


def tell(error: Exception, config_name: str) -> None:
    """Affiche l'erreur, d'une phrase ou par sa trace, et laisse continuer."""
    if not _explain_and_print(error, config_name):
        traceback.print_exception(error)


def _explain_and_print(error: Exception, config_name: str) -> bool:
    """Écrit la phrase de l'erreur ; faux si elle n'en a pas, faute du programme."""
    if type(error).__name__ == "SIGTERMException":  # de Lightning, qui sinon finirait sur zéro
        sys.exit(143)
    sentence = explain(error, config_name)
    if sentence is None or os.environ.get("GPT_LIGHTNING_TRACEBACK"):
        return False
    print(sentence, file=sys.stderr)
    return True


def explain(error: BaseException, config_name: str) -> str | None:
    """La phrase qui explique une faute de la personne ; None si l'erreur est une faute du programme."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OverrideParseException):
        return _explain_word(error.override or str(error).splitlines()[0], config_name)
    if isinstance(error, MissingConfigException):
        return _explain_missing(error)
    if isinstance(error, ConfigCompositionException | OmegaConfBaseException):
        return _explain_composition(error, config_name)
    if "Config group override must be a string" in str(error):
        return "Un groupe ne peut pas valoir null : choisissez un de ses fichiers (logger=none ...)."
    if isinstance(error, HydraException):
        return f"Hydra : {str(error).splitlines()[0]}"
    if type(error).__name__ == "MisconfigurationException":
        return f"Lightning refuse cette configuration du Trainer : {' '.join(str(error).split())}"
    if isinstance(error, OSError) and error.errno in REFUSED:
        where = os.fsdecode(error.filename or "Un fichier")
        return cannot_write(where, error.errno, error.strerror or "")
    if isinstance(error, OSError) and error.filename:
        return _os_error(str(error.filename), error.errno or 0, error.strerror or "")
    return None


def _explain_word(word: str, config_name: str) -> str:
    """La phrase d'un mot que la grammaire de Hydra ne lit pas."""
    if words.takes_text(config_name):
        return f"« {word} » ne se comprend pas ; si c'est le texte, tapez prompt={words.as_shell(word)}"
    return (
        f"« {word} » ne se comprend pas : il faut clé=valeur, comme {words.example(config_name)} ; "
        "un texte de plusieurs mots se met entre guillemets deux fois, clé='\"deux mots\"'."
    )


def _explain_missing(error: MissingConfigException) -> str:
    missing = error.missing_cfg_file or ""
    group, _, choice = missing.rpartition("/")
    listed = choices(group) if group else []
    if group in ("hydra/launcher", "hydra/sweeper"):
        return f"{group}={choice} n'est pas installé : installez son greffon de Hydra, ou retirez cette clé."
    if not listed:
        return f"La configuration {missing} n'existe pas dans {CONF}."
    close = difflib.get_close_matches(choice, listed)
    return habits.for_choice(group, choice) or unknown_choice(group, choice, listed, close)


def _explain_composition(error: BaseException, config_name: str) -> str:
    """La phrase d'une clé qui n'existe pas, ou d'une valeur que la configuration refuse."""
    text = str(error)
    chain: BaseException | None = error
    while chain is not None:
        key = getattr(chain, "full_key", None)
        if key and "not in struct" in str(chain):
            return _unknown_key(key, config_name)
        chain = chain.__cause__ or chain.__context__
    if "Could not override" in text and "'" in text:
        key = text.split("'")[1].split("=")[0].lstrip("+~").split("@")[0]
        return _unknown_key(key, config_name)
    if text.startswith(("Ambiguous value for argument", "Sweep parameters")):
        override = text[text.index("'") + 1 : text.splitlines()[0].rindex("'")]
        return f"« {override} » donne plusieurs valeurs : ajoutez -m pour les essayer l'une après l'autre."
    return f"Configuration refusée : {text.splitlines()[0]}"


def _unknown_key(key: str, config_name: str) -> str:
    sentence = habits.for_key(key, known_keys(config_name))
    return sentence or _unknown_key_sentence(key, _closest_keys(key, config_name))


def _closest_keys(key: str, config_name: str) -> list[str]:
    keys = known_keys(config_name)
    last = key.rpartition(".")[2]
    by_last = [k for k in keys if k.rpartition(".")[2] == last]  # la bonne clé, sous un autre groupe
    return difflib.get_close_matches(key, keys, n=2, cutoff=0.6) or by_last[:2]


def refuse_unread_keys(keys: Iterable[str], config_name: str) -> None:
    """UserError sur une clé du premier niveau ajoutée avec « + » : personne ne la lirait."""
    names = {key.partition(".")[0] for key in known_keys(config_name)}
    for key in keys:
        if key not in names:
            raise UserError(_unknown_key_sentence(key, difflib.get_close_matches(key, names)))


def _unknown_key_sentence(key: str, close: Sequence[str]) -> str:
    """La phrase d'une clé qui n'existe pas, avec les plus proches."""
    hint = f" : vouliez-vous dire {' ou '.join(close)} ?" if close else " ; « --cfg job » les montre toutes."
    return f"La clé « {key} » n'existe pas{hint}"


def _os_error(filename: str, code: int, reason: str) -> str:
    """La phrase d'un refus du système, en français pour les plus courants."""
    reasons = {
        errno.ENOENT: "n'existe pas",
        errno.EACCES: "accès refusé",
        errno.EPERM: "accès refusé",
        errno.EISDIR: "est un dossier, il faut un fichier",
        errno.ENOTDIR: "un élément de ce chemin n'est pas un dossier",
        errno.EEXIST: "existe déjà",
        errno.ENOSPC: "le disque est plein",
        errno.EROFS: "le disque est en lecture seule",
    }
    return f"{filename} : {reasons.get(code, reason)}."
