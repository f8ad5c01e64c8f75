"""Du jeton au texte affiché : jamais une moitié de caractère, jamais un début de texte d'arrêt."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from gpt_lightning.decoding.generation import stream
from gpt_lightning.decoding.strategy import Strategy


@dataclass
class GrowingText:
    """Le texte d'une suite de jetons, rendu au fur et à mesure qu'il est sûr.

    Un caractère peut tenir sur deux jetons, un texte de `stop` aussi : ce qui pourrait encore changer est
    retenu. Le texte d'arrêt lui-même n'est pas rendu.
    """

    decode: Callable[[list[int]], str]
    stop: Sequence[str] = ()
    ids: list[int] = field(default_factory=list)
    stopped: bool = False
    _shown: int = 0

    def push(self, token: int) -> str:
        """Ajoute un jeton ; rend le texte nouveau, peut-être vide."""
        self.ids.append(token)
        return self._grow(final=False)

    def finish(self) -> str:
        """Le reste, quand plus rien ne viendra."""
        return self._grow(final=True)

    def _grow(self, final: bool) -> str:
        if self.stopped:
            return ""
        text = self.decode(self.ids)
        found = [text.index(stop) for stop in self.stop if stop in text]
        if found:
            self.stopped = True
            text = text[: min(found)]
        elif not final:
            text = text.rstrip("\ufffd")
            text = text[: len(text) - max((_overlap(text, stop) for stop in self.stop), default=0)]
        new, self._shown = text[self._shown :], max(self._shown, len(text))
        return new


def _overlap(text: str, stop: str) -> int:
    """Longueur du plus long début de `stop` qui termine `text`."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)


def prompt_ids(tokenizer, prompt: str) -> list[int]:
    """Les jetons d'un texte de départ ; vide, il commence par la fin de texte (ou le premier jeton)."""
    return tokenizer.encode(prompt) or [tokenizer.eos_id if tokenizer.eos_id is not None else 0]


def stream_text(
    model,
    tokenizer,
    prompt: str,
    *,
    strategy: Strategy,
    max_new_tokens: int,
    seed: int | None = None,
    stop: Sequence[str] = (),
    summary: dict | None = None,
) -> Iterator[str]:
    """La suite de `prompt`, par bouts affichables, jusqu'à la fin de texte, un texte de `stop`, ou la longueur.

    À la fin, `summary` reçoit `tokens` (jetons produits) et `reason` (eos, stop ou length).
    """
    ids = prompt_ids(tokenizer, prompt)
    before = len(tokenizer.decode(ids)) if prompt else 0
    grown = GrowingText(
        lambda new: tokenizer.decode(ids + new)[before:] if prompt else tokenizer.decode(new), stop
    )
    reason, count = "length", 0
    for tokens in stream(
        model, [ids], strategy=strategy, max_new_tokens=max_new_tokens, eos_id=tokenizer.eos_id, seed=seed
    ):
        count += 1
        if tokens[0].reason == "eos":
            reason = "eos"
            break
        if text := grown.push(tokens[0].id):
            yield text
        if grown.stopped:
            reason = "stop"
            break
    if text := grown.finish():
        yield text
    if summary is not None:
        summary.update(tokens=count, reason=reason)
