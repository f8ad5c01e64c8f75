"""Ce que chaque gabarit de conversation écrit autour des messages, et le nom d'un gabarit."""

from dataclasses import dataclass, replace

from gpt_lightning.errors import UserError, choice
from gpt_lightning.tokenizers.chat import END, MARKS, START

TITLES = {"system": "### Consigne :", "user": "### Question :", "assistant": "### Réponse :"}
FINISHED = "\n\n### Fin"  # la fin d'une réponse, pour un tokenizer sans jeton de fin de texte


@dataclass(frozen=True)
class Dialect:
    """Ce qu'un gabarit écrit autour des messages, dont les jetons spéciaux `marks` ; `{role}` est le rôle d'un message.

    `thinks` : le modèle sait réfléchir entre <think> et </think>. Ses réponses d'avant la dernière question perdent
    leur réflexion, et celle qu'il va écrire en reçoit une, vide.
    """

    heading: str
    end: str
    separator: str  # entre deux messages
    marks: tuple[str, ...] = ()
    start: str = ""  # devant le premier
    thinks: bool = False


_CHATML = Dialect(f"{START}{{role}}\n", END, "\n", MARKS)
_LLAMA3 = Dialect(
    heading="<|start_header_id|>{role}<|end_header_id|>\n\n",
    end="<|eot_id|>",
    separator="",
    marks=("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    start="<|begin_of_text|>",
)
# les titres et la fin de `texte` dépendent du rôle et du tokenizer : voir template.py
DIALECTS = {
    "texte": Dialect("{title}\n", "", "\n\n"),
    "chatml": _CHATML,
    "llama3": _LLAMA3,
    "qwen3": replace(_CHATML, thinks=True),
}
TEMPLATES = tuple(DIALECTS)
THOUGHT = ("<think>", "</think>")
NO_THOUGHT = "<think>\n\n</think>\n\n"


def read_name(value: object, key: str = "data.template") -> tuple[str, str | None]:
    """Le gabarit que `value` nomme, et sa consigne par défaut, s'il en a une : « nom » ou « nom:consigne ».

    UserError, qui nomme le réglage `key`, sinon.
    """
    name, separator, system = value.partition(":") if isinstance(value, str) else (value, "", "")
    kind = choice(key, name, TEMPLATES)
    if separator and not system.strip():
        raise UserError(f"{key} : après « {name}: », il faut une consigne ; sinon, {key}={name}.")
    return kind, system if separator else None
