"""Écrire un texte à chaque évaluation : voir le modèle apprendre à parler."""

import logging
from pathlib import Path
from typing import Any

from lightning import Callback

from gpt_lightning import messages
from gpt_lightning.decoding import Strategy, TextStream

log = logging.getLogger("gpt_lightning")


class SampleText(Callback):
    """Continue `prompt` de `max_new_tokens` jetons ; l'écrit dans `folder`, dans TensorBoard et à l'écran."""

    def __init__(
        self, *, prompt: str, max_new_tokens: int, strategy: Strategy, folder: str, seed: int = 123
    ) -> None:
        self.prompt, self.max_new_tokens, self.strategy, self.seed = prompt, max_new_tokens, strategy, seed
        self.folder = Path(folder)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        try:
            pl_module.tokenizer.encode(self.prompt)
        except ValueError:  # un mot ou un caractère que ce tokenizer n'a pas
            log.info(messages.unknown_prompt(self.prompt))
            self.prompt = ""

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        was_training = pl_module.model.training
        pl_module.model.eval()
        parts = TextStream(
            pl_module.model,
            pl_module.tokenizer,
            [self.prompt],
            strategy=self.strategy,
            max_new_tokens=self.max_new_tokens,
            seed=self.seed,
        )
        continuation = "".join(text for _, text in parts)
        pl_module.model.train(was_training)
        text, step = self.prompt + continuation, trainer.global_step
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / f"step_{step:07d}.txt").write_text(text + "\n", encoding="utf-8")
        log.info(messages.sample(text))
        for logger in trainer.loggers:
            experiment: Any = getattr(logger, "experiment", None)
            if hasattr(experiment, "add_text"):
                quoted = "\n".join("    " + line for line in text.splitlines())  # Markdown : tel quel
                experiment.add_text("sample", quoted, step)
