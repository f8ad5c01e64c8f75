"""Où regarde chaque tête : `python -m gpt_lightning.demos.attention prompt="Le chat dort"`.

Dessine le masque causal et les poids d'attention d'une couche du modèle sur un texte.
"""

from dataclasses import dataclass
from math import ceil, sqrt
from pathlib import Path

import torch
from torch import Tensor

from gpt_lightning.decoding import Strategy, TextStream
from gpt_lightning.decoding.text import prompt_ids
from gpt_lightning.demos import toy
from gpt_lightning.demos.temperature import save
from gpt_lightning.errors import UserError, whole
from gpt_lightning.model import GPTModel
from gpt_lightning.tokenizers import Tokenizer
from gpt_lightning.typing import Settings

LESSON = """Chaque ligne est un jeton qui lit, chaque colonne un jeton lu ; une ligne somme à 1, et le futur est masqué.

À retenir : chaque tête cherche autre chose (le jeton d'avant, le début du texte) ; personne ne le lui a dit."""
# une teinte par tête (Okabe et Ito), du blanc à la couleur
HUES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


@dataclass(frozen=True)
class Attention:
    """Les jetons du texte et les poids d'une couche : (H, T, T), chaque ligne somme à 1."""

    tokens: list[str]
    layer: int
    weights: Tensor


@torch.no_grad()
def compute(model: GPTModel, tokenizer: Tokenizer, prompt: str, *, layer: int) -> Attention:
    """Les poids d'attention de la couche `layer` (comptée depuis 0, négative depuis la fin) sur `prompt`.

    UserError si la couche n'existe pas.
    """
    n_layers = model.config.n_layers
    if not -n_layers <= layer < n_layers:
        raise UserError(f"layer={layer} : le modèle a {n_layers} couches, de 0 à {n_layers - 1}.")
    layer %= n_layers
    ids = prompt_ids(tokenizer, prompt)[-model.config.context_length :]
    device = next(model.parameters()).device
    weights = model.attention(torch.tensor([ids], device=device), layer)[0].float().cpu()
    return Attention([toy.in_figure(toy.readable_token(tokenizer, token)) for token in ids], layer, weights)


def render(attention: Attention, folder: Path) -> list[Path]:
    """Écrit attention.pdf et attention.png dans `folder` : le masque, puis une image par tête."""
    from matplotlib.colors import (  # la racine rend visibles les petits poids
        LinearSegmentedColormap,
        PowerNorm,
    )
    from matplotlib.figure import Figure

    n_tokens, n_heads = len(attention.tokens), len(attention.weights)
    columns = ceil(sqrt(n_heads + 1))
    rows = -(-(n_heads + 1) // columns)
    figure = Figure(figsize=(3.4 * columns, 3.4 * rows + 0.6), layout="constrained")
    panels = iter(figure.subplots(rows, columns, squeeze=False).flat)
    mask = torch.ones(n_tokens, n_tokens).tril()
    images = [("masque causal", mask), *((f"tête {h}", w) for h, w in enumerate(attention.weights))]
    for title, image in images:
        panel = next(panels)
        hue = HUES[panel.get_subplotspec().num1 % len(HUES)]
        colours = LinearSegmentedColormap.from_list(title, ["white", hue])
        drawn = panel.imshow(image, cmap=colours, norm=PowerNorm(0.5, 0, 1))
        bar = figure.colorbar(drawn, ax=panel, shrink=0.8)
        bar.set_ticks([0, 0.1, 0.5, 1], labels=["0", "0,1", "0,5", "1"])
        panel.set(title=title, xticks=range(n_tokens), yticks=range(n_tokens))
        panel.set_xticklabels(attention.tokens, rotation=90, fontsize=8)
        panel.set_yticklabels(attention.tokens, fontsize=8)
    for panel in panels:  # les cases qui restent
        panel.set_axis_off()
    figure.suptitle(
        f"Qui regarde qui : couche {attention.layer} (ligne : le jeton qui lit, colonne : le jeton lu ; poids)"
    )
    return save(figure, folder, "attention")


def main() -> None:
    """La commande : lit la configuration, puis appelle `demo`."""
    from gpt_lightning import cli

    cli.run(demo, "demos/attention")


def demo(settings: Settings) -> None:
    """Dessine l'attention du modèle de `ckpt_path` sur `prompt`, dans `output_dir`."""
    model, tokenizer, prompt = toy.subject(settings)
    if settings["prompt"] is None:  # un début est trop court pour une image : le modèle le continue
        stream = TextStream(model, tokenizer, [prompt], strategy=Strategy(temperature=0), max_new_tokens=14)
        prompt += "".join(text for _, text in stream)
    attention = compute(model, tokenizer, prompt, layer=whole("layer", settings["layer"], None))
    for path in render(attention, Path(settings["output_dir"])):
        print(path)
    print(LESSON)


if __name__ == "__main__":
    main()
