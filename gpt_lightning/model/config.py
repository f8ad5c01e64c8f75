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
    "n_kv_heads": 1 << 12,
    "head_dim": 1 << 16,
    "hidden_dim": 1 << 20,
    "vocab_padding": 1 << 16,
}


# ce que les modèles d'après GPT-2 ont de plus ; les trois premiers, null, se déduisent des autres
BEYOND_GPT2 = ("n_kv_heads", "head_dim", "hidden_dim", "qk_norm", "rope_base", "norm_eps")
DERIVED = BEYOND_GPT2[:3]


@dataclass(frozen=True, kw_only=True)
class GPTConfig:
    """La forme d'un GPT. Lève UserError, en une phrase, si les valeurs ne vont pas ensemble."""

    vocab_size: int  # lignes de l'embedding : une par identifiant du tokenizer
    context_length: int = 1024  # positions apprises ; au-delà, la fenêtre glisse
    emb_dim: int = 768  # largeur C du flux résiduel
    n_heads: int = 12  # têtes d'attention
    n_layers: int = 12  # blocs empilés
    drop_rate: float = 0.0  # un gros corpus n'a pas besoin de dropout, un petit (plusieurs passages) si
    qkv_bias: bool = True  # biais des projections Q, K, V, comme GPT-2 (le livre n'en met pas)
    bias: bool = True  # biais des autres couches linéaires et des LayerNorm, comme GPT-2
    tie_weights: bool = True  # tête et embedding partagent leur matrice : 124 M au lieu de 163 M
    norm: str = "layernorm"  # layernorm (GPT-2) | rmsnorm (ni moyenne ni décalage)
    activation: str = "gelu_tanh"  # gelu_tanh (GPT-2) | gelu (exacte) | swiglu (porte multiplicative)
    positions: str = "learned"  # learned (GPT-2) | rope (rotation de Q et K)
    n_kv_heads: int | None = (
        None  # têtes de K et V, que des groupes de Q partagent : un cache plus petit ; null : n_heads
    )
    head_dim: int | None = (
        None  # largeur d'une tête, si elle ne vient pas du partage d'emb_dim ; null : emb_dim / n_heads
    )
    hidden_dim: int | None = None  # largeur de la couche cachée ; null : 4 emb_dim, ou 8/3 pour swiglu
    qk_norm: bool = (
        False  # Q et K normalisées (RMSNorm) avant leur produit : de grands modèles n'y divergent plus
    )
    rope_base: float = (
        10_000.0  # base des angles de rope : plus grande, elle distingue des positions plus lointaines
    )
    norm_eps: float = 1e-5  # ce que les normes ajoutent à la variance : GPT-2 et Llama 1e-5, Qwen 1e-6
    vocab_padding: int = 1  # vocabulaire arrondi à ce multiple : des tailles que les GPU préfèrent
    init: str = "gpt2"  # gpt2 (0,02 et résidus réduits) | torch (défauts de PyTorch, comme le livre)
    kernels: str = "fused"  # fused (noyaux de torch) | reference (formules de reference.py) : les mêmes poids

    def __post_init__(self) -> None:
        for name, most in MOST.items():
            if getattr(self, name) is not None or name not in DERIVED:
                whole(f"model.{name}", getattr(self, name), 1, most)
        for name in ("qkv_bias", "bias", "tie_weights", "qk_norm"):
            choice(f"model.{name}", getattr(self, name), (True, False))
        for name, choices in CHOICES.items():
            choice(f"model.{name}", getattr(self, name), choices)
        if number("model.drop_rate", self.drop_rate) >= 1:
            raise UserError(f"model.drop_rate={self.drop_rate} : il faut 0 <= drop_rate < 1.")
        number("model.rope_base", self.rope_base, above=1)
        number("model.norm_eps", self.norm_eps, above=0)
        if self.positions != "rope" and self.rope_base != DEFAULTS["rope_base"]:
            raise UserError(
                f"model.rope_base={self.rope_base:g} ne sert qu'avec model.positions=rope : retirez l'un, ou ajoutez "
                f"l'autre."
            )
        self._check_heads()

    def _check_heads(self) -> None:
        """UserError si les têtes ne se partagent pas la largeur du modèle, ou leurs clés."""
        if self.head_dim is None and self.emb_dim % self.n_heads:
            raise _uneven("n_heads", self.n_heads, "emb_dim", self.emb_dim)
        if self.positions == "rope" and self.head_width % 2:
            can_share = self.head_dim is None and self.emb_dim % 2 == 0
            heads = {"model.n_heads": _nearest_divisor(self.emb_dim // 2, self.n_heads)}
            raise Unfit(
                f"model.positions=rope demande des têtes de dimension paire, pas {self.head_width} : essayez "
                f"model.head_dim={self.head_width + 1}.",
                "model.positions=rope demande des têtes de dimension paire",
                heads if can_share else {"model.head_dim": self.head_width + 1},
            )
        if self.n_heads % self.kv_heads:
            raise _uneven("n_kv_heads", self.kv_heads, "n_heads", self.n_heads)

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
        """Les champs en valeurs simples, tels que le checkpoint les garde.

        `kernels` n'en est pas, il se choisit quand on construit un modèle ; ni ce que GPT-2 n'a pas (`BEYOND_GPT2`) et
        qui est resté à son défaut.
        """
        usual = {name: DEFAULTS[name] for name in BEYOND_GPT2}
        return {
            name: value
            for name, value in asdict(self).items()
            if name != "kernels" and not (name in usual and value == usual[name])
        }

    @property
    def kv_heads(self) -> int:
        """Têtes de K et V."""
        return self.n_heads if self.n_kv_heads is None else self.n_kv_heads

    @property
    def head_width(self) -> int:
        """Largeur D d'une tête."""
        return self.emb_dim // self.n_heads if self.head_dim is None else self.head_dim

    @property
    def padded_vocab_size(self) -> int:
        """Lignes réellement allouées ; celles au-delà de vocab_size ne sont jamais tirées ni comptées."""
        return math.ceil(self.vocab_size / self.vocab_padding) * self.vocab_padding

    @property
    def hidden_width(self) -> int:
        """Largeur de la couche cachée : 4 C, ou 8 C / 3 pour swiglu, qui a trois matrices au lieu de deux."""
        if self.hidden_dim is not None:
            return self.hidden_dim
        if self.activation == "swiglu":
            return math.ceil(8 * self.emb_dim / 3 / 8) * 8
        return 4 * self.emb_dim


DEFAULTS = {field.name: field.default for field in fields(GPTConfig)}


def _uneven(name: str, parts: int, whole_name: str, total: int) -> Unfit:
    """Le refus de `parts`, qui ne partage pas `total`, et le nombre le plus proche qui le partage."""
    near = _nearest_divisor(total, parts)
    return Unfit(
        f"model.{name}={parts} ne divise pas model.{whole_name}={total} : essayez model.{name}={near}.",
        f"model.{whole_name}={total} se partage ainsi",
        {f"model.{name}": near},
    )


def _nearest_divisor(number: int, target: int) -> int:
    divisors = [d for d in range(1, number + 1) if number % d == 0]
    return min(divisors, key=lambda d: abs(d - target))
