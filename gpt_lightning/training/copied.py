"""La part copiée : des textes que le modèle écrit, et ce qui en est mot pour mot dans son corpus."""

from collections.abc import Callable
from typing import Any

from gpt_lightning.decoding import Strategy, TextStream
from gpt_lightning.errors import UserError
from gpt_lightning.training.data import DataModule, Traced

TEXTS, LENGTH, SEED = 9, 64, 123  # textes écrits, jetons de chacun, et leur graine
MOST = 5_000_000  # jetons : au-delà, l'index ne se construit que si on le demande
TOO_LARGE = "le corpus est grand, et python -m gpt_lightning prepare index=true construit son index"


def open_index(data: DataModule, progress: Callable[[int, int], None] = lambda done, total: None) -> Traced:
    """L'index du corpus, construit s'il est petit. UserError s'il manque, ou ne s'écrit pas."""
    traced = data.open_index(progress, build=data.statistics.train_tokens <= MOST)
    if traced is None:
        raise UserError(TOO_LARGE)
    return traced


def sample_texts(model: Any, data: DataModule) -> list[str]:
    """Des textes que le modèle écrit après des débuts de validation : tirés selon ses probabilités, graine fixe."""
    tokenizer, template = data.tokenizer, data.template
    openings = [opening for opening in data.openings() if _is_readable(tokenizer, opening)] or [""]
    options: dict[str, Any] = {}
    if template is not None:
        options = {"ids": [template.asking(opening) for opening in openings], "stop": template.stop}
    stream = TextStream(
        model,
        tokenizer,
        openings,
        strategy=Strategy(temperature=1.0),
        max_new_tokens=LENGTH,
        seed=SEED,
        num_samples=max(1, TEXTS // len(openings)),
        **options,
    )
    for _ in stream:
        pass
    return [row.text for row in stream.rows]


def _is_readable(tokenizer: Any, text: str) -> bool:
    try:
        tokenizer.encode(text)
    except UserError:  # un mot ou un caractère que ce tokenizer n'a pas
        return False
    return True
