"""Tenir une conversation dans la fenêtre du modèle, et obéir à ses commandes, qui commencent par « / »."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from gpt_lightning.commands.dialogue import generate
from gpt_lightning.decoding import Strategy, TextStream
from gpt_lightning.decoding.prefixes import PrefixCache
from gpt_lightning.decoding.text import AnswerStream
from gpt_lightning.errors import UserError
from gpt_lightning.tokenizers.messages import Message, arrange, unfinished_answer
from gpt_lightning.tokenizers.template import Template
from gpt_lightning.wording import number

if TYPE_CHECKING:
    from gpt_lightning.weights.inference import Inference

QUIT, HELP = ("/quitter", "/quit"), ("/aide", "/help")
CONTINUE = ("/continuer", "/continue")
NEW, SYSTEM, TUNE = ("/nouveau", "/new"), ("/systeme", "/système", "/system"), ("/regler", "/régler", "/set")


@dataclass(frozen=True)
class ChatSession(generate.Session):
    """Les réglages d'une séance, et sa consigne."""

    system: str | None = None


class Speaker:
    """Un modèle qui répond à une conversation, ou, s'il n'a jamais été instruit, qui la continue comme un texte."""

    def __init__(self, loaded: "Inference", prefix_bytes: int = 0) -> None:
        self.model, self.tokenizer, self.source = loaded.model, loaded.tokenizer, loaded.source
        self.template = Template(loaded.template, loaded.tokenizer) if loaded.template else None
        self.context = self.model.config.context_length
        self.prefixes = PrefixCache(self.model, prefix_bytes)  # les tours d'avant

    def reply(self, history: list[Message], session: ChatSession) -> Iterator[str]:
        """Les bouts de la réponse à la dernière question de `history`, qui perd ses plus vieux tours si besoin.

        Si `history` finit par une réponse, ce sont les bouts qui la continuent. UserError si les messages sont refusés,
        ou si la question ne tient pas, seule, dans la fenêtre ; `history` ne perd alors rien.
        """
        options: dict[str, Any] = {"strategy": session.strategy, "seed": session.seed}
        if self.template is None:
            options["max_new_tokens"] = session.max_new_tokens
            stream = TextStream(self.model, self.tokenizer, [history[-1].content], **options)
        else:
            ids = self._fit(history, session)
            options |= {
                "prefixes": self.prefixes,
                "stop": self.template.stop,
                "max_new_tokens": min(session.max_new_tokens, self.context - len(ids)),
            }
            stream = AnswerStream(
                self.model, self.tokenizer, ids, unfinished_answer(arrange(history)), **options
            )
        for _, text in stream:
            yield text

    def _fit(self, history: list[Message], session: ChatSession) -> list[int]:
        """Les jetons de la conversation ; `history` y perd ses plus vieux tours, avec leur réponse."""
        assert self.template is not None
        reserve = max(1, min(session.max_new_tokens, self.context // 4))  # la place laissée à la réponse
        system = [Message("system", session.system)] if session.system else []
        beginnings = [rank for rank, message in enumerate(history) if rank == 0 or message.role == "user"]
        for first in beginnings:
            ids = self.template.opening([*system, *history[first:]])
            if len(ids) + reserve <= self.context:
                break
        else:
            raise UserError(
                f"Cette question fait {number(len(ids))} jetons, et la fenêtre du modèle en "
                f"laisse {number(self.context - reserve)} : raccourcissez-la."
            )
        if first:
            del history[:first]
            print(_forgotten_turns(beginnings.index(first)), file=sys.stderr)
        return ids


def answer_once(speaker: Speaker, question: str, session: ChatSession) -> None:
    """Écrit la réponse à une question sur stdout, au fur et à mesure."""
    if speaker.template is None:
        print(_no_chat_model(speaker.source), file=sys.stderr)
    try:
        for text in speaker.reply([Message("user", question)], session):
            print(text, end="", flush=True)
    finally:
        print(flush=True)


def talk(speaker: Speaker, start: ChatSession, find_strategy: Callable[[str], Strategy]) -> None:
    """Lit des questions jusqu'à /quitter ou la fin de l'entrée, et y répond."""
    print(_chat_help(speaker.source), file=sys.stderr)
    if speaker.template is None:
        print(_no_chat_model(speaker.source), file=sys.stderr)
    session, history = start, list[Message]()
    for line in generate.lines():
        command, _, argument = line.strip().partition(" ")
        if command in QUIT:
            return
        if command in HELP:
            print(_chat_help(speaker.source), file=sys.stderr)
        elif command in NEW:
            history.clear()
            print("[nouvelle conversation]", file=sys.stderr)
        elif command in CONTINUE:
            _continue(speaker, history, session)
        elif line.startswith("/"):
            try:
                session = apply_command(session, line.strip(), start, find_strategy)
                print(generate.describe(session), file=sys.stderr)
            except UserError as error:
                print(error, file=sys.stderr)
        elif line.strip():
            _answer(speaker, line, history, session)


def apply_command(
    session: ChatSession, line: str, start: ChatSession, find_strategy: Callable[[str], Strategy]
) -> ChatSession:
    """La séance après `/systeme texte` ou `/regler clé valeur`. UserError si la commande n'existe pas."""
    command, _, argument = line.partition(" ")
    if command in SYSTEM:
        return replace(session, system=argument.strip() or None)
    if command not in TUNE:
        raise UserError(f"« {command} » n'existe pas : /aide donne les commandes.")
    if not argument.strip():
        raise UserError("« /regler » demande une clé et sa valeur : /regler temperature 0.7.")
    tuned = generate.apply_command(session, f"/{argument.strip().replace('=', ' ', 1)}", start, find_strategy)
    assert isinstance(tuned, ChatSession)
    return tuned


def _answer(speaker: Speaker, question: str, history: list[Message], session: ChatSession) -> None:
    """Répond, et retient la réponse, même interrompue ; oublie une question restée sans réponse."""
    history.append(Message("user", question.strip()))
    answer = _say(speaker, history, session)
    if answer.strip():
        history.append(Message("assistant", answer))
    else:
        history.pop()


def _continue(speaker: Speaker, history: list[Message], session: ChatSession) -> None:
    """Continue la dernière réponse, interrompue ou coupée, là où elle s'est arrêtée."""
    if not history:
        print("Il n'y a pas encore de réponse à continuer.", file=sys.stderr)
        return
    more = _say(speaker, history, session)
    history[-1] = Message("assistant", history[-1].content.rstrip() + more)


def _say(speaker: Speaker, history: list[Message], session: ChatSession) -> str:
    """Écrit sur stdout ce qui suit `history`, et le renvoie."""
    answer = ""
    try:
        for text in speaker.reply(history, session):
            answer += text
            print(text, end="", flush=True)
    except KeyboardInterrupt:
        print("\n[réponse arrêtée]", end="", file=sys.stderr)
    except UserError as error:
        print(error, end="", file=sys.stderr)
    print(flush=True)
    return answer


def _chat_help(source: str) -> str:
    """L'aide d'une conversation."""
    return (
        f"[{source}]\n"
        "Une ligne est une question ; Ctrl-C arrête la réponse.\n"
        "  /nouveau               recommence la conversation\n"
        "  /continuer             continue la dernière réponse, si elle s'est arrêtée trop tôt\n"
        "  /systeme TEXTE         donne une consigne, en tête\n"
        "  /regler CLÉ VALEUR     change un réglage : temperature 0.7, top_k 20, decoding greedy, longueur 80, seed 3\n"
        "  /aide, /quitter"
    )


def _no_chat_model(source: str) -> str:
    """La phrase qui avertit qu'un modèle n'a jamais appris à répondre."""
    return (
        f"{source} n'a jamais appris à répondre : il continue le texte. « python train.py experiment=instruct » le lui "
        "apprend."
    )


def _forgotten_turns(count: int) -> str:
    """La phrase qui compte les tours qui ne tiennent plus dans la fenêtre."""
    which = "le plus vieux tour est oublié" if count == 1 else f"les {count} plus vieux tours sont oubliés"
    return f"[{which} : la conversation dépasse la fenêtre du modèle]"
