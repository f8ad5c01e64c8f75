"""`generate.py interactive=true` : une ligne, sa complétion, et des commandes qui commencent par « / »."""

import contextlib
import io
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields, replace

import yaml

from gpt_lightning.decoding import Strategy, TextStream
from gpt_lightning.errors import UserError, whole

INVITE = "» "


@dataclass(frozen=True)
class Session:
    """Les réglages d'une séance : chaque commande en donne une autre."""

    strategy: Strategy
    max_new_tokens: int
    seed: int | None = None


def apply_command(
    session: Session, line: str, start: Session, find_strategy: Callable[[str], Strategy]
) -> Session:
    """La séance après la commande `line` ; `find_strategy` trouve une stratégie. UserError si elle n'existe pas."""
    command, _, argument = line[1:].partition(" ")
    if command == "reset":
        return start
    if not argument.strip():
        raise UserError(f"« /{command} » ne se comprend pas seul : /aide donne les commandes.")
    if command == "decoding":
        return replace(session, strategy=find_strategy(argument.strip()))
    try:
        value = yaml.safe_load(argument)
    except yaml.YAMLError:
        value = argument
    if isinstance(value, str):
        with contextlib.suppress(ValueError):  # 1e-8 n'est pas un nombre de YAML
            value = float(value)
    if command == "seed":
        return replace(session, seed=None if value is None else whole("/seed", value, 0))
    if command == "longueur":
        return replace(session, max_new_tokens=whole("/longueur", value, 0))
    if command in {field.name for field in fields(Strategy)}:
        return replace(session, strategy=Strategy(**{**asdict(session.strategy), command: value}))
    raise UserError(f"« /{command} » n'existe pas : /aide donne les commandes.")


def lines() -> Iterator[str]:
    """Les lignes tapées, jusqu'à la fin de l'entrée ; Ctrl-C devant l'invite est ignoré."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 : l'historique et l'édition de la ligne
    if isinstance(sys.stdin, io.TextIOWrapper):  # un octet invalide ne finit pas la séance
        sys.stdin.reconfigure(errors="replace")
    while True:
        try:
            yield input(INVITE if sys.stdin.isatty() else "")
        except EOFError:
            return
        except KeyboardInterrupt:
            print(file=sys.stderr)


def talk(
    start: Session, continue_texts: Callable[..., TextStream], find_strategy: Callable[[str], Strategy]
) -> None:
    """Lit des lignes jusqu'à /quitter ou la fin de l'entrée ; `continue_texts([texte], **séance)` : un TextStream."""
    print(_dialogue_help(), file=sys.stderr)
    session = start
    for line in lines():
        if line.strip() == "/quitter":
            return
        if line.strip() == "/aide":
            print(_dialogue_help(), file=sys.stderr)
        elif line.startswith("/"):
            try:
                session = apply_command(session, line.strip(), start, find_strategy)
            except UserError as error:
                print(error, file=sys.stderr)
            else:
                print(describe(session), file=sys.stderr)
        else:
            _answer(line, session, continue_texts)


def _answer(line: str, session: Session, continue_texts: Callable[..., TextStream]) -> None:
    try:
        print(line, end="", flush=True)
        for _, text in continue_texts([line], **vars(session)):
            print(text, end="", flush=True)
    except KeyboardInterrupt:
        pass
    except UserError as error:
        print(f"\n{error}", end="", file=sys.stderr)
    print(flush=True)


def describe(session: Session) -> str:
    """Les réglages d'une séance, en une ligne."""
    values = ", ".join(
        f"{key}={value}" for key, value in asdict(session.strategy).items() if value is not None
    )
    return f"[{values} ; {session.max_new_tokens} jetons au plus ; seed={session.seed}]"


def _dialogue_help() -> str:
    """Les commandes du dialogue."""
    return """Un texte, puis Entrée : le modèle le continue. Ctrl-C arrête le texte, Ctrl-D ou /quitter la séance.
  /decoding nucleus    une autre stratégie de conf/decoding
  /temperature 0.7     une clé de la stratégie : /top_k 40, /top_p 0.9, /num_beams 4 ...
  /seed 3              un texte reproductible ; /seed null tire au sort
  /longueur 200        jetons à produire au plus
  /reset               les réglages du départ
  /aide  /quitter"""
