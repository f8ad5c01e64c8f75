"""`ckpt_path=` : reprendre une exécution avec ses propres surcharges, dans son dossier."""

from pathlib import Path

from gpt_lightning.cli.arguments import is_sweep, quoted, value_of
from gpt_lightning.cli.folders import SETTINGS, load_yaml, typed_overrides
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
    return [*old, f"output_dir={quoted(str(run))}", f"ckpt_path={quoted(str(checkpoint))}", *kept]
