"""Le taux d'apprentissage en image : `python -m gpt_lightning.demos.schedule optim.schedule=wsd optim.warmup=200`."""

from dataclasses import replace
from pathlib import Path

from gpt_lightning.demos.temperature import save
from gpt_lightning.errors import whole
from gpt_lightning.training.optim import OptimConfig, resolve_lr
from gpt_lightning.training.schedule import SCHEDULES
from gpt_lightning.typing import Settings
from gpt_lightning.wording import tick

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00")


def compute(optim: OptimConfig, *, total_steps: int, tokens_per_step: int) -> dict[str, list[float]]:
    """Le taux d'apprentissage de chaque pas, pour chaque forme de `SCHEDULES` ; le reste est réglé par `optim`."""
    return {
        name: [
            optim.lr * replace(optim.schedule, schedule=name).factor(step, total_steps, tokens_per_step)
            for step in range(total_steps)
        ]
        for name in SCHEDULES
    }


def render(rates: dict[str, list[float]], chosen: str, folder: Path) -> list[Path]:
    """Écrit schedule.pdf et schedule.png : une courbe par forme, celle qui est choisie plus épaisse."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for (name, values), colour, style in zip(rates.items(), COLOURS, ("-", "--", "-.", ":"), strict=True):
        width, label = (3.0, f"{name} (choisie)") if name == chosen else (1.6, name)
        axes.plot(range(1, len(values) + 1), values, style, color=colour, linewidth=width, label=label)
    axes.set(
        title="Le taux d'apprentissage au fil de l'entraînement",
        xlabel="pas d'optimiseur",
        ylabel="taux d'apprentissage (sans unité)",
        ylim=(0, None),
    )
    axes.yaxis.set_major_formatter(FuncFormatter(tick))
    axes.grid(alpha=0.3)
    axes.legend()
    return save(figure, folder, "schedule")


def main() -> None:
    """La commande : lit la configuration, puis appelle `demo`."""
    from gpt_lightning import cli

    cli.run(demo, "demos/schedule")


def demo(settings: Settings) -> None:
    """Dessine les quatre formes, sur `total_steps` pas de `tokens_per_step` jetons."""
    from gpt_lightning.cli.targets import resolve

    for key in ("total_steps", "tokens_per_step"):
        whole(key, settings[key])
    optimizer = resolve("optim", settings["optim"]["_target_"])
    values = resolve_lr(settings["optim"], optimizer, whole("emb_dim", settings["emb_dim"]))
    optim = OptimConfig.from_dict(values, optimizer)
    sizes = {key: settings[key] for key in ("total_steps", "tokens_per_step")}
    for path in render(compute(optim, **sizes), optim.schedule.schedule, Path(settings["output_dir"])):
        print(path)
    print("À retenir : on monte pour ne pas diverger au début, on descend pour finir au fond de la vallée.")


if __name__ == "__main__":
    main()
