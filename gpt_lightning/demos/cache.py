"""Ce que le cache des clés et des valeurs évite de recalculer : `python -m gpt_lightning.demos.cache`.

Un petit modèle écrit deux fois les mêmes jetons, sans cache puis avec ; un crochet note les positions de chaque passe.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from gpt_lightning.demos.temperature import save
from gpt_lightning.errors import whole
from gpt_lightning.model import GPTConfig, GPTModel
from gpt_lightning.model.cache import KVCache
from gpt_lightning.wording import number

COMPUTED, READ = "#0072B2", "#BBD9EC"
LESSON = """
Sans cache, chaque jeton refait le calcul de tous ceux qui le précèdent. Avec, la passe ne calcule que lui : elle lit
dans le cache les clés et les valeurs des autres. Le texte écrit est le même ; la mémoire, elle, croît avec le texte."""


@dataclass(frozen=True)
class Pass:
    """Une passe avant : les positions [first, end) qu'elle calcule ; elle lit celles d'avant dans le cache."""

    first: int
    end: int


def compute(start: int, new: int, seed: int = 0) -> tuple[dict[str, list[Pass]], list[int]]:
    """Les passes qui écrivent `new` jetons après un texte de `start` jetons, sans et avec cache, et ces jetons.

    UserError si l'un des deux n'est pas un entier de 1 à 64.
    """
    whole("start", start, 1, 64)
    whole("new", new, 1, 64)
    torch.manual_seed(seed)
    config = GPTConfig(vocab_size=50, context_length=start + new, emb_dim=16, n_heads=2, n_layers=1)
    model = GPTModel(config).eval()
    prompt = torch.randint(config.vocab_size, (1, start))
    lengths: list[int] = []

    def note(layer: nn.Module, arguments: tuple) -> None:
        lengths.append(arguments[0].shape[1])

    model.trf_blocks[0].register_forward_pre_hook(note)
    without = _write(model, prompt, new, None)
    alone = [Pass(0, length) for length in lengths]
    lengths.clear()
    cache = KVCache.empty(config, batch_size=1, capacity=config.context_length)
    tokens = _write(model, prompt, new, cache)
    assert tokens == without  # le cache ne change pas le texte
    ends = torch.tensor(lengths).cumsum(0).tolist()
    cached = [Pass(end - length, end) for length, end in zip(lengths, ends, strict=True)]
    return {"sans cache": alone, "avec cache": cached}, tokens


@torch.inference_mode()
def _write(model: GPTModel, ids: torch.Tensor, new: int, cache: KVCache | None) -> list[int]:
    """Écrit `new` jetons, le plus probable à chaque pas."""
    written: list[int] = []
    for _ in range(new):
        unread = ids if cache is None else ids[:, int(cache.position) :]
        token = model.next_logits(unread, cache).argmax(-1, keepdim=True)
        ids = torch.cat((ids, token), dim=1)
        written.append(int(token))
    return written


def render(passes: dict[str, list[Pass]], folder: Path) -> list[Path]:
    """Écrit cache.pdf et cache.png dans `folder` : une ligne par passe, une colonne par position."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(10, 4.4), layout="constrained")
    panels = figure.subplots(1, len(passes), sharex=True, sharey=True)
    for panel, (title, rows) in zip(panels, passes.items(), strict=True):
        for line, row in enumerate(rows, start=1):
            panel.barh(line, row.first, left=0, height=0.86, color=READ)
            panel.barh(line, row.end - row.first, left=row.first, height=0.86, color=COMPUTED)
        count = sum(row.end - row.first for row in rows)
        panel.set(title=f"{title} : {number(count)} positions calculées", xlabel="position dans le texte")
        panel.margins(x=0)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.yaxis.set_major_locator(MaxNLocator(integer=True))
    panels[0].set_ylabel("passe du modèle (un jeton écrit)")
    panels[0].invert_yaxis()
    handles = [Patch(color=COMPUTED, label="calculée"), Patch(color=READ, label="lue dans le cache")]
    panels[1].legend(handles=handles, loc="upper right")
    figure.suptitle("Le cache des clés et des valeurs (KV cache)", fontsize=11)
    return save(figure, folder, "cache")


def main() -> None:
    """La commande : lit la configuration, puis appelle `demo`."""
    from gpt_lightning import cli

    cli.run(demo, "demos/cache")


def demo(settings: dict) -> None:
    """Dessine les passes qui écrivent `new` jetons après `start`, dans `output_dir`."""
    passes, _ = compute(settings["start"], settings["new"], settings["seed"])
    for path in render(passes, Path(settings["output_dir"])):
        print(path)
    print(LESSON)


if __name__ == "__main__":
    main()
