"""L'optimiseur : sa classe, ses arguments, et les paramètres qu'il fait décroître."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields

import torch
from torch import Tensor, nn

from gpt_lightning.errors import Unfit, UserError, choice, number
from gpt_lightning.model.lora import is_adapter
from gpt_lightning.training.muon import Group, MuonAdamW
from gpt_lightning.training.schedule import Schedule
from gpt_lightning.typing import Settings

DECAYED = ("matrices", "all")
ADAMW_LR_TIMES_WIDTH = 0.46
# le taux de Muon, et celui des adaptateurs, jusqu'à cette largeur ; ils baissent ensuite comme AdamW
MUON_LR, MUON_WIDTH = 0.01, 128
LORA_LR, LORA_WIDTH = 0.01, 256


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Un optimiseur et son taux d'apprentissage. UserError, en une phrase, sur une valeur impossible."""

    optimizer: type[torch.optim.Optimizer] = torch.optim.AdamW  # la classe que `_target_` nomme
    lr: float = 1e-3  # taux d'apprentissage au sommet ; `auto` est résolu par `resolve_lr`
    weight_decay: float = 0.1  # Loshchilov et Hutter, « Decoupled Weight Decay Regularization », 2019
    decayed: str = "matrices"  # matrices : ni biais ni normes | all : tous, comme l'original
    schedule: Schedule = field(default_factory=Schedule)
    arguments: Mapping[str, object] = field(default_factory=dict)  # les autres arguments de `optimizer`

    def __post_init__(self) -> None:
        number("optim.lr", self.lr, above=0)
        number("optim.weight_decay", self.weight_decay)
        choice("optim.decayed", self.decayed, DECAYED)
        _check_arguments(self.optimizer, self.arguments)
        # un essai sur deux nombres : l'optimiseur juge ses arguments avant que rien ne soit lu
        trial = [{"params": [torch.zeros(1, requires_grad=True)], "muon": muon} for muon in (False, True)]
        _construct(self, trial, fused=False)

    @classmethod
    def from_dict(cls, values: Settings, optimizer: type[torch.optim.Optimizer]) -> "OptimConfig":
        """Lit la configuration d'un dictionnaire : nos clés, et le reste pour `optimizer` (null : sa propre valeur)."""
        names = {part.name for part in fields(Schedule)}
        shape = {key: value for key, value in values.items() if key in names}
        ours = {key: values[key] for key in ("lr", "weight_decay", "decayed") if key in values}
        rest = {
            key: value
            for key, value in values.items()
            if key not in (*shape, *ours, "_target_") and value is not None
        }
        return cls(optimizer=optimizer, schedule=Schedule(**shape), arguments=rest, **ours)


def resolve_lr(values: Settings, optimizer: type, width: int, lora: Settings | None = None) -> Settings:
    """Calcule `lr: auto` d'après la largeur C du modèle, et renvoie les réglages de `optim` avec ce nombre.

    AdamW : 0,46 / C, soit 6e-4 à 768 et 2,2e-4 à 2 048 ; Brown et al., « Language Models are Few-Shot Learners »,
    2020, table 2.1, en prend 6e-4 et 2e-4. Muon : 0,01 jusqu'à 128 de large, puis 1,28 / C, essayé jusqu'à 384
    (docs/entrainement.md). Les adaptateurs de `lora` suivent AdamW sous les deux optimiseurs, cinq fois plus vite qu'un
    modèle entier. UserError pour un autre optimiseur, dont on ne sait rien.
    """
    if values["lr"] != "auto":
        return dict(values)
    muon = MUON_LR * min(1, MUON_WIDTH / width)
    rules = {MuonAdamW: muon, torch.optim.AdamW: ADAMW_LR_TIMES_WIDTH / width}
    if lora:
        rules = dict.fromkeys(rules, LORA_LR * min(1, LORA_WIDTH / width))
    if optimizer not in rules:
        own = inspect.signature(optimizer).parameters.get("lr")
        usual = own.default if own is not None else None
        raise Unfit(
            f"optim.lr=auto n'a pas de règle pour {optimizer.__name__} : donnez optim.lr=1e-3 par exemple.",
            f"le taux que {optimizer.__name__} prend de lui-même",
            {"optim.lr": usual} if isinstance(usual, float) else {},
        )
    return {**values, "lr": float(f"{rules[optimizer]:.2g}")}


def _check_arguments(optimizer: type, arguments: Mapping[str, object]) -> None:
    """UserError sur un argument que l'optimiseur ne prend pas."""
    accepted = [name for name in inspect.signature(optimizer).parameters if name not in ("params", "half")]
    for name in arguments:
        if name not in accepted:
            raise UserError(
                f"optim.{name} : {optimizer.__name__} ne le connaît pas ; il prend {', '.join(accepted)}."
            )
    if "betas" in arguments:
        betas = arguments["betas"]
        if (
            not isinstance(betas, list | tuple)
            or len(betas) != 2
            or not all(isinstance(beta, int | float) and 0 <= beta < 1 for beta in betas)
        ):
            raise UserError(f"optim.betas={betas!r} : il faut deux nombres de [0, 1), comme [0.9, 0.95].")


def build_optimizer(
    model: nn.Module, config: OptimConfig, *, fused: bool = True, half: bool = False
) -> torch.optim.Optimizer:
    """Construit l'optimiseur des paramètres de `model`, par groupes : qui décroît, qui suit Muon.

    `half` : Muon peut orthogonaliser en bf16, la précision de l'entraînement étant celle-là.

    `fused=False` pour un GradScaler : un AdamW fusionné lui cacherait l'échelle des gradients que l'on coupe.
    UserError si l'optimiseur refuse ses arguments.
    """
    fused = fused and all(p.device.type in ("cpu", "cuda") for p in model.parameters())
    return _construct(config, parameter_groups(model, config), fused, half)


def _construct(
    config: OptimConfig, groups: list[Group], fused: bool, half: bool = False
) -> torch.optim.Optimizer:
    build: Callable[..., torch.optim.Optimizer] = config.optimizer  # chaque classe a ses arguments
    arguments = {key: tuple(v) if isinstance(v, list) else v for key, v in config.arguments.items()}
    if issubclass(config.optimizer, torch.optim.AdamW):
        arguments["fused"] = fused
    if issubclass(config.optimizer, MuonAdamW):
        arguments["half"] = half
    try:
        return build(groups, lr=config.lr, **arguments)
    except UserError:
        raise
    except (TypeError, ValueError) as error:
        raise UserError(f"{config.optimizer.__name__} refuse ces réglages de optim : {error}") from None


def parameter_groups(model: nn.Module, config: OptimConfig) -> list[Group]:
    """Les paramètres à entraîner, par groupes : ceux que le weight decay réduit, les autres, les matrices de Muon."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    muon = issubclass(config.optimizer, MuonAdamW)
    # orthogonaliser une correction de rang R n'aurait pas de sens : A et B suivent AdamW
    hidden = [
        p for name, p in named if muon and "trf_blocks" in name and p.dim() == 2 and not is_adapter(name)
    ]
    rest = _without(hidden, (p for _, p in named))
    decayed = [p for p in rest if config.decayed == "all" or p.dim() >= 2]
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": _without(decayed, rest), "weight_decay": 0.0},
        {"params": hidden, "weight_decay": config.weight_decay, "muon": True},
    ]
    return [group for group in groups if group["params"]]


def _without(taken: Iterable[Tensor], parameters: Iterable[Tensor]) -> list[Tensor]:
    taken_ids = {id(p) for p in taken}
    return [p for p in parameters if id(p) not in taken_ids]
