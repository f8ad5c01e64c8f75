"""Le lot continu du serveur : `python -m gpt_lightning.demos.batching rows=3`.

Des demandes de longueurs différentes se partagent `rows` lignes d'un lot. À gauche, un lot attend que la plus longue
finisse ; à droite, `decoding.batching.Batch`, le lot du serveur, donne une ligne libre à la demande suivante.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from gpt_lightning.decoding import Strategy
from gpt_lightning.decoding.batching import Arrival, Batch, Row
from gpt_lightning.demos.temperature import save
from gpt_lightning.errors import whole
from gpt_lightning.model import GPTConfig, GPTModel
from gpt_lightning.wording import percent

WRITING, EMPTY, WAITING = "#0072B2", "#F0C9A0", "#DDDDDD"
LESSON = """
Une passe lit tous les poids du modèle, pour une ligne comme pour plusieurs : une ligne vide est du temps perdu. Le lot
continu n'en laisse pas tant qu'une demande attend, et la première réponse n'attend plus la plus longue."""


@dataclass(frozen=True)
class Schedule:
    """Les passes [first, end) où chaque demande s'écrit, et celle où sa ligne est libre pour une autre."""

    spans: list[tuple[int, int]]
    released: list[int]
    rows: int

    @property
    def passes(self) -> int:
        """Les passes du modèle, en tout."""
        return max(self.released)

    @property
    def occupancy(self) -> float:
        """La part des lignes où un jeton s'écrit, sur toutes les passes."""
        return sum(end - first for first, end in self.spans) / (self.passes * self.rows)


def compute(lengths: Sequence[int], rows: int) -> dict[str, Schedule]:
    """Quand s'écrivent des demandes de ces longueurs (en jetons), arrivées ensemble, sur `rows` lignes.

    UserError si une longueur ou le nombre de lignes n'est pas un entier de 1 à 64.
    """
    whole("rows", rows, 1, 64)
    for length in lengths:
        whole("lengths", length, 1, 64)
    spans, released, began = [], [], 0
    for start in range(0, len(lengths), rows):
        group = lengths[start : start + rows]
        spans += [(began, began + length) for length in group]
        began += max(group)
        released += [began] * len(group)
    continuous = _continuous(lengths, rows)
    return {
        "lot fixe": Schedule(spans, released, rows),
        "lot continu": Schedule(continuous, [end for _, end in continuous], rows),
    }


def _continuous(lengths: Sequence[int], rows: int) -> list[tuple[int, int]]:
    """Les passes de chaque demande, notées pendant que le lot du serveur les écrit, avec un petit modèle."""
    torch.manual_seed(0)
    config = GPTConfig(vocab_size=50, context_length=80, emb_dim=16, n_heads=2, n_layers=1)
    batch = Batch(GPTModel(config).eval(), rows)
    requests = [Row([1], Strategy(), max_new_tokens=length, seed=rank) for rank, length in enumerate(lengths)]
    waiting, passes = list(requests), 0
    written: dict[int, list[int]] = {rank: [] for rank in range(len(requests))}
    while waiting or any(len(written[rank]) < length for rank, length in enumerate(lengths)):
        while waiting and batch.free:
            batch.join(Arrival([waiting.pop(0)]))
        for token in batch.step():
            written[requests.index(token.row)].append(passes)
        passes += 1
    return [(passes[0], passes[-1] + 1) for passes in written.values()]


def render(schedules: dict[str, Schedule], folder: Path) -> list[Path]:
    """Écrit batching.pdf et batching.png dans `folder` : une ligne par demande, une colonne par passe du modèle."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(10, 3.8), layout="constrained")
    panels = figure.subplots(1, len(schedules), sharex=True, sharey=True)
    for panel, (title, schedule) in zip(panels, schedules.items(), strict=True):
        for line, ((first, end), free) in enumerate(zip(schedule.spans, schedule.released, strict=True), 1):
            panel.barh(line, first, height=0.4, color=WAITING)
            panel.barh(line, end - first, left=first, height=0.8, color=WRITING)
            panel.barh(line, free - end, left=end, height=0.8, color=EMPTY)
        panel.set_title(
            f"{title} : {schedule.passes} passes, lignes remplies à {percent(schedule.occupancy)}",
            fontsize=10,
        )
        panel.set_xlabel("passe du modèle")
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    panels[0].set_ylabel("demande")
    panels[0].invert_yaxis()
    named = {"attend": WAITING, "s'écrit": WRITING, "ligne vide": EMPTY}
    figure.legend(
        handles=[Patch(color=colour, label=label) for label, colour in named.items()],
        loc="outside lower center",
        ncols=3,
    )
    return save(figure, folder, "batching")


def main() -> None:
    """La commande : lit la configuration, puis appelle `demo`."""
    from gpt_lightning import cli

    cli.run(demo, "demos/batching")


def demo(settings: dict) -> None:
    """Dessine l'attente de demandes de `lengths` jetons sur `rows` lignes, dans `output_dir`."""
    for path in render(compute(settings["lengths"], settings["rows"]), Path(settings["output_dir"])):
        print(path)
    print(LESSON)


if __name__ == "__main__":
    main()
