"""Weights & Biases : les mesures, les textes et les réglages, envoyés, ou gardés dans le dossier de l'exécution."""

from typing import Any

from gpt_lightning.errors import UserError, choice
from gpt_lightning.training.loggers.tracker import Tracker
from gpt_lightning.typing import Settings


class WandB(Tracker):
    """Une exécution de wandb, du numéro de son dossier. `mode` : online, ou offline (`folder`/wandb/offline-run-...).

    Rien de la machine ne part : ni commande tapée, ni variable, ni code, ni sortie du terminal.
    """

    library = "wandb"

    def __init__(
        self, *, folder: str, name: str, project: str, mode: str = "online", entity: str | None = None
    ) -> None:
        super().__init__(folder=folder, name=name, project=project)
        self.mode, self.entity = choice("logger.wandb.mode", mode, ("online", "offline")), entity
        self._run: Any = None

    @property
    def failures(self) -> tuple[type[Exception], ...]:
        return (OSError, self.module.Error)

    def _begin(self, identity: str, values: Settings, resumes: bool) -> None:
        if self.mode == "online" and not self.module.api.api_key:  # wandb la demanderait au clavier
            raise UserError(
                "logger=wandb envoie les mesures, et il lui manque une clé : « wandb login » la note ; "
                "logger.wandb.mode=offline garde tout sur cette machine."
            )
        quiet = self.module.Settings(
            silent=True,
            console="off",
            save_code=False,
            disable_git=True,
            disable_code=True,
            disable_job_creation=True,
            x_disable_meta=True,
            x_disable_machine_info=True,
        )
        self._run = self.module.init(
            project=self.project,
            entity=self.entity,
            name=self.version,
            id=identity,
            dir=str(self.folder),
            config=values,
            mode=self.mode,
            resume="allow" if self.mode == "online" else None,
            allow_val_change=True,
            settings=quiet,
        )
        self._run.define_metric("step", hidden=True)
        self._run.define_metric("*", step_metric="step")

    def _log(self, metrics: dict[str, float], step: int) -> None:
        self._run.log({**metrics, "step": step})

    def _text(self, tag: str, text: str, step: int) -> None:
        table = self.module.Table(columns=["pas", "texte"], data=[[step, text]])
        self._run.log({tag: table, "step": step})

    def _finish(self, done: bool) -> None:
        self._run.finish(exit_code=0 if done else 1)
