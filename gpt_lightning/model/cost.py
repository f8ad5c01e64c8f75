"""Ce qu'un modèle coûtera, calculé avant qu'il n'existe : paramètres, opérations, mémoire."""

from gpt_lightning.errors import choice
from gpt_lightning.model.config import GPTConfig

# octets par paramètre : poids, gradient, deux moments d'AdamW
BYTES_PER_PARAMETER = {"32-true": 16, "bf16-mixed": 16, "16-mixed": 16, "bf16-true": 8}


def n_parameters(config: GPTConfig) -> int:
    """Nombre de paramètres ; une matrice que la tête et l'embedding partagent est comptée une fois."""
    return n_parameters_without_embeddings(config) + _embedding_parameters(config)


def n_parameters_without_embeddings(config: GPTConfig) -> int:
    """Les paramètres des blocs et de la norme finale : ni embeddings, ni tête."""
    c, bias = config.emb_dim, int(config.bias)
    norm = c * (1 + (bias if config.norm == "layernorm" else 0))
    queries, keys = config.n_heads * config.head_width, config.kv_heads * config.head_width
    attention = 2 * c * (queries + keys) + (queries + 2 * keys) * int(config.qkv_bias) + c * bias
    attention += 2 * config.head_width * int(config.qk_norm)
    matrices = 3 if config.activation == "swiglu" else 2
    feed_forward = matrices * c * config.hidden_width + bias * (c + (matrices - 1) * config.hidden_width)
    return config.n_layers * (attention + feed_forward + 2 * norm) + norm


def _embedding_parameters(config: GPTConfig) -> int:
    positions = config.context_length * config.emb_dim if config.positions == "learned" else 0
    return positions + config.padded_vocab_size * config.emb_dim * (1 if config.tie_weights else 2)


def flops_per_token(
    config: GPTConfig,
    length: int | None = None,
    *,
    learned: float = 1.0,
    depth: float = 1.0,
    head: bool = True,
) -> int:
    """Opérations flottantes par jeton d'entraînement, avant et arrière : 6 N + 12 L H D T.

    N compte les matrices qui multiplient (blocs et tête ; les tables qu'on lit par indice ne coûtent rien), L les
    couches, H D la largeur de toutes les têtes (C pour GPT-2, H Q dans PaLM), T = `length` jetons (défaut :
    context_length). Des 6 N, 2 sont la passe avant, 2 remontent le gradient sur la part `depth` des couches, 2 le
    calculent pour la part `learned` des poids ; `head=False` : une classification ne passe pas par la tête du
    vocabulaire.
    Source : Chowdhery et al., « PaLM », 2022, annexe B.
    """
    length = length or config.context_length
    multiplied = n_parameters_without_embeddings(config)
    multiplied += config.padded_vocab_size * config.emb_dim if head else 0
    attention = 4 * config.n_layers * config.n_heads * config.head_width * length
    return round(multiplied * (2 + 2 * depth + 2 * learned) + attention * (1 + 2 * depth))


def training_memory(
    config: GPTConfig,
    *,
    batch_size: int,
    length: int,
    precision: str = "32-true",
    fused_attention: bool = True,
    learned: int | None = None,
    head: bool = True,
) -> dict[str, int]:
    """Octets qu'un pas d'entraînement AdamW demande : `parameters` (poids, gradients, moments),
    `activations` (gardées pour la passe arrière), `logits` (un tampon et sa copie).

    Les activations sont comptées opération par opération. Sans noyau d'attention fusionné (c'est le cas du
    dropout sur CPU), les poids d'attention, T par tête et par jeton, s'y ajoutent. `learned` est le nombre de
    paramètres qui apprennent (défaut : tous), `head=False` un modèle qui classe.
    UserError si la précision est inconnue.
    """
    choice("precision", precision, BYTES_PER_PARAMETER)
    size = 4 if precision == "32-true" else 2
    tokens, c, h = batch_size * length, config.emb_dim, config.hidden_width
    dropout = 3 if config.drop_rate else 0
    queries = config.n_heads * config.head_width
    # normes, sortie de l'attention et résidus (5 C) ; Q, K, V et leur contexte ; couche cachée et activation
    hidden = {"gelu_tanh": 2, "gelu": 2, "swiglu": 4}[config.activation]
    scores = 0 if fused_attention else 2.25 * config.n_heads * length  # softmax, dropout, masque d'un octet
    per_layer = (5 + dropout) * c + 4 * queries + hidden * h + scores
    everything, each = n_parameters(config), BYTES_PER_PARAMETER[precision]
    weight = each // 4  # le poids lui-même ; le reste est pour ceux qui apprennent
    return {
        "parameters": weight * everything + (each - weight) * (everything if learned is None else learned),
        "activations": int(size * tokens * (config.n_layers * per_layer + 3 * c)),
        "logits": 2 * size * tokens * config.padded_vocab_size if head else 0,
    }
