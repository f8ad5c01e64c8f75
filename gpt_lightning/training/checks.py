"""Refuser une valeur impossible avant de lire le corpus."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from gpt_lightning.errors import Unfit, UserError, choice, number, whole
from gpt_lightning.typing import Settings
from gpt_lightning.wording import stride_too_long, unknown_template

if TYPE_CHECKING:
    from gpt_lightning.model.lora import LoRAConfig
    from gpt_lightning.weights import StartingPoint
    from gpt_lightning.weights.inference import Inference

PRECISIONS = ("auto", "32-true", "bf16-mixed", "bf16-true", "16-mixed")
ACCELERATORS = ("auto", "cpu", "gpu", "cuda", "mps")


def optional(name: str, value: object) -> None:
    """UserError si `value`, quand elle est donnée, n'est pas un entier d'au moins 1."""
    if value is not None:
        whole(name, value)


def port(name: str, value: object) -> None:
    """UserError si `value`, quand elle est donnée, n'est pas un port que l'on peut ouvrir."""
    if value is not None:
        whole(name, value, 1, 65535)


def boolean(name: str, value: object) -> None:
    """UserError si `value` n'est ni true ni false."""
    choice(name, value, (True, False))


def compile(name: str, value: object) -> None:
    """UserError si ce n'est ni auto, ni true, ni false."""
    choice(name, value, ("auto", True, False))


def threads(name: str, value: object) -> None:
    """UserError si ce n'est ni auto, ni un nombre de threads que le système peut créer."""
    if value != "auto":
        whole(name, value, most=1024)


def nan_policy(name: str, value: object) -> None:
    """UserError si ce n'est pas ce que l'on sait faire d'un pas qui diverge."""
    from gpt_lightning.training.divergence import POLICIES

    choice(name, value, POLICIES)


def train_on(name: str, value: object) -> None:
    """UserError si ce n'est pas une part d'un modèle."""
    from gpt_lightning.model.trainable import TRAINED

    choice(name, value, (None, *TRAINED))


def data(name: str, values: Mapping[str, object]) -> None:
    """UserError si la taille d'un lot est impossible ; le module de données juge le reste en se construisant."""
    for leaf in ("batch_size", "max_length"):
        whole(f"{name}.{leaf}", values[leaf])


def in_template(data: Settings, start: "StartingPoint | Inference") -> Settings:
    """Les réglages de `data` ; un gabarit que rien ne demande y est celui du modèle de départ, s'il en a un.

    UserError si l'on ne reconnaît pas le sien.
    """
    if data.get("template", "") is not None:
        return data
    if start.unknown_template:
        raise UserError(unknown_template(str(start.source), "data.template"))
    return {**data, "template": start.template or "texte"}


def stride(values: Mapping[str, object]) -> None:
    """Unfit si deux fenêtres laisseraient des jetons entre elles."""
    length, step = values["max_length"], values.get("stride")
    if step is not None and whole("data.stride", step) > whole("data.max_length", length):
        raise Unfit(
            stride_too_long(step, length),
            f"data.max_length={length} est la fenêtre",
            {"data.stride": length},
        )


def agree(adapters: "LoRAConfig | None", train_on: str | None) -> None:
    """UserError si ce qui apprend et les adaptateurs se contredisent."""
    if adapters is None and train_on == "lora":
        raise UserError("train_on=lora demande des adaptateurs : ajoutez lora=default.")
    if adapters is not None and train_on not in (None, "lora"):
        raise UserError(
            f"train_on={train_on} n'apprend pas les adaptateurs de lora=default : retirez l'un des deux."
        )


def refuse_settled_by_weights(typed: Iterable[str], start: "StartingPoint") -> None:
    """UserError sur une clé tapée (« clé=valeur ») que les poids de `init_from` règlent eux-mêmes, ou si des
    adaptateurs seuls perdraient leur base, elle-même en deux endroits."""
    from gpt_lightning.weights.starting_point import CHOSEN

    if start.source is None:
        return
    given = {key.lstrip("+"): value for key, _, value in (override.partition("=") for override in typed)}
    if given.get("lora.save") == "adapters" and (base := given.get("base_path", "null")) != "null":
        raise UserError(
            f"lora.save=adapters ne retrouverait pas sa base, qui est {start.source} sur {base} : écrivez-la par « "
            f"python -m gpt_lightning export ckpt_path={start.source} base_path={base} to=ma_base », puis partez-en "
            f"par init_from=ma_base."
        )
    for key in given:
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


def trainer(name: str, values: Mapping[str, object]) -> None:
    """UserError si une valeur du groupe `trainer` est impossible."""
    choice(f"{name}.accelerator", values["accelerator"], ACCELERATORS)
    choice(f"{name}.precision", values["precision"], PRECISIONS)
    for key in ("log_every_n_steps", "num_nodes", "accumulate_grad_batches"):
        whole(f"{name}.{key}", values[key])
    whole(f"{name}.max_steps", values["max_steps"], -1)
    for key, least in (("max_epochs", -1), ("gradient_clip_val", 0)):
        if values[key] is not None:
            number(f"{name}.{key}", values[key], least)
    for key in ("max_epochs", "max_steps", "limit_train_batches", "limit_val_batches"):
        if values[key] == 0 and not isinstance(values[key], bool):
            raise UserError(f"{name}.{key}=0 : un entraînement fait au moins un pas et une évaluation.")
    _check_devices(values["devices"])


def _check_devices(devices: object) -> None:
    wrong_number = isinstance(devices, bool) or (isinstance(devices, int) and (devices == 0 or devices < -1))
    text = devices.replace(",", "").replace(" ", "") if isinstance(devices, str) else "auto"
    if wrong_number or not (text in ("auto", "-1") or text.isdigit()):
        raise UserError(f"trainer.devices={devices} : il faut un nombre d'appareils, -1 ou auto.")


def check_window(max_length: object, context_length: int, *, is_new: bool = False) -> None:
    """UserError si la fenêtre (jetons) dépasse le contexte du modèle ; celui d'un modèle neuf (`is_new`) se choisit."""
    if whole("data.max_length", max_length) > context_length:
        raise Unfit(
            f"data.max_length={max_length} dépasse model.context_length={context_length} : "
            f"essayez data.max_length={context_length}{f', ou model.context_length={max_length}' * is_new}.",
            f"le contexte du modèle est de {context_length} jetons",
            {"data.max_length": context_length},
            otherwise=f"model.context_length={max_length}" if is_new else "",
        )


def check_validation(n_windows: int, world_size: int, tokens: int | None = None) -> None:
    """UserError si chaque processus n'a pas une fenêtre de validation au moins.

    `tokens` est le nombre de jetons de ce texte, s'il se coupe en fenêtres.
    """
    if n_windows < world_size:
        length = 0 if tokens is None else (tokens - 1) // world_size
        raise Unfit(
            f"Le texte de validation n'a que {n_windows} fenêtres pour {world_size} processus : "
            f"essayez data.max_length plus court, ou moins de processus.",
            "chaque processus a besoin d'une fenêtre de validation",
            {"data.max_length": length} if length else {},
        )
