"""Les messages d'une conversation : les lire, les mettre en forme, vérifier leur ordre.

L'entraînement, la commande chat, le serveur et sa page passent tous par ici, puis par le gabarit : les mêmes messages
donnent partout les mêmes identifiants, ou sont refusés partout.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from gpt_lightning.errors import UserError
from gpt_lightning.tokenizers.base import whole_characters

ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
SPEAKERS = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant"}  # ShareGPT
MARKS = ("weight", "train")  # ce qui dit d'apprendre un message, ou non
# ce qu'un message peut avoir de plus, et que le gabarit n'écrit pas
UNWRITTEN = frozenset({"name", "id", "type", "reasoning", "reasoning_content", *MARKS})
FLAGS = ("partial", "prefix")  # à false, ils ne demandent rien


class Message(NamedTuple):
    """Ce que dit un rôle : system (la consigne), user (la question) ou assistant (la réponse).

    `learned` est faux si la personne a marqué ce message (`"weight": 0`, `"train": false`) : il est lu, jamais appris.
    """

    role: str
    content: str
    learned: bool = True


class BadMessage(UserError):
    """Ce qui ne va pas dans une conversation ; `unread` sont les clés que l'on ne sait pas lire."""

    def __init__(self, sentence: str, unread: Sequence[str] = ()) -> None:
        super().__init__(sentence)
        self.unread = tuple(unread)


class Place(NamedTuple):
    """Un message dans une liste : le nom de la liste, son rang, et les clés de son rôle et de son texte."""

    name: str
    rank: int
    role_key: str
    text_key: str

    def fault(self, sentence: str, key: str = "", unread: Sequence[str] = ()) -> BadMessage:
        """La faute de ce message ; `key` est la clé en cause."""
        path = f"{self.name}[{self.rank}]" + (f".{key}" if key else "")
        return BadMessage(f"le message {self.rank + 1} ({path}) {sentence}", unread)


def read_messages(value: object) -> tuple[Message, ...]:
    """Les messages de `value`, une liste d'objets {"role", "content"}. BadMessage, qui dit le rang, sinon."""
    return arrange(parse_messages(value))


def parse_messages(
    value: object,
    name: str = "messages",
    role_key: str = "role",
    text_key: str = "content",
    ignore: Collection[str] = (),
) -> list[Message]:
    """Les messages de `value`, un par un, tels qu'ils sont écrits ; les clés de `ignore` ne sont pas lues."""
    if not isinstance(value, list) or not value:
        raise BadMessage(
            f"{name} : il faut une liste de messages non vide, et des messages qui ne sont pas vides"
        )
    messages = [
        _parse_message(message, Place(name, rank, role_key, text_key), ignore)
        for rank, message in enumerate(value)
    ]
    if not any(message.content for message in messages):
        raise BadMessage(f"aucun message n'a de texte ({name}[0].{text_key}) : {text_key} doit être un texte")
    return messages


def _parse_message(message: object, place: Place, ignore: Collection[str]) -> Message:
    needed = (place.role_key, place.text_key)
    if not isinstance(message, dict):
        raise place.fault(f"doit être un objet, avec les clés {' et '.join(needed)}")
    role = message.get(place.role_key, "user")
    spoken = SPEAKERS.get(role, role) if isinstance(role, str) and place.role_key == "from" else role
    if not isinstance(spoken, str) or spoken not in ROLES:
        raise place.fault(f"a le rôle {str(role)[:20]!r} : il faut user, assistant ou system", place.role_key)
    if unread := unread_keys(message, {*needed, *UNWRITTEN, *ignore}):
        is_written = message.get(place.text_key) is not None  # sans eux, il en resterait quelque chose
        raise place.fault(
            f"a {_these_keys(unread)}, que l'on ne sait pas lire", unread=unread if is_written else ()
        )
    for key in needed:
        if key not in message:
            raise place.fault(f"doit avoir les clés {' et '.join(needed)}", key)
    content = _read_text(message[place.text_key], place, ignore)
    marks = {key: value for key, value in message.items() if key in MARKS and key not in ignore}
    return Message(ROLES[spoken], content, _is_learned(marks, place))


def _read_text(value: object, place: Place, ignore: Collection[str]) -> str:
    """Le texte d'un message : une chaîne, ou une liste de morceaux de texte."""
    parts: list[object] = value if isinstance(value, list) else [{"type": "text", "text": value}]
    texts = []
    for part in parts:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            raise place.fault(
                f"n'a pas de texte : {place.text_key} doit être un texte, ou une liste de morceaux "
                '{"type": "text", "text": ...}',
                place.text_key,
            )
        if unread := unread_keys(part, {"type", "text", *ignore}):
            raise place.fault(
                f"a {_these_keys(unread)} dans un morceau, que l'on ne sait pas lire", place.text_key, unread
            )
        texts.append(part["text"])
    return clean("".join(texts))


def _is_learned(marks: Mapping[str, object], place: Place) -> bool:
    """Faux si `weight` ou `train` dit de ne pas apprendre ce message."""
    weight, train = marks.get("weight"), marks.get("train")
    if weight is not None and (isinstance(weight, bool) or weight not in (0, 1)):
        raise place.fault(f"a weight={repr(weight)[:20]} : il faut 0 ou 1", "weight")
    if train is not None and not isinstance(train, bool):
        raise place.fault(f"a train={repr(train)[:20]} : il faut true ou false", "train")
    told = {bool(mark) for mark in (weight, train) if mark is not None}
    if len(told) > 1:
        raise place.fault("a weight et train, qui se contredisent : gardez l'un des deux", "weight")
    return told != {False}


def arrange(messages: Sequence[Message], before: int = 0) -> tuple[Message, ...]:
    """Met une conversation en forme : sans message vide, ceux de suite d'un même rôle joints par une ligne vide.

    La consigne (system) est en tête, et chaque réponse suit une question ; BadMessage sinon, avec le rang, compté après
    les `before` premiers messages. Mettre en forme ce qui l'est déjà n'y change rien.
    """
    arranged: list[Message] = []
    asked = False
    for rank, (role, content, learned) in enumerate((Message(*message) for message in messages), 1 - before):
        content = _with_line_feeds(content)
        if not content.strip():
            continue  # il ne dit rien, et le gabarit lui écrirait un titre
        if role == "system" and arranged and arranged[-1].role != "system":
            raise BadMessage(f"le message {rank} est une consigne : le message system doit être le premier")
        if role == "assistant" and not asked:
            raise BadMessage(
                f"le message {rank} est une réponse (assistant) qui n'a pas de question (user) devant elle"
            )
        asked = asked or role == "user"
        if not arranged or arranged[-1].role != role:
            arranged.append(Message(role, content, learned))
            continue
        if arranged[-1].learned != learned:
            raise BadMessage(
                f"le message {rank} et celui d'avant, du même rôle ({role}), n'en font qu'un : donnez-leur le "
                "même weight"
            )
        arranged[-1] = Message(role, f"{arranged[-1].content.strip()}\n\n{content.strip()}", learned)
    if not asked:
        raise BadMessage("il n'y a aucune question (user) dans ces messages")
    return tuple(arranged)


def unfinished_answer(messages: Sequence[Message]) -> str:
    """Le début de la réponse que ces messages, mis en forme, demandent de continuer ; "" s'il n'y en a pas."""
    return messages[-1].content.strip() if messages and messages[-1].role == "assistant" else ""


def clean(text: str) -> str:
    """`text` sans blancs en bord, avec des fins de ligne d'Unix et des caractères entiers."""
    return whole_characters(_with_line_feeds(text)).strip()


def unread_keys(values: Mapping[str, object], readable: Collection[str]) -> list[str]:
    """Les clés de `values` qui disent quelque chose, et ne sont pas `readable`."""
    return [
        str(key)
        for key, value in values.items()
        if key not in readable and not is_empty(value) and not (key in FLAGS and value is False)
    ]


def is_empty(value: object) -> bool:
    """Vrai si cette valeur ne dit rien : null, un texte blanc, une liste ou un objet vides, ou d'où rien n'est dit."""
    if isinstance(value, dict):
        return all(map(is_empty, value.values()))
    return value is None or value == [] or (isinstance(value, str) and not value.strip())


def _with_line_feeds(text: str) -> str:
    return text.replace("\r\n", "\n")


def _these_keys(keys: Sequence[str]) -> str:
    listed = ", ".join(key[:40] or "''" for key in keys[:8])
    return f"la clé {listed}" if len(keys) == 1 else f"les clés {listed}"
