"""La taille de ce que chaque couche linéaire reçoit, lue sur des jetons tirés au hasard : l'int4 en tient compte.

Un texte, dans sa langue, ne la donne pas mieux (benchmarks/NOTES.md), et il en faudrait un.
"""

from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from gpt_lightning.model.gpt import GPTModel

TOKENS = 256  # assez : 64 ou 512 donnent la même perte
Sizes = WeakKeyDictionary[nn.Module, Tensor]


@torch.inference_mode()
def input_sizes(model: GPTModel) -> Sizes:
    """Le carré moyen de chaque entrée des couches que `hidden` traverse, (K,) : la tête n'en est pas."""
    sizes: Sizes = WeakKeyDictionary()

    def note(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        sizes[layer] = inputs[0].float().square().flatten(0, -2).mean(0).nan_to_num_()

    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    hooks = [layer.register_forward_pre_hook(note) for layer in layers]
    drawn = torch.Generator().manual_seed(
        0
    )  # les mêmes jetons partout : un modèle s'arrondit d'une seule façon
    length = min(TOKENS, model.config.context_length)
    ids = torch.randint(model.config.vocab_size, (1, length), generator=drawn)
    try:
        model.hidden(ids.to(model.tok_emb.weight.device))
    finally:
        for hook in hooks:
            hook.remove()
    return sizes
