"""Le GPT : embeddings, blocs, norme finale, tête.

Légende des formes : B lot, T jetons, C emb_dim, V vocabulaire.
Source : Radford et al., « Language Models are Unsupervised Multitask Learners », 2019 (GPT-2).
"""

import math

import torch
from torch import Tensor, nn

from gpt_lightning.errors import UserError
from gpt_lightning.model.attention import MultiHeadAttention
from gpt_lightning.model.cache import KVCache
from gpt_lightning.model.config import GPTConfig
from gpt_lightning.model.fast.kernels import KERNELS
from gpt_lightning.model.layers import (
    Embedding,
    Linear,
    NoPositions,
    build_feed_forward,
    build_norm,
    initialise,
)


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
    """Un GPT-2. Les noms de ses paramètres sont ceux du projet d'origine : c'est le format de fichier.

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
                self._initialise_like_gpt2()
        if config.tie_weights:
            self.out_head.weight = self.tok_emb.weight

    def forward(self, ids: Tensor, cache: KVCache | None = None) -> Tensor:
        """Les logits du jeton suivant à chaque position : (B, T) entiers -> (B, T, V).

        Avec un cache, `ids` continue les jetons qu'il contient. Sans lui, T <= context_length, sinon UserError.
        """
        x = self.hidden(ids, cache)  # (B, T, C)
        return self.out_head(x)[..., : self.config.vocab_size]  # (B, T, V)

    def next_logits(self, ids: Tensor, cache: KVCache | None = None) -> Tensor:
        """Les logits du jeton qui suit `ids`, seuls calculés : (B, T) -> (B, V)."""
        return self.out_head(self.hidden(ids, cache)[:, -1])[:, : self.config.vocab_size]

    def one_more(self, ids: Tensor, cache: KVCache) -> Tensor:
        """La passe que la génération répète, un jeton par ligne : (B, 1) -> (B, V). Compilée, c'en est une autre."""
        return self.next_logits(ids, cache)

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

    def loss(self, ids: Tensor, targets: Tensor) -> Tensor:
        """Entropie croisée moyenne en nats : (B, T), (B, T) -> ().

        Sur CPU, tête et entropie croisée sont calculées ensemble, par morceaux ; ailleurs, compilées ou de référence,
        séparément.
        """
        head_loss = self._kernels.head_loss
        if head_loss and ids.device.type == "cpu" and not torch.compiler.is_compiling():
            x = self.hidden(ids).flatten(0, 1)
            return head_loss(x, self.out_head.weight, targets.flatten(), self.config.vocab_size)
        return self._kernels.cross_entropy(self(ids), targets)

    def answers_loss(
        self, ids: Tensor, where: Tensor, wanted: Tensor, segments: Tensor | None = None
    ) -> Tensor:
        """La même perte sur quelques positions, seules à atteindre la tête : (B, T), (N,), (N,), (B, T) -> ().

        `where` sont leurs rangs dans le lot mis à plat, `wanted` les jetons à prédire.
        """
        x = self.hidden(ids, segments=segments).flatten(0, 1)[where]  # (N, C)
        head_loss = self._kernels.head_loss
        if head_loss and ids.device.type == "cpu" and not torch.compiler.is_compiling():
            return head_loss(x, self.out_head.weight, wanted, self.config.vocab_size)
        return self._kernels.cross_entropy(self.out_head(x)[None, :, : self.config.vocab_size], wanted[None])

    @torch.no_grad()
    def _initialise_like_gpt2(self) -> None:
        """Écart type 0,02 ; les deux projections qui rejoignent le résidu sont réduites de √(2 L)."""
        residual = 0.02 / math.sqrt(2 * self.config.n_layers)
        for name, parameter in self.named_parameters():
            if name.endswith(".bias"):
                parameter.zero_()
            elif parameter.dim() == 2:
                into_residual = name.endswith(("out_proj.weight", "ff.layers.2.weight"))
                parameter.normal_(std=residual if into_residual else 0.02)


def _apart(segments: Tensor) -> tuple[Tensor, Tensor]:
    """Les positions de chaque jeton dans son texte, et ce qu'il peut voir : (B, T) -> (B, T), (B, 1, T, T)."""
    ranks = torch.arange(segments.shape[1], device=segments.device)
    same = segments[:, :, None] == segments[:, None, :]  # (B, T, T)
    first = same.int().argmax(-1)  # (B, T) le premier jeton du même texte : un texte est d'un seul tenant
    return ranks - first, (same & (ranks[:, None] >= ranks))[:, None]
