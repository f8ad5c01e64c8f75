"""Le gabarit d'un dossier de Hugging Face : reconnu d'après son texte, jamais exécuté."""

from pathlib import Path

from gpt_lightning.errors import UserError
from gpt_lightning.model.tasks import ANSWERS
from gpt_lightning.tokenizers.dialects import DIALECTS
from gpt_lightning.tokenizers.recognition import LONGEST, recognise
from gpt_lightning.tokenizers.template import template_for
from gpt_lightning.typing import JsonObject
from gpt_lightning.weights.format import Description
from gpt_lightning.weights.huggingface_tokenizer import OPTIONS
from gpt_lightning.weights.untrusted import read_json, read_text

TEMPLATE = "chat_template.jinja"


def describe(description: Description, folder: Path) -> Description:
    """Ajoute à la description d'un modèle qui écrit le gabarit de son dossier : il sait alors répondre.

    Un gabarit que l'on ne reconnaît pas, ou dont le tokenizer n'a pas les jetons, y est dit, et le modèle continue un
    texte. UserError si le fichier ne se lit pas.
    """
    if description.tokenizer is None or description.labels:
        return description
    options = read_json(folder / OPTIONS) if (folder / OPTIONS).exists() else {}
    if (folder / TEMPLATE).exists():
        options["chat_template"] = read_text(folder / TEMPLATE)
    return with_template(description, options)


def with_template(description: Description, options: JsonObject) -> Description:
    """Comme `describe`, d'après le `chat_template` de ces options."""
    text = _text(options.get("chat_template"))
    if description.tokenizer is None or text is None:
        return description
    other = description._replace(unknown_template=True)
    name = recognise(text) if len(text) <= LONGEST and _has_our_start(text, options) else None
    if name is None:
        return other
    try:
        template = template_for(name, description.tokenizer)
    except UserError:
        return other
    if template.tokenizer.vocab_size > description.tokenizer.vocab_size:  # ses jetons n'y sont pas
        return other
    return description._replace(task=ANSWERS.name, template=name, tokenizer=template.tokenizer)


def _text(value: object) -> str | None:
    """Le gabarit de tokenizer_config.json : un texte, ou celui qui s'appelle « default » dans une liste."""
    if isinstance(value, list):
        named = {part.get("name"): part.get("template") for part in value if isinstance(part, dict)}
        value = named.get("default", "")
    return value if isinstance(value, str) else None


def _has_our_start(text: str, options: JsonObject) -> bool:
    """Faux si le gabarit commence par le `bos_token` du dossier, et que ce n'est pas celui que l'on écrit."""
    token = options.get("bos_token")
    content = token.get("content") if isinstance(token, dict) else token
    return "bos_token" not in text or content in {
        dialect.start for dialect in DIALECTS.values() if dialect.start
    }
