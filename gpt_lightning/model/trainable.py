"""Ce qui apprend : tout le modèle, ses adaptateurs, son dernier bloc, ou sa seule tête de classification."""

from collections.abc import Callable

from gpt_lightning.errors import UserError, choice
from gpt_lightning.model import cost
from gpt_lightning.model.classifier import GPTClassifier
from gpt_lightning.model.gpt import GPTModel
from gpt_lightning.model.lora import is_adapter

TRAINED = ("all", "lora", "last_block", "head")


def learn_only(model: GPTModel, what: str) -> GPTModel:
    """`model`, dont seuls les paramètres de `what` (un de TRAINED) garderont un gradient ; la tête de classification
    apprend toujours.

    UserError si `what` ne désigne rien dans ce modèle.
    """
    last = f"trf_blocks.{model.config.n_layers - 1}."
    rules: dict[str, Callable[[str], bool]] = {
        "all": lambda name: True,
        "lora": is_adapter,
        "last_block": lambda name: name.startswith((last, "final_norm.")),
        "head": lambda name: False,
    }
    rule, classifies = rules[choice("train_on", what, TRAINED)], isinstance(model, GPTClassifier)
    for name, parameter in model.named_parameters():
        unread = (
            classifies and name == "out_head.weight"
        )  # sans lien avec l'embedding, une classification n'y passe pas
        parameter.requires_grad_((rule(name) and not unread) or name.startswith("class_head."))
    if not any(p.requires_grad for p in model.parameters()):
        raise UserError(f"train_on={what} n'a rien à apprendre ici : elle sert à experiment=classify.")
    return model


def is_added(name: str) -> bool:
    """Vrai pour le nom d'un paramètre que l'affinage ajoute à sa base : un adaptateur, la tête de classification."""
    return is_adapter(name) or "class_head." in name


def n_trainable(model: GPTModel) -> int:
    """Compte les paramètres qui ont un gradient."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def flops_per_token(model: GPTModel, length: int) -> int:
    """Les opérations d'un jeton d'entraînement de `model`, fenêtres de `length` : ce qui est gelé en épargne."""
    matrices = [p for p in model.trf_blocks.parameters() if p.dim() == 2]
    total = sum(p.numel() for p in matrices)
    blocks = [any(p.requires_grad for p in block.parameters()) for block in model.trf_blocks]
    first = blocks.index(True) if any(blocks) else len(blocks)  # le gradient ne descend pas plus bas
    return cost.flops_per_token(
        model.config,
        length,
        learned=sum(p.numel() for p in matrices if p.requires_grad) / total,
        depth=1 - first / len(blocks),
        head=not isinstance(model, GPTClassifier),
    )


def is_frozen(model: GPTModel) -> bool:
    """Vrai si une partie du modèle que la perte lit n'apprend pas."""
    return any(not p.requires_grad for name, p in model.named_parameters() if name != "out_head.weight")
