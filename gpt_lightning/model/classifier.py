"""Le GPT qui classe : une tête linéaire lit le dernier jeton d'un texte et donne une note à chaque étiquette.

Légende des formes : B lot, T jetons, N textes, C emb_dim, E étiquettes.
Source : Radford et al., « Improving Language Understanding by Generative Pre-Training », 2018, section 3.2.
"""

import torch.nn.functional as F
from torch import Tensor

from gpt_lightning.model.config import GPTConfig
from gpt_lightning.model.gpt import GPTModel
from gpt_lightning.model.init import Linear


class GPTClassifier(GPTModel):
    """Un GPTModel, aux mêmes noms de paramètres, et une tête `class_head` sans biais de `n_labels` lignes.

    L'attention est causale : seul le dernier jeton a vu tout le texte, c'est lui que la tête lit.
    """

    def __init__(self, config: GPTConfig, n_labels: int, *, draw: bool = True) -> None:
        super().__init__(config, draw=draw)
        self.class_head = Linear(config.emb_dim, n_labels, bias=False)
        if draw:
            self.class_head.weight.data.normal_(std=0.02)

    def classify(self, ids: Tensor, where: Tensor) -> Tensor:
        """Les notes de chaque texte : (B, T), (N,) -> (N, E). `where` sont les rangs, dans le lot mis à plat, des
        derniers jetons ; ce qui les suit n'est pas vu."""
        return self.class_head(self.hidden(ids).flatten(0, 1)[where])


def labels_loss(scores: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Entropie croisée moyenne en nats, chaque texte multiplié par son poids : (N, E), (N,), (N,) -> ()."""
    losses = F.cross_entropy(scores.float(), labels, reduction="none")
    return losses.mean() if weights is None else (losses * weights).mean()
