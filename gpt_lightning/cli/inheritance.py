"""Ce qu'une commande hérite d'une exécution : tâche par tâche, une fois ses options lues.

Hydra compose une configuration pour chaque tâche d'un balayage, pour la seule d'une commande simple, et pour ce qu'il
montre (--cfg) : l'héritage est le même partout, et se décide avant la première tâche.
"""

from collections.abc import Sequence

from hydra.types import RunMode

from gpt_lightning.cli import console, effects
from gpt_lightning.cli.arguments import swept_values, value_of
from gpt_lightning.cli.resume import inherited_overrides, resume_overrides
from gpt_lightning.cli.short_text import with_short_text


class Inheritance:
    """Les surcharges d'une tâche, avec celles qui viennent de l'exécution que `ckpt_path` désigne.

    `resumes` : elle la continue. Sinon le groupe `group`, s'il y en a un, est le sien.
    """

    def __init__(self, config_name: str, *, resumes: bool = False, group: str | None = None) -> None:
        self._config_name, self._resumes, self._group = config_name, resumes, group
        self._jobs: dict[tuple[str, ...], list[str]] = {}  # une tâche se compose plusieurs fois
        self._inside = self._told = False

    def complete(self, overrides: Sequence[str], run_mode: RunMode) -> tuple[list[str], int]:
        """Ces surcharges, avec leur héritage, et combien de surcharges il met devant.

        La configuration d'un balayage n'est celle d'aucune tâche : elle a l'héritage de la première.
        """
        if self._inside:  # chercher l'héritage compose aussi des configurations
            return list(overrides), 0
        if run_mode == RunMode.RUN:
            complete = self._of_job(overrides)
            return complete, len(complete) - len(overrides)
        first = [value for override in overrides for value in swept_values(override)[:1]]
        complete = self._of_job(first)
        added = len(complete) - len(first)
        return [*complete[:added], *overrides], added

    def _of_job(self, overrides: Sequence[str]) -> list[str]:
        job = tuple(text for text in overrides if not text.startswith("hydra.mode="))  # ajouté en route
        if job not in self._jobs:
            self._inside = True
            try:
                self._jobs[job] = self._find(list(job))
            finally:
                self._inside = False
        return [*self._jobs[job], *(text for text in overrides if text not in job)]

    def _find(self, overrides: list[str]) -> list[str]:
        name = self._config_name
        if self._resumes:
            overrides = resume_overrides(overrides, name)
        if self._group is not None:
            overrides = inherited_overrides(overrides, self._group)
        if self._resumes and value_of("ckpt_path", overrides):  # une reprise garde son corpus
            return overrides
        complete = effects.with_own_text(overrides, name)
        if complete != overrides and not self._told:
            self._told = True
            console.log.info("Corpus     : data.path= sans data= : c'est data=text")
        return with_short_text(complete, name)
