"""Écrire un texte à chaque évaluation : voir le modèle apprendre à parler."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning import Callback

from gpt_lightning import durable
from gpt_lightning.decoding import Strategy, TextStream
from gpt_lightning.decoding.classify import classify
from gpt_lightning.durable import surviving
from gpt_lightning.errors import UserError, whole
from gpt_lightning.training.evaluating import evaluating
from gpt_lightning.wording import percent

if TYPE_CHECKING:
    from lightning import Trainer

    from gpt_lightning.training.module import GPTModule

log = logging.getLogger("gpt_lightning")


class SampleText(Callback):
    """Continue chaque texte de `pl_module.prompts` de `max_new_tokens` jetons, toujours avec la même graine.

    Un modèle qui répond reçoit chaque texte comme une question, dans son gabarit ; un modèle qui classe donne à chacun
    son étiquette. Les textes vont dans `folder`, dans TensorBoard et à l'écran. Si le tokenizer ne sait pas lire l'un
    d'eux, le journal le dit, et le modèle commence un document.
    """

    def __init__(self, *, max_new_tokens: int, strategy: Strategy, folder: str, seed: int = 123) -> None:
        self.max_new_tokens = whole("callbacks.sample.max_new_tokens", max_new_tokens, 0)
        self.seed = whole("callbacks.sample.seed", seed, 0)
        self.strategy, self.folder = strategy, Path(folder)
        self._prompts: list[str] = []

    def on_train_start(self, trainer: "Trainer", pl_module: "GPTModule") -> None:
        self._prompts = [
            self._keep_readable(pl_module.tokenizer, prompt) for prompt in pl_module.prompts or ("",)
        ]

    def _keep_readable(self, tokenizer: Any, prompt: str) -> str:
        try:
            tokenizer.encode(prompt)
        except UserError:  # un mot ou un caractère que ce tokenizer n'a pas
            log.info(
                f"Exemple    : le tokenizer ne sait pas lire « {prompt} », les textes d'exemple commencent sans lui "
                f"(prompt=... en donne un autre)"
            )
            return ""
        return prompt

    def on_validation_end(self, trainer: "Trainer", pl_module: "GPTModule") -> None:
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        # le texte est de la précision annoncée
        with evaluating(pl_module.model), trainer.precision_plugin.forward_context():
            texts = self._label(pl_module) if pl_module.labels else self._continue(pl_module)
        self._write(texts, trainer)

    def _label(self, pl_module: "GPTModule") -> list[str]:
        shares = classify(pl_module.model, pl_module.tokenizer, self._prompts)
        texts = []
        for prompt, row in zip(self._prompts, shares, strict=True):
            best = int(row.argmax())
            texts.append(_describe_label(prompt, pl_module.labels[best], float(row[best])))
        return texts

    def _continue(self, pl_module: "GPTModule") -> list[str]:
        template, options = pl_module.template, {}
        if template is not None:
            options = {"ids": [template.asking(prompt) for prompt in self._prompts], "stop": template.stop}
        stream = TextStream(
            pl_module.model,
            pl_module.tokenizer,
            self._prompts,
            **options,
            strategy=self.strategy,
            max_new_tokens=self.max_new_tokens,
            seed=self.seed,
        )
        for _ in stream:
            pass
        between = "" if template is None else "\n» "
        return [row.prompt + between + row.text for row in stream.rows]

    def _write(self, texts: list[str], trainer: "Trainer") -> None:
        step = trainer.global_step
        content = "\n---\n".join(texts) + "\n"
        path = self.folder / f"step_{step:07d}.txt"
        with surviving(path):
            self.folder.mkdir(exist_ok=True)
            durable.write_text(path, content)
        for text in texts:
            log.info("    « " + " ".join(text.split()) + " »")
        for logger in trainer.loggers:
            if hasattr(logger, "log_text"):
                logger.log_text("sample", content, step)


def _describe_label(text: str, label: str, share: float) -> str:
    """Un texte, et l'étiquette que le modèle lui donne."""
    short = " ".join(text.split())
    return f"{short if len(short) <= 100 else short[:99] + '…'}\n» {label} ({percent(share)})"
