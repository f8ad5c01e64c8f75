"""Retrouver d'où vient un texte : `python -m gpt_lightning trace "Petit animal qui miaule."`."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from gpt_lightning import cli, durable, layout
from gpt_lightning.cli import defaults
from gpt_lightning.commands import ineffective
from gpt_lightning.commands.corpus import open_trained_corpus, sorting_line
from gpt_lightning.commands.prompts import read_prompt
from gpt_lightning.errors import UserError, whole
from gpt_lightning.typing import JsonObject, Settings
from gpt_lightning.wording import number, percent

TINTS = (
    "\033[30;48;5;230m",
    "\033[30;48;5;222m",
    "\033[30;48;5;209m",
)  # du court au long : jaune, orange, rouge
PLAIN = "\033[0m"
LONG = 60  # mots d'un passage écrits sur sa ligne
LISTED = 10  # passages décrits sous le texte, les plus longs


def trace(settings: Settings) -> None:
    """Écrit le texte, teinté là où il est mot pour mot dans le corpus, sa part copiée, et d'où vient chaque passage."""
    check(settings)

    from gpt_lightning.model.tasks import TASKS
    from gpt_lightning.weights import load_for_inference

    options = {key: settings[key] for key in ("n_heads", "device", "dtype", "threads")}
    loaded = load_for_inference(
        settings["ckpt_path"], tasks=tuple(TASKS), base=settings["base_path"], **options
    )
    text = read_prompt(settings, "" if loaded.labels else last_text(loaded.source))
    if not text.strip():
        raise UserError("Il n'y a pas de texte à retrouver : donnez-le par prompt= ou prompt_file=.")
    data = defaults.follow(settings, lambda values: open_trained_corpus(values["data"], loaded))
    traced = data.open_index(sorting_line())
    assert traced is not None  # construit s'il n'existait pas
    result = traced.explain(text, settings["least"])
    print(tint(text, result["passages"]) if _has_colours() else text)
    print(f"\n{summary(result)}")
    if settings["output"] is not None:
        content = json.dumps({"text": text, **result}, ensure_ascii=False, indent=1)
        durable.write_text(Path(settings["output"]), content + "\n")


def check(settings: Settings) -> None:
    """UserError sur un réglage qui n'a pas de sens, avant que rien ne soit lu."""
    if settings["prompt"] is not None and settings["prompt_file"] is not None:
        raise UserError("prompt= et prompt_file= ne vont pas ensemble : gardez l'un des deux.")
    whole("least", settings["least"])
    output = settings["output"]
    if output is not None and Path(output).exists():
        raise UserError(f"output={output} existe déjà : rien n'est écrasé, donnez un autre nom.")
    if output is not None and Path(output).suffix != ".json":
        raise UserError(f"output={output} : ce qui est retrouvé s'écrit en JSON, donnez un nom en .json.")
    if output is not None and not Path(output).absolute().parent.is_dir():
        raise UserError(f"Le dossier de output={output} n'existe pas : créez-le d'abord.")


def last_text(source: str) -> str:
    """Le dernier texte que l'entraînement de ce checkpoint a écrit ; vide s'il n'en a pas."""
    texts = sorted((layout.run_of(Path(source)) / layout.SAMPLES).glob("step_*.txt"))
    return texts[-1].read_text(encoding="utf-8").removesuffix("\n") if texts else ""


def tint(text: str, passages: Sequence[JsonObject]) -> str:
    """Le texte, teinté là où il est dans le corpus, d'autant plus que le passage est long."""
    tints = [0] * len(text)
    for passage in passages:
        depth = 1 + sum(passage["words"] >= size for size in (10, 20))
        for place in range(passage["begin"], passage["end"]):
            tints[place] = max(tints[place], depth)
    parts, before = list[str](), 0
    for character, depth in zip(text, tints, strict=True):
        if depth != before:
            parts.append(PLAIN * bool(before) + (TINTS[depth - 1] if depth else ""))
        parts.append(character)
        before = depth
    return "".join(parts) + PLAIN * bool(before)


def summary(result: JsonObject) -> str:
    """La part copiée, et d'où viennent les passages les plus longs."""
    passages = sorted(result["passages"], key=lambda passage: -passage["words"])
    lines = [
        f"{percent(result['covered'])} de ces mots sont dans des passages d'au moins {_words(result['shown'])}, "
        "venus tels quels du corpus.",
        f"Part copiée : {percent(result['share'])}, en passages d'au moins {_words(result['least'])} ; la "
        f"validation, que le modèle n'a pas apprise, n'en a que {percent(result['reference'])}.",
    ]
    for passage in passages[:LISTED]:
        several = f", {number(passage['times'])} fois" if passage["times"] > 1 else ""
        name = f" ({passage['document']})" if passage["document"] else ""
        before, here, after = (_on_a_line(passage[key]) for key in ("before", "text", "after"))
        lines += [
            f"{_words(passage['words'])}{several}, document {number(passage['rank'])}{name}, caractère "
            f"{number(passage['character'])} :",
            f"    … {before} « {here} » {after} …",
        ]
    left = len(passages[LISTED:]) + result["left_out"]
    if left:
        lines.append(f"Et {number(left)} autre{'s' * (left > 1)}, pas plus long{'s' * (left > 1)}.")
    return "\n".join(lines)


def _on_a_line(text: str) -> str:
    """Ce texte sur une ligne, ses deux bouts seulement s'il est long."""
    words = text.split()
    return " ".join(words if len(words) <= LONG else [*words[: LONG // 2], "[…]", *words[-LONG // 2 :]])


def _words(count: int) -> str:
    return f"{number(count)} mot{'s' * (count > 1)}"


def _has_colours() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def main() -> None:
    """La commande : compose conf/trace.yaml, avec le corpus de l'exécution, puis appelle `trace`."""
    cli.run(trace, "trace", inherits="data", ineffective=ineffective.TABLE)
