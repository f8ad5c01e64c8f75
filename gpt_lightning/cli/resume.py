"""`ckpt_path=` : reprendre une exécution avec ses propres surcharges, dans son dossier."""

from pathlib import Path
from typing import Any

from gpt_lightning.cli.arguments import is_sweep, plainly, quoted, value_of
from gpt_lightning.cli.composition import compose
from gpt_lightning.cli.effects import READ_A_PATH
from gpt_lightning.cli.folders import RECORD, SETTINGS, load_yaml, typed_overrides
from gpt_lightning.errors import UserError


def resume_overrides(overrides: list[str]) -> list[str]:
    """Pour `ckpt_path=`, les surcharges de l'exécution reprise, son dossier, puis celles de la ligne de commande.

    UserError si le checkpoint n'est pas dans un dossier d'exécution, ou si la commande demande un autre dossier.
    """
    source = value_of("ckpt_path", overrides)
    if source is None:
        return overrides
    if is_sweep(overrides):
        raise UserError(
            "ckpt_path= continue une seule exécution : dans un balayage, init_from= part de ses poids."
        )
    from gpt_lightning import weights

    checkpoint = weights.find_checkpoint(source, prefer="last")
    run = checkpoint.parent.parent
    saved = typed_overrides(run)
    if saved is None:
        raise UserError(
            f"{checkpoint} n'est pas dans un dossier d'exécution (sans .hydra/) : init_from= part de ses poids."
        )
    asked = value_of("output_dir", overrides)
    if asked is not None and run.resolve() != Path(asked).resolve():
        raise UserError(
            f"ckpt_path= continue l'exécution dans son dossier, {run} : retirez output_dir={asked}, "
            f"ou partez de ses poids avec init_from=."
        )
    weights.resumable_step(str(checkpoint))  # refuse ce qui ne se reprend pas
    here = ("ckpt_path", "output_dir")
    new_keys = {one.partition("=")[0] for one in overrides} | set(here)
    old = [one for one in saved if one.partition("=")[0] not in new_keys]
    settings = load_yaml(run / SETTINGS)
    if not {"optim", "optim.lr"} & new_keys and settings:  # « auto » a été résolu une fois
        old = [
            *(one for one in old if not one.startswith("optim.lr=")),
            f"optim.lr={settings['optim']['lr']}",
        ]
    kept = [one for one in overrides if one.partition("=")[0] not in here]
    return [*old, f"output_dir={quoted(plainly(run))}", f"ckpt_path={quoted(plainly(checkpoint))}", *kept]


def inherited_overrides(overrides: list[str], group: str) -> list[str]:
    """Le groupe `group` de l'exécution que `ckpt_path` désigne, en surcharges, puis celles de la ligne de commande.

    Rien si la commande choisit elle-même ce groupe, ou si les poids ne viennent pas d'une exécution.
    """
    from gpt_lightning.weights.sources import find_checkpoint

    typed = {one.partition("=")[0] for one in overrides}
    source = value_of("ckpt_path", overrides)
    if group in typed or (source or "").startswith("hf:"):
        return overrides
    try:
        run = find_checkpoint(source).parent.parent
    except UserError:  # la tâche le dira mieux
        return overrides
    settings, record = load_yaml(run / SETTINGS), load_yaml(run / RECORD / "hydra.yaml")
    if not settings or not record:
        return overrides
    if f"{group}.path" in typed and settings[group].get("source") not in READ_A_PATH:
        return overrides  # son corpus ne lit pas de fichier, et la commande en donne un
    choice = record["hydra"]["runtime"]["choices"][group]
    usual = compose(f"{group}/{choice}")[group]
    changed = [
        f"{group}.{key}={literal(value)}"
        for key, value in settings[group].items()
        if key in usual and usual[key] != value and f"{group}.{key}" not in typed and key != "seed"
    ]
    return [f"{group}={choice}", *changed, *overrides]


def literal(value: Any) -> str:
    """Une valeur simple dans la grammaire de Hydra."""
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, list):
        return "[" + ",".join(map(literal, value)) + "]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
