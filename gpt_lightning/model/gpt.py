"""Le GPT, de haut en bas : normalisation, activation, réseau, attention, bloc, modèle.

Chaque classe garde ses paramètres et appelle l'opération que choisit `config.kernels` ; sa formule est dans
reference.py. Ce qu'une configuration peut mettre à la place d'une de ces classes est dans variants.py.
Légende des formes : B lot, T jetons donnés au modèle, S jetons vus, ceux du cache compris, C emb_dim, H têtes,
K têtes de K et V (H pour GPT-2), D largeur d'une tête (C / H pour GPT-2), V vocabulaire.
Sources : Radford et al., « Language Models are Unsupervised Multitask Learners », 2019 (GPT-2) ; Vaswani et al.,
« Attention Is All You Need », 2017, section 3.2.
"""

import torch
from torch import Tensor, nn

from gpt_lightning.errors import UserError
from gpt_lightning.model import reference
from gpt_lightning.model.cache import KVCache
from gpt_lightning.model.config import GPTConfig
from gpt_lightning.model.fast.kernels import KERNELS
from gpt_lightning.model.init import Embedding, Linear, initialise, initialise_like_gpt2
from gpt_lightning.model.variants import NoPositions, NoRotation, RMSNorm, RotaryPositions, SwiGLU


class LayerNorm(nn.Module):
    """(x - moyenne) / racine(variance + eps) * scale + shift, sur la dernière dimension.

    Source : Ba, Kiros et Hinton, « Layer Normalization », 2016.
    """

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.eps, self._norm = config.norm_eps, KERNELS[config.kernels].layer_norm
        self.scale = nn.Parameter(torch.ones(config.emb_dim))
        self.shift = nn.Parameter(torch.zeros(config.emb_dim)) if config.bias else None

    def forward(self, x: Tensor) -> Tensor:  # (B, T, C) -> (B, T, C)
        return self._norm(x, self.scale, self.shift, self.eps)


class GELU(nn.Module):
    """x Φ(x), où Φ est la fonction de répartition de la loi normale ; GPT-2 l'approche par `gelu_tanh`.

    Source : Hendrycks et Gimpel, « Gaussian Error Linear Units », 2016.
    """

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        kernels = KERNELS[config.kernels]
        self._gelu = kernels.gelu if config.activation == "gelu" else kernels.gelu_tanh

    def forward(self, x: Tensor) -> Tensor:
        return self._gelu(x)


class FeedForward(nn.Module):
    """C -> 4 C -> C, à chaque position séparément ; `config.hidden_width` est la largeur du milieu."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            Linear(config.emb_dim, config.hidden_width, bias=config.bias),
            GELU(config),
            Linear(config.hidden_width, config.emb_dim, bias=config.bias),
        )

    def forward(self, x: Tensor) -> Tensor:  # (B, T, C) -> (B, T, C)
        return self.layers(x)


class MultiHeadAttention(nn.Module):
    """softmax(Q Kᵀ / √D) V, où la position t ne voit que les positions <= t.

    Le calcul est celui de `config.kernels` : les noyaux de fast/attention.py, ou la formule de reference.py.
    """

    def __init__(self, config: GPTConfig, layer: int = 0) -> None:
        super().__init__()
        self.layer = layer  # rang du bloc, et de ses clés dans le cache
        self.head_width, self.drop_rate = config.head_width, config.drop_rate
        queries, keys = config.n_heads * config.head_width, config.kv_heads * config.head_width
        self.W_query = Linear(config.emb_dim, queries, bias=config.qkv_bias)
        self.W_key = Linear(config.emb_dim, keys, bias=config.qkv_bias)
        self.W_value = Linear(config.emb_dim, keys, bias=config.qkv_bias)
        self.out_proj = Linear(queries, config.emb_dim, bias=config.bias)
        self.q_norm: nn.Module = RMSNorm(config, config.head_width) if config.qk_norm else nn.Identity()
        self.k_norm: nn.Module = RMSNorm(config, config.head_width) if config.qk_norm else nn.Identity()
        self._attention = KERNELS[config.kernels].attention
        self.rotary = RotaryPositions(config) if config.positions == "rope" else NoRotation()

    def forward(
        self, x: Tensor, positions: Tensor, cache: KVCache | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """`mask`, (B, 1, T, T), vrai où le jeton peut regarder ; None : tout ce qui le précède."""
        q, k, v = self.project(x)  # (B, H, T, D), (B, K, T, D), (B, K, T, D)
        q, k = self.rotary(self.q_norm(q), positions), self.rotary(self.k_norm(k), positions)
        if cache is not None:
            k, v = cache.append(self.layer, k, v)  # (B, K, S, D)
            mask = cache.mask  # (B, 1, T, S)
        dropout = self.drop_rate if self.training else 0.0
        context = self._attention(q, k, v, mask, dropout)
        return self.out_proj(context.transpose(1, 2).flatten(2))  # (B, T, C)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Q, K et V : (B, T, C) -> (B, H, T, D) et deux fois (B, K, T, D)."""
        return self._heads(self.W_query(x)), self._heads(self.W_key(x)), self._heads(self.W_value(x))

    def _heads(self, x: Tensor) -> Tensor:  # (B, T, H D) -> (B, H, T, D)
        return x.unflatten(-1, (-1, self.head_width)).transpose(1, 2)

    def weights(self, x: Tensor, positions: Tensor) -> Tensor:
        """Les poids d'attention softmax(Q Kᵀ / √D), masqués : (B, T, C) -> (B, H, T, T). Pour les images."""
        q, k, _ = self.project(x)
        q, k = self.rotary(self.q_norm(q), positions), self.rotary(self.k_norm(k), positions)
        return reference.attention_weights(q, k)


def build_norm(config: GPTConfig) -> nn.Module:
    """La normalisation que `config.norm` nomme."""
    return LayerNorm(config) if config.norm == "layernorm" else RMSNorm(config)


def build_feed_forward(config: GPTConfig) -> nn.Module:
    """Le réseau position par position que `config.activation` nomme."""
    return SwiGLU(config) if config.activation == "swiglu" else FeedForward(config)


class TransformerBlock(nn.Module):
    """Attention puis réseau, chacun normalisé avant et ajouté au flux résiduel."""

    def __init__(self, config: GPTConfig, layer: int = 0) -> None:
        super().__init__()
        self.att = MultiHeadAttention(config, layer)
        self.ff = build_feed_forward(config)
        self.norm1 = build_norm(config)
        self.norm2 = build_norm(config)
        self.drop_shortcut = nn.Dropout(config.drop_rate)

    def forward(
        self, x: Tensor, positions: Tensor, cache: KVCache | None = None, mask: Tensor | None = None
    ) -> Tensor:
        x = x + self.drop_shortcut(self.att(self.norm1(x), positions, cache, mask))  # (B, T, C)
        x = x + self.drop_shortcut(self.ff(self.norm2(x)))
        return x


class GPTModel(nn.Module):
    """Un GPT-2 ; un Llama, un Qwen2 ou un Qwen3 si sa configuration le dit.

    Ses paramètres portent les noms du projet d'origine, y compris dans les fichiers de poids.

    `draw=False` ne tire pas les poids de départ : ils viendront d'un fichier.
    """

    def __init__(self, config: GPTConfig, *, draw: bool = True) -> None:
        super().__init__()
        self.config = config
        self._kernels = KERNELS[config.kernels]
        self.tok_emb = Embedding(config.padded_vocab_size, config.emb_dim)
        learned = config.positions == "learned"
        self.pos_emb = Embedding(config.context_length, config.emb_dim) if learned else NoPositions()
        self.drop_emb = nn.Dropout(config.drop_rate)
        self.trf_blocks = nn.ModuleList(TransformerBlock(config, layer) for layer in range(config.n_layers))
        self.final_norm = build_norm(config)
        self.out_head = Linear(config.emb_dim, config.padded_vocab_size, bias=False)
        if draw:
            initialise(self)
            if config.init == "gpt2":
                initialise_like_gpt2(self, config.n_layers)
        if config.tie_weights:
            self.out_head.weight = self.tok_emb.weight

    def forward(self, ids: Tensor, cache: KVCache | None = None) -> Tensor:
        """Les logits du jeton suivant à chaque position : (B, T) entiers -> (B, T, V).

        Avec un cache, `ids` continue les jetons qu'il contient. Sans lui, T <= context_length, sinon UserError.
        """
        x = self.hidden(ids, cache)  # (B, T, C)
        return self.out_head(x)[..., : self.config.vocab_size]  # (B, T, V)

    def next_logits(self, ids: Tensor, cache: KVCache | None = None) -> Tensor:
        """Les logits du seul jeton qui suit `ids` : (B, T) -> (B, V)."""
        return self.out_head(self.hidden(ids, cache)[:, -1])[:, : self.config.vocab_size]

    def hidden(self, ids: Tensor, cache: KVCache | None = None, segments: Tensor | None = None) -> Tensor:
        """Le flux résiduel normalisé, juste avant la tête : (B, T) -> (B, T, C).

        `segments` (B, T) donne à chaque jeton le rang de son texte : les positions repartent de zéro à chacun, et aucun
        ne voit les autres.
        """
        length = ids.shape[1]
        if length > self.config.context_length:
            raise UserError(
                f"{length} jetons pour un contexte de {self.config.context_length} : gardez la fin."
            )
        mask = None
        if segments is not None:
            positions, mask = _apart(segments)  # (B, T), (B, 1, T, T)
        else:
            positions = torch.arange(length, device=ids.device) if cache is None else cache.prepare(length)
        x = self.drop_emb(self.tok_emb(ids) + self.pos_emb(positions))  # (B, T, C)
        for block in self.trf_blocks:
            x = block(x, positions, cache, mask)
        if cache is not None:
            cache.advance(length)
        return self.final_norm(x)

    def attention(self, ids: Tensor, layer: int) -> Tensor:
        """Les poids d'attention de la couche `layer`, comptée depuis 0 : (B, T) -> (B, H, T, T)."""
        positions = torch.arange(ids.shape[1], device=ids.device)
        x = self.tok_emb(ids) + self.pos_emb(positions)  # (B, T, C)
        for block in self.trf_blocks[:layer]:
            x = block(x, positions)
        block = self.trf_blocks[layer]
        assert isinstance(block, TransformerBlock)
        return block.att.weights(block.norm1(x), positions)

    def loss(
        self, ids: Tensor, targets: Tensor, where: Tensor | None = None, segments: Tensor | None = None
    ) -> Tensor:
        """L'entropie croisée moyenne en nats des jetons `targets`, un par position : (B, T), (B, T) -> ().

        Avec `where`, les rangs de N positions dans le lot mis à plat, seules celles-ci atteignent la tête, et `targets`
        sont leurs N jetons : (B, T), (N,), (N,) -> (). `segments` : voir `hidden`.
        """
        x = self.hidden(ids, segments=segments)  # (B, T, C)
        if where is not None:
            x = x.flatten(0, 1)[where]  # (N, C)
        return self._kernels.head_loss(x, self.out_head, targets, self.config.vocab_size)


def _apart(segments: Tensor) -> tuple[Tensor, Tensor]:
    """Les positions de chaque jeton dans son texte, et ce qu'il peut voir : (B, T) -> (B, T), (B, 1, T, T)."""
    ranks = torch.arange(segments.shape[1], device=segments.device)
    same = segments[:, :, None] == segments[:, None, :]  # (B, T, T)
    first = same.int().argmax(-1)  # (B, T) le premier jeton du même texte : un texte est d'un seul tenant
    return ranks - first, (same & (ranks[:, None] >= ranks))[:, None]
