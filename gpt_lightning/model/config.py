"""La configuration du modèle : une valeur gelée."""

import math
from dataclasses import asdict, dataclass, fields

from gpt_lightning.errors import Unfit, UserError, choice, number, whole
from gpt_lightning.typing import Settings, State

CHOICES = {
    "norm": ("layernorm", "rmsnorm"),
    "activation": ("gelu_tanh", "gelu", "swiglu"),
    "positions": ("learned", "rope"),
    "init": ("gpt2", "torch"),
    "kernels": ("fused", "reference"),
}
# au-delà, ce n'est plus un modèle mais une erreur, ou un fichier malveillant
MOST = {
    "vocab_size": 1 << 24,
    "context_length": 1 << 24,
    "emb_dim": 1 << 17,
    "n_heads": 1 << 12,
    "n_layers": 1 << 12,
    "vocab_padding": 1 << 16,
}


@dataclass(frozen=True, kw_only=True)
class GPTConfig:
    """La forme d'un GPT. Lève UserError, en une phrase, si les valeurs ne vont pas ensemble."""

    vocab_size: int  # lignes de l'embedding : une par identifiant du tokenizer
    context_length: int = 1024  # positions apprises ; au-delà, la fenêtre glisse
    emb_dim: int = 768  # largeur C du flux résiduel
    n_heads: int = 12  # têtes d'attention ; la tête a emb_dim / n_heads dimensions
    n_layers: int = 12  # blocs empilés
    drop_rate: float = 0.0  # un gros corpus n'a pas besoin de dropout, un petit (plusieurs passages) si
    qkv_bias: bool = True  # biais des projections Q, K, V, comme GPT-2 (le livre n'en met pas)
    bias: bool = True  # biais des autres couches linéaires et des LayerNorm, comme GPT-2
    tie_weights: bool = True  # tête et embedding partagent leur matrice : 124 M au lieu de 163 M
    norm: str = "layernorm"  # layernorm (GPT-2) | rmsnorm (ni moyenne ni décalage)
    activation: str = "gelu_tanh"  # gelu_tanh (GPT-2) | gelu (exacte) | swiglu (porte multiplicative)
    positions: str = "learned"  # learned (GPT-2) | rope (rotation de Q et K)
    vocab_padding: int = 1  # vocabulaire arrondi à ce multiple : des tailles que les GPU préfèrent
    init: str = "gpt2"  # gpt2 (0,02 et résidus réduits) | torch (défauts de PyTorch, comme le livre)
    kernels: str = "fused"  # fused (noyaux de torch) | reference (formules de reference.py) : les mêmes poids

    def __post_init__(self) -> None:
        for name, most in MOST.items():
            whole(f"model.{name}", getattr(self, name), 1, most)
        for name in ("qkv_bias", "bias", "tie_weights"):
            choice(f"model.{name}", getattr(self, name), (True, False))
        for name, choices in CHOICES.items():
            choice(f"model.{name}", getattr(self, name), choices)
        if number("model.drop_rate", self.drop_rate) >= 1:
            raise UserError(f"model.drop_rate={self.drop_rate} : il faut 0 <= drop_rate < 1.")
        if self.emb_dim % self.n_heads:
            near = _nearest_divisor(self.emb_dim, self.n_heads)
            raise Unfit(
                f"model.n_heads={self.n_heads} ne divise pas model.emb_dim={self.emb_dim} : "
                f"essayez model.n_heads={near}.",
                f"model.emb_dim={self.emb_dim} se partage ainsi",
                {"model.n_heads": near},
            )
        if self.positions == "rope" and self.head_dim % 2:
            raise Unfit(
                f"model.positions=rope demande des têtes de dimension paire, pas {self.head_dim}.",
                "model.positions=rope demande des têtes de dimension paire",
                {"model.n_heads": _nearest_divisor(self.emb_dim // 2, self.n_heads)}
                if self.emb_dim % 2 == 0
                else {},
            )

    @classmethod
    def from_dict(cls, values: Settings) -> "GPTConfig":
        """La configuration d'un dictionnaire ; une clé inconnue ou absente est une UserError en français."""
        names = {field.name for field in fields(cls)}
        unknown = sorted(set(values) - names)
        if unknown:
            raise UserError(
                f"Clé inconnue dans model : {', '.join(unknown)} (connues : {', '.join(sorted(names))})."
            )
        if values.get("vocab_size") is None:
            raise UserError("model.vocab_size manque : le tokenizer le donne, ou model.vocab_size=50257.")
        return cls(**values)

    @classmethod
    def for_vocabulary(cls, values: Settings, n_ids: int) -> "GPTConfig":
        """La configuration de `values` pour un tokenizer de `n_ids` identifiants, que `vocab_size: null` adopte.

        UserError si le vocabulaire demandé est plus petit.
        """
        given = values["vocab_size"]
        if given is not None and whole("model.vocab_size", given) < n_ids:
            raise Unfit(
                f"model.vocab_size={given}, mais le tokenizer a {n_ids} identifiants : laissez null.",
                f"model.vocab_size={given} est le vocabulaire",
                {"tokenizer.size": given} if given > 256 else {},
            )
        return cls.from_dict({**values, "vocab_size": n_ids if given is None else given})

    def to_dict(self) -> State:
        """Les champs en valeurs simples, tels que le checkpoint les garde : `kernels` n'en est pas, il se choisit
        quand on construit un modèle."""
        return {name: value for name, value in asdict(self).items() if name != "kernels"}

    @property
    def head_dim(self) -> int:
        return self.emb_dim // self.n_heads

    @property
    def padded_vocab_size(self) -> int:
        """Lignes réellement allouées ; celles au-delà de vocab_size ne sont jamais tirées ni comptées."""
        return math.ceil(self.vocab_size / self.vocab_padding) * self.vocab_padding

    @property
    def hidden_dim(self) -> int:
        """Largeur de la couche cachée : 4 C, ou 8 C / 3 pour swiglu, qui a trois matrices au lieu de deux."""
        if self.activation == "swiglu":
            return math.ceil(8 * self.emb_dim / 3 / 8) * 8
        return 4 * self.emb_dim


def _nearest_divisor(number: int, target: int) -> int:
    divisors = [d for d in range(1, number + 1) if number % d == 0]
    return min(divisors, key=lambda d: abs(d - target))
