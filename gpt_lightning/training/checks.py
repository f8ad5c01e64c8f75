"""Ce qui se refuse : des valeurs simples, vérifiées avant de lire le corpus."""

from collections.abc import Iterable, Mapping
from typing import Any

from gpt_lightning.errors import UserError, choice, number, whole
from gpt_lightning.model import GPTConfig
from gpt_lightning.model.learned import TRAINED
from gpt_lightning.model.lora import LoRAConfig
from gpt_lightning.training.divergence import POLICIES
from gpt_lightning.training.optim import OptimConfig, resolve_lr
from gpt_lightning.weights.start import CHOSEN, StartingPoint

PRECISIONS = ("auto", "32-true", "bf16-mixed", "bf16-true", "16-mixed")
ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")


def check(settings: Mapping[str, Any], optimizer: type) -> None:
    """UserError si un réglage de train.py est impossible, seul ou avec un autre ; `optimizer` est celui de `optim`."""
    width = GPTConfig.for_vocabulary(settings["model"], 1).emb_dim
    OptimConfig.from_dict(resolve_lr(settings["optim"], optimizer, width), optimizer)
    whole("seed", settings["seed"], 0, 2**32 - 1)
    choice("compile", settings["compile"], ("auto", True, False))
    whole("eval_every", settings["eval_every"])
    for key in ("batch_size", "max_length"):
        whole(f"data.{key}", settings["data"][key])
    choice("nan_policy", settings["nan_policy"], POLICIES)
    whole("nan_skips", settings["nan_skips"])
    choice("strict_resume", settings["strict_resume"], (True, False))
    for key in ("max_tokens", "save_every", "global_batch_tokens", "global_batch_size"):
        if settings[key] is not None:
            whole(key, settings[key])
    check_trainer(settings["trainer"])
    adapters = adapters_of(settings)
    choice("train_on", settings["train_on"], (None, *TRAINED))
    if adapters is None and settings["train_on"] == "lora":
        raise UserError("train_on=lora demande des adaptateurs : ajoutez lora=default.")
    if adapters is not None and settings["train_on"] not in (None, "lora"):
        raise UserError(
            f"train_on={settings['train_on']} n'apprend pas les adaptateurs de lora=default : retirez l'un des deux."
        )


def adapters_of(settings: Mapping[str, Any]) -> LoRAConfig | None:
    """Les adaptateurs que `lora` demande, None pour lora=none. UserError sur une valeur impossible."""
    values = dict(settings["lora"] or {})
    if not values:
        return None
    choice("lora.save", values.pop("save"), ("full", "adapters"))
    return LoRAConfig.from_dict(values)


def what_learns(settings: Mapping[str, Any], start: StartingPoint) -> tuple[LoRAConfig | None, str]:
    """Les adaptateurs demandés, et ce qui apprend. UserError s'il n'y a rien d'appris à adapter."""
    lora = adapters_of(settings)
    what = settings["train_on"] or ("all" if lora is None else "lora")
    if what != "all" and start.state is None and settings["ckpt_path"] is None:
        asked = "lora=default" if lora else f"train_on={what}"
        raise UserError(
            f"{asked} part d'un modèle déjà entraîné : ajoutez init_from=best, ou un autre modèle."
        )
    return lora, what


def settled(settings: Mapping[str, Any], optimizer: type, architecture: Mapping[str, Any]) -> dict[str, Any]:
    """Les réglages une fois l'architecture connue : `model` la dit, `optim.lr` est un nombre.

    UserError si la fenêtre n'y tient pas.
    """
    check_window(settings["data"]["max_length"], architecture["context_length"])
    optim = resolve_lr(settings["optim"], optimizer, architecture["emb_dim"])
    return {**settings, "model": dict(architecture), "optim": optim}


def refuse_settled_by_weights(typed: Iterable[str], start: StartingPoint) -> None:
    """UserError sur une clé tapée (« clé=valeur ») que les poids de `init_from` règlent eux-mêmes."""
    if start.source is None:
        return
    for key in (one.partition("=")[0].lstrip("+") for one in typed):
        group, _, leaf = key.partition(".")
        if group == "model" and leaf not in CHOSEN:
            free = " et ".join(f"model.{name}" for name in CHOSEN)
            raise UserError(
                f"{key}= n'a pas d'effet avec init_from={start.source} : l'architecture est celle de ces poids, "
                f"seuls {free} se choisissent."
            )
        if group == "tokenizer" and start.tokenizer is not None:
            raise UserError(
                f"{key}= n'a pas d'effet avec init_from={start.source} : ces poids ont leur tokenizer."
            )


def check_trainer(values: Mapping[str, Any]) -> None:
    """UserError si une valeur de `trainer` est impossible."""
    choice("trainer.accelerator", values["accelerator"], ACCELERATORS)
    choice("trainer.precision", values["precision"], PRECISIONS)
    for key in ("log_every_n_steps", "num_nodes", "accumulate_grad_batches"):
        whole(f"trainer.{key}", values[key])
    whole("trainer.max_steps", values["max_steps"], -1)
    for key, least in (("max_epochs", -1), ("gradient_clip_val", 0)):
        if values[key] is not None:
            number(f"trainer.{key}", values[key], least)
    for key in ("max_epochs", "max_steps", "limit_train_batches", "limit_val_batches"):
        if values[key] == 0 and not isinstance(values[key], bool):
            raise UserError(f"trainer.{key}=0 : un entraînement fait au moins un pas et une évaluation.")
    _check_devices(values["devices"])


def _check_devices(devices: Any) -> None:
    wrong_number = isinstance(devices, bool) or (isinstance(devices, int) and (devices == 0 or devices < -1))
    text = devices.replace(",", "").replace(" ", "") if isinstance(devices, str) else "auto"
    if wrong_number or not (text in ("auto", "-1") or text.isdigit()):
        raise UserError(f"trainer.devices={devices} : il faut un nombre d'appareils, -1 ou auto.")


def check_window(max_length: Any, context_length: int) -> None:
    """UserError si la fenêtre (jetons) dépasse le contexte du modèle."""
    if whole("data.max_length", max_length) > context_length:
        raise UserError(
            f"data.max_length={max_length} dépasse model.context_length={context_length} : "
            f"essayez data.max_length={context_length}."
        )


def check_validation(n_windows: int, world_size: int) -> None:
    """UserError si chaque processus n'a pas une fenêtre de validation au moins."""
    if n_windows < world_size:
        raise UserError(
            f"Le texte de validation n'a que {n_windows} fenêtres pour {world_size} processus : "
            f"essayez data.max_length plus court, ou moins de processus."
        )
