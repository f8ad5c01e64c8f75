"""Ce que train.py affiche avant et après un entraînement."""

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning

from gpt_lightning.layout import SHOWN
from gpt_lightning.model import GPTModel, cost
from gpt_lightning.model.classifier import GPTClassifier
from gpt_lightning.model.lora import LoRAConfig
from gpt_lightning.model.trainable import flops_per_token, is_frozen, n_trainable
from gpt_lightning.training.baselines import baselines, quality
from gpt_lightning.training.callbacks import film
from gpt_lightning.training.callbacks.page import ReportPage
from gpt_lightning.training.data import LabelledData
from gpt_lightning.training.hardware import Machine, peak_memory
from gpt_lightning.training.module import GPTModule
from gpt_lightning.training.plan import Plan
from gpt_lightning.training.run_config import RunConfig
from gpt_lightning.weights import StartingPoint
from gpt_lightning.wording import duration, magnitude, number, parameters_of, percent

# du débit mesuré, ce qu'un entraînement atteint à peu près ; « au moins » suppose tout le débit
EFFICIENCY = 0.5
log = logging.getLogger("gpt_lightning")  # seul le premier processus écrit ses informations


def before(
    run: RunConfig, machine: Machine, module: GPTModule, start: StartingPoint, seconds: float | None
) -> list[str]:
    """Annonce ce qui sera fait : appareil, corpus, modèle, mémoire, plan, durée estimée (secondes), point de départ.

    Renvoie ces lignes.
    """
    config, plan = module.model.config, module.plan
    memory = cost.training_memory(
        config,
        batch_size=run.data["batch_size"],
        length=run.length,
        precision=machine.precision,
        fused_attention=config.kernels == "fused" and (machine.device.type != "cpu" or config.drop_rate == 0),
        learned=n_trainable(module.model),
        head=not isinstance(module.model, GPTClassifier),
    )
    flops = flops_per_token(module.model, run.length)
    lines = [
        _device_line(machine.device.type, machine.world_size, machine.precision, module.compiled),
        module.data.summary,
        _model_line(cost.n_parameters(config), flops, memory),
    ]
    if is_frozen(module.model):
        everything = sum(p.numel() for p in module.model.parameters())
        adapters = module.adapted.config if module.adapted else None
        full = cost.BYTES_PER_PARAMETER[machine.precision] * everything
        lines.append(
            _learning_line(n_trainable(module.model), everything, adapters, memory["parameters"], full)
        )
    lines.append(_plan_line(plan, seconds))
    if film_line := film.describe((run.callbacks or {}).get("film"), module.model, bool(module.labels)):
        lines.append(film_line)
    lines.append(_optimizer_line(module.optim.optimizer.__name__, module.optim.lr, plan.tokens_per_step))
    if start.source:
        own = start.tokenizer is not None
        lines.append(_start_line(start.source, cost.n_parameters(config), own))
    if run.ckpt_path:
        lines.append(f"Reprise    : {run.ckpt_path}, pas {number(plan.done_steps)}")
    for line in lines:
        log.info(line)
    return lines


def estimate_seconds(model: GPTModel, plan: Plan, length: int, rate: float | None) -> float | None:
    """Ordre de grandeur de la durée : les FLOP du plan, à la part EFFICIENCY du débit `rate` (FLOP/s)."""
    if plan.total_tokens is None or rate is None:
        return None
    return flops_per_token(model, length) * (plan.total_tokens - plan.done_tokens) / rate / EFFICIENCY


def after(
    trainer: lightning.Trainer, module: GPTModule, folder: Path, seconds: float, following: Sequence[str]
) -> float:
    """Affiche la table de la fin (pertes, coût, fichiers, commandes suivantes), et renvoie la perte de validation."""
    compared = []
    if isinstance(module.data, LabelledData) and trainer.is_global_zero:
        log.info("Comparé à   : les mêmes textes, par des méthodes sans réseau...")
        pairs = {split: [row[:2] for row in rows] for split, rows in module.data.texts.items()}
        compared = baselines(pairs["train"], pairs["val"], module.labels)
    results = {
        **module.metrics,
        "baselines": compared,
        "best": best_score(trainer),
        "tokens": module.seen.tokens,
        "memory": peak_memory(trainer.strategy.root_device),
        "disk": disk_usage(folder),
    }
    rows = _results(results, seconds)
    callbacks: list[lightning.Callback] = trainer.callbacks  # type: ignore[attr-defined]
    pages = [callback for callback in callbacks if isinstance(callback, ReportPage)]
    for page in pages:
        page.finish(rows, following)
    written = next((page.path for page in pages if page.path is not None), None)
    log.info(_end_table(str(folder), rows, list_files(folder), written, following))
    return module.metrics["val/loss"]


def disk_usage(folder: Path) -> int:
    """La place que prend un dossier sur le disque, en octets ; un fichier à deux noms compte une fois."""
    files = [path.lstat() for path in folder.rglob("*") if path.is_file()]
    return sum({(file.st_dev, file.st_ino): file.st_size for file in files}.values())


def list_files(folder: Path) -> list[str]:
    """Les fichiers d'un dossier d'exécution, tels que la table de la fin les nomme."""
    names = []
    for name in SHOWN:
        path = folder / name
        inside = sorted(file.name for file in path.iterdir()) if path.is_dir() else []
        if path.exists():
            few = inside if 0 < len(inside) <= 3 else []
            names.append(f"{name}/{{{', '.join(few)}}}" if len(few) > 1 else f"{name}/" if inside else name)
    return names


def best_score(trainer: lightning.Trainer) -> float | None:
    """La meilleure perte de validation que les checkpoints ont retenue."""
    scores = [getattr(callback, "best_model_score", None) for callback in trainer.checkpoint_callbacks]
    losses = [float(score) for score in scores if score is not None]
    return min((loss for loss in losses if not math.isnan(loss)), default=None)


def _device_line(name: str, count: int, precision: str, compiled: bool) -> str:
    """L'appareil, le nombre de processus et la précision."""
    line = f"Appareil   : {name}, précision {precision}" + (", compilé" if compiled else "")
    if count > 1 and name == "cpu":
        line += f"\n             {count} processus sur CPU (gloo) : pour essayer, pas pour aller plus vite"
    elif count > 1:
        line += f", {count} processus"
    return line


def _model_line(parameters: int, flops: int, memory: Mapping[str, int]) -> str:
    """La taille du modèle, ses FLOP par jeton, la mémoire estimée d'un processus (octets)."""
    return (
        f"Modèle     : {parameters_of(parameters)}, {magnitude(flops, 'FLOP')} par jeton\n"
        f"             mémoire estimée {magnitude(sum(memory.values()), 'o')} par processus "
        f"(poids et AdamW {magnitude(memory['parameters'], 'o')}, activations "
        f"{magnitude(memory['activations'], 'o')}, logits {magnitude(memory['logits'], 'o')})"
    )


def _learning_line(learned: int, everything: int, adapters: LoRAConfig | None, memory: int, full: int) -> str:
    """Ce qui apprend quand le reste est gelé : sa part des paramètres, sa mémoire, et celle du tout (octets)."""
    what = "seule une partie apprend"
    if adapters is not None:
        what = f"LoRA de rang {adapters.rank} sur {', '.join(adapters.modules)}"
    return (
        f"Apprennent : {what}, {parameters_of(learned)} sur {magnitude(everything)} ({percent(learned / everything)})\n"
        f"             poids et AdamW : {magnitude(memory, 'o')} au lieu de {magnitude(full, 'o')}"
    )


def _plan_line(plan: Plan, seconds: float | None) -> str:
    """La longueur de l'entraînement, en pas, époques et jetons, sa durée estimée (secondes), et ce qu'il ne lit pas."""
    steps, epochs, tokens = plan.total_steps, plan.epochs, plan.tokens_per_step
    if steps is None or epochs is None:
        length = "jusqu'à la limite de temps"
    else:
        length = f"{number(steps)} pas, {number(epochs, 1)} époques, {number(steps * tokens)} jetons"
    batch = f"{number(tokens)} jetons par pas"
    if plan.accumulate > 1:
        batch += f" ({plan.accumulate} lots accumulés)"
    time = (
        ""
        if seconds is None
        else f"\n             au moins {duration(max(1, seconds * EFFICIENCY))} ; les pas 10, 30 et 100 le diront mieux"
    )
    left_out = (
        f"\n             chaque époque laisse {number(plan.left_out)} fenêtre{'s' * (plan.left_out > 1)}, faute de "
        f"remplir un pas : l'ordre change, une autre les lit"
    )
    return f"Plan       : {length} ; {batch}{time}{left_out * (plan.left_out > 0)}"


def _optimizer_line(name: str, lr: float, tokens_per_step: int) -> str:
    """L'optimiseur, son taux d'apprentissage au sommet, et le lot auquel il s'applique."""
    rate = f"{lr:.4g}".replace(".", ",")
    return (
        f"Optimiseur : {name}, taux d'apprentissage {rate} pour des pas de {number(tokens_per_step)} jetons"
    )


def _results(results: Mapping[str, Any], seconds: float) -> list[tuple[str, str]]:
    """Les résultats, un par ligne : la perte (nats par jeton), et ce qu'elle a coûté."""
    last, best = results["val/loss"], results["best"]
    best = last if best is None else best
    lines = [("perte de validation", f"{number(last, 4)} ; la meilleure {number(best, 4)}")]
    if "val/accuracy" in results:
        lines.append(("exactitude", quality(results["val/accuracy"], results["val/f1"])))
        lines += results["baselines"]
    else:
        lines.append(("perplexité", f"la meilleure {number(math.exp(min(best, 700)), 1)}"))
    if "val/bits_per_byte" in results:
        lines.append(("bits par octet", number(results["val/bits_per_byte"], 3)))
    if "sample/copied" in results:
        least = number(results["sample/copied_least"])
        lines.append(
            ("part copiée", f"{percent(results['sample/copied'])}, passages d'au moins {least} mots")
        )
    lines += [("jetons", number(results["tokens"])), ("durée", duration(seconds))]
    if "tokens_per_second" in results:
        lines.append(("débit", f"{number(results['tokens_per_second'])} jetons/s, à la fin"))
    if "mfu" in results:
        lines.append(("part de la crête", f"{number(100 * results['mfu'], 1)} % (MFU)"))
    if results["memory"] is not None:
        lines += [("pic de mémoire", magnitude(results["memory"], "o"))]
    return [*lines, ("place prise", magnitude(results["disk"], "o"))]


def _end_table(
    output_dir: str,
    rows: Sequence[tuple[str, str]],
    files: Sequence[str],
    page: Path | None,
    following: Sequence[str],
) -> str:
    """La table de la fin : les résultats, les fichiers, la page, les commandes suivantes."""
    lines = [*rows, ("fichiers", ", ".join(files))]
    table = "\n".join(f"  {name:<20} {value}" for name, value in lines)
    shown = f"\nPage       : {page}" if page is not None else ""
    return f"\nFini.\n{table}\nDossier    : {output_dir}{shown}\nEt maintenant :\n" + "\n".join(
        f"    {line}" for line in following
    )


def _start_line(source: str, parameters: int, own_tokenizer: bool) -> str:
    """Les poids de départ, et le tokenizer qui va avec."""
    tokenizer = "avec son tokenizer" if own_tokenizer else "le tokenizer est celui de tokenizer="
    return f"Départ     : {source}, {parameters_of(parameters)}, {tokenizer}"
