"""Un modèle dans une seule page : elle s'ouvre d'un double clic, sans serveur, sans réseau et sans rien installer."""

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from gpt_lightning import durable
from gpt_lightning.errors import UserError, choice
from gpt_lightning.model import cost
from gpt_lightning.model.config import GPTConfig
from gpt_lightning.serving.bundle import bundle
from gpt_lightning.serving.packing import KINDS, pack
from gpt_lightning.serving.playground import PAGE, is_spaced
from gpt_lightning.tokenizers import Tokenizer, gpt2_merges
from gpt_lightning.typing import JsonObject
from gpt_lightning.weights import format as form
from gpt_lightning.weights.format import Description
from gpt_lightning.wording import magnitude

TOKENIZERS = ("trained", "gpt2", "characters", "bytes", "words_v1", "words_v2")
MOST = (
    30_000_000  # paramètres : au-delà, un jeton y prend un dixième de seconde, et les poids 120 Mo de mémoire
)
LICENCE = "https://creativecommons.org/licenses/by-sa/4.0/deed.fr"
POLICY = (
    "default-src 'none'; script-src '{script}'; style-src '{style}'; img-src data:; base-uri 'none'; "
    "form-action 'none'"
)
# ce que forward.js doit savoir de la forme
SHAPE = [
    *(
        "vocab_size",
        "context_length",
        "emb_dim",
        "n_heads",
        "kv_heads",
        "head_width",
        "hidden_width",
        "n_layers",
    ),
    *("norm", "activation", "positions", "rope_base", "norm_eps"),
]


def write(
    to: Path,
    state: Mapping[str, Tensor],
    description: Description,
    *,
    quant: str | None = None,
    film: Sequence[tuple[int, Mapping[str, Tensor]]] = (),
) -> int:
    """Écrit dans `to` la page de ce modèle, et de ce qu'il était à chaque pas de `film` ; renvoie sa taille en octets.

    UserError si ce modèle ne va pas dans une page, si `to` existe, ou si le disque refuse.
    """
    kind = choice("quant", quant or KINDS[0], KINDS)
    refuse(description)
    if to.suffix != ".html":
        raise UserError(f"format=page écrit un fichier : to={to}.html.")
    if to.exists():
        raise UserError(f"{to} existe déjà : choisissez un autre nom avec to=.")
    packed, tensors = pack(_own(state, description.config), kind)
    blocks = {"weights": packed}
    for step, weights in film:
        blocks[f"weights-{step}"] = pack(_own(weights, description.config), kind)[0]
    header = describe(description, [step for step, _ in film]) | {"tensors": tensors}
    text = page(header, blocks, description.corpus)
    with durable.refusals(to):
        to.parent.mkdir(parents=True, exist_ok=True)
    durable.write_text(to, text)
    return len(text.encode())


def refuse(description: Description) -> None:
    """UserError, qui le nomme, si la page ne sait pas faire vivre ce modèle."""
    config, tokenizer = description.config, description.tokenizer
    kind = tokenizer.state()["kind"] if tokenizer is not None else None
    if kind not in TOKENIZERS:
        sentence = f"Le tokenizer {kind}" if kind else "Ce modèle n'a pas de tokenizer, qui"
        raise UserError(f"{sentence} ne va pas dans une page : format=page a {', '.join(TOKENIZERS)}.")
    if description.labels:
        raise UserError("Ce modèle classe un texte, et format=page montre un modèle qui écrit.")
    if (count := cost.n_parameters(config)) > MOST:
        raise UserError(
            f"Ce modèle a {magnitude(count)} de paramètres, et une page en fait vivre {magnitude(MOST)} au plus : "
            f"au-delà, un téléphone n'a ni la mémoire ni le temps ; play le montre depuis cette machine."
        )


def describe(description: Description, film: Sequence[int]) -> JsonObject:
    """L'en-tête de la page : la forme, le tokenizer, et la présentation du modèle que serve donnerait."""
    tokenizer = description.tokenizer
    assert tokenizer is not None  # `refuse` l'a vu
    config = form.name_every_id(description.config, tokenizer)
    described = {
        "name": "gpt_lightning",
        "context": config.context_length,
        "chat": False,
        "end": tokenizer.eos_id,
        "spaced": is_spaced(tokenizer),
        "docs": False,
        "layers": config.n_layers,
        "heads": config.n_heads,
        "vocabulary": config.vocab_size,
        "parameters": cost.n_parameters(config),
        "prompt": description.prompts[0] if description.prompts else "",
        "command": "python generate.py",
        "film": list(film),
    }
    return {
        "config": {name: getattr(config, name) for name in SHAPE},
        "tokenizer": _tokenizer_state(tokenizer),
        "described": described,
    }


def _tokenizer_state(tokenizer: Tokenizer) -> JsonObject:
    state = dict(tokenizer.state())
    return state | ({"merges": gpt2_merges()} if state["kind"] == "gpt2" else {})


def _own(state: Mapping[str, Tensor], config: GPTConfig) -> dict[str, Tensor]:
    """Les poids que la page lit, une seule fois chacun."""
    tied = config.tie_weights
    return {name: tensor for name, tensor in state.items() if not (tied and name == "out_head.weight")}


def page(header: JsonObject, blocks: Mapping[str, bytes], corpus: str) -> str:
    """La page entière : index.html, son style et son script dedans, l'en-tête, les poids, et d'où vient le corpus."""
    script = bundle(PAGE / "local" / "start.js", PAGE / "app.js")
    style = (PAGE / "style.css").read_text(encoding="utf-8")
    policy = POLICY.format(script=_hash(script), style=_hash(style))
    head = f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n<style>{style}</style>\n'
    held = json.dumps(header, ensure_ascii=False).replace("<", "\\u003c")
    data = f'<script type="application/json" id="held">{held}</script>\n'
    for name, content in blocks.items():
        data += f'<script type="text/plain" id="{name}">{base64.b64encode(content).decode()}</script>\n'
    text = (PAGE / "index.html").read_text(encoding="utf-8")
    text = re.sub(r"^<!--.*-->\n|^<link .*>\n|^<script\b.*</script>\n", "", text, flags=re.MULTILINE)
    text = re.sub(r'(<p id="status"[^>]*>).*?(</p>)', rf"\1{CLOSED}\2", text, count=1, flags=re.DOTALL)
    text = text.replace("<title>", f"{head}<title>", 1)
    return text.replace("</body>", f"{_credit(corpus)}{data}<script>{script}</script>\n</body>", 1)


CLOSED = (
    "La page s'ouvre. Si cette phrase reste, JavaScript est désactivé. "
    '<span lang="en">The page is opening. If this sentence stays, JavaScript is off.</span>'
)


def _credit(corpus: str) -> str:
    """Le pied de la page : ce que le modèle a lu, sa licence, et celle du code."""
    said = html.escape(corpus) if corpus else '<span data-t="unknown_corpus"></span>'
    if "CC BY-SA 4.0" in corpus:
        said = said.replace("CC BY-SA 4.0", f'<a href="{LICENCE}" rel="noreferrer">CC BY-SA 4.0</a>')
    return f'<footer><span data-t="learned_from"></span> <bdi>{said}</bdi>. <span data-t="made_by"></span></footer>\n'


def _hash(text: str) -> str:
    """L'empreinte d'un script ou d'un style, telle que la règle de la page la nomme."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
