"""La configuration du modèle : une valeur gelée, qui sait ce que le modèle coûtera avant qu'il n'existe."""

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

NORMS = ("layernorm", "rmsnorm")
ACTIVATIONS = ("gelu_tanh", "gelu", "swiglu")
POSITIONS = ("learned", "rope")
INITS = ("gpt2", "torch")
# octets par paramètre : poids, gradient, deux moments d'AdamW
BYTES_PER_PARAMETER = {"32-true": 16, "bf16-mixed": 16, "16-mixed": 16, "bf16-true": 8}


@dataclass(frozen=True, kw_only=True)
class GPTConfig:
    """La forme d'un GPT. Lève ValueError, en une phrase, si les valeurs ne vont pas ensemble."""

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

    def __post_init__(self):
        for name in ("vocab_size", "context_length", "emb_dim", "n_heads", "n_layers", "vocab_padding"):
            _check_positive_int(name, getattr(self, name))
        for name in ("qkv_bias", "bias", "tie_weights"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"model.{name} vaut true ou false, pas {getattr(self, name)!r}.")
        for name, choices in (
            ("norm", NORMS),
            ("activation", ACTIVATIONS),
            ("positions", POSITIONS),
            ("init", INITS),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(f"model.{name}={getattr(self, name)} : les choix sont {', '.join(choices)}.")
        if isinstance(self.drop_rate, bool) or not isinstance(self.drop_rate, int | float):
            raise ValueError(f"model.drop_rate doit être un nombre, pas {self.drop_rate!r}.")
        if not 0 <= self.drop_rate < 1:
            raise ValueError(f"model.drop_rate={self.drop_rate} : il faut 0 <= drop_rate < 1.")
        if self.emb_dim % self.n_heads:
            raise ValueError(
                f"model.n_heads={self.n_heads} ne divise pas model.emb_dim={self.emb_dim} : "
                f"essayez model.n_heads={_nearest_divisor(self.emb_dim, self.n_heads)}."
            )
        if self.positions == "rope" and self.head_dim % 2:
            raise ValueError(
                f"model.positions=rope demande des têtes de dimension paire, pas {self.head_dim}."
            )

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "GPTConfig":
        """La configuration d'un dictionnaire ; une clé inconnue ou absente est une ValueError en français."""
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ValueError(
                f"Clé inconnue dans model : {', '.join(unknown)} (connues : {', '.join(sorted(known))})."
            )
        if values.get("vocab_size") is None:
            raise ValueError("model.vocab_size manque : le tokenizer le donne, ou model.vocab_size=50257.")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Les champs en valeurs simples, tels que le checkpoint les garde."""
        return asdict(self)

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

    def n_parameters(self) -> int:
        """Nombre de paramètres, un paramètre partagé compté une fois."""
        c, bias = self.emb_dim, int(self.bias)
        norm = c * (1 + (bias if self.norm == "layernorm" else 0))
        attention = 4 * c * c + 3 * c * int(self.qkv_bias) + c * bias
        matrices = 3 if self.activation == "swiglu" else 2
        feed_forward = matrices * c * self.hidden_dim + bias * (c + (matrices - 1) * self.hidden_dim)
        block = attention + feed_forward + 2 * norm
        return self.n_layers * block + norm + self._embedding_parameters()

    def _embedding_parameters(self) -> int:
        positions = self.context_length * self.emb_dim if self.positions == "learned" else 0
        return positions + self.padded_vocab_size * self.emb_dim * (1 if self.tie_weights else 2)

    def n_parameters_without_embeddings(self) -> int:
        """Les paramètres des blocs et de la norme finale : ni embeddings, ni tête."""
        return self.n_parameters() - self._embedding_parameters()

    def flops_per_token(self, length: int | None = None) -> int:
        """Opérations flottantes par jeton d'entraînement, avant et arrière : 6 N + 12 L H Q T.

        N compte les matrices qui multiplient (blocs et tête ; les tables qu'on lit par indice ne coûtent
        rien), L les couches, H Q la largeur, T = `length` jetons (défaut : context_length).
        Source : Chowdhery et al., « PaLM », 2022, annexe B.
        """
        length = length or self.context_length
        multiplied = self.n_parameters_without_embeddings() + self.padded_vocab_size * self.emb_dim
        return 6 * multiplied + 12 * self.n_layers * self.emb_dim * length

    def training_memory(
        self, *, batch_size: int, length: int, precision: str = "32-true", fused_attention: bool = True
    ) -> dict[str, int]:
        """Octets qu'un pas d'entraînement AdamW demande : `parameters` (poids, gradients, moments),
        `activations` (gardées pour la passe arrière), `logits` (un tampon et sa copie).

        Les activations sont comptées opération par opération. Sans noyau d'attention fusionné (c'est le cas du
        dropout sur CPU), les poids d'attention, T par tête et par jeton, s'y ajoutent.
        ValueError si la précision est inconnue.
        """
        if precision not in BYTES_PER_PARAMETER:
            raise ValueError(
                f"Précision inconnue : {precision} (connues : {', '.join(BYTES_PER_PARAMETER)})."
            )
        size = 4 if precision == "32-true" else 2
        tokens, c, h = batch_size * length, self.emb_dim, self.hidden_dim
        dropout = 3 if self.drop_rate else 0
        # normes (2 C), Q K V et sortie de l'attention (5 C), résidus, puis la couche cachée et son activation
        hidden = {"gelu_tanh": 2, "gelu": 2, "swiglu": 4}[self.activation]
        scores = 0 if fused_attention else 2.25 * self.n_heads * length  # softmax, dropout, masque d'un octet
        per_layer = (9 + dropout) * c + hidden * h + scores
        return {
            "parameters": BYTES_PER_PARAMETER[precision] * self.n_parameters(),
            "activations": int(size * tokens * (self.n_layers * per_layer + 3 * c)),
            "logits": 2 * size * tokens * self.padded_vocab_size,
        }


def _check_positive_int(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"model.{name} doit être un entier, pas {value!r}.")
    if value < 1:
        raise ValueError(f"model.{name}={value} : il faut un entier d'au moins 1.")


def _nearest_divisor(number: int, wanted: int) -> int:
    divisors = [d for d in range(1, number + 1) if number % d == 0]
    return min(divisors, key=lambda d: abs(d - wanted))
