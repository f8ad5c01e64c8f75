"""Écrire ce que le modèle a produit : des complétions sur stdout ou dans un .jsonl, des étiquettes dans une table."""

import contextlib
import csv
import io
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

from gpt_lightning import durable
from gpt_lightning.commands.prompts import SEPARATOR
from gpt_lightning.errors import UserError
from gpt_lightning.wording import duration, number

if TYPE_CHECKING:
    from gpt_lightning.decoding import Continuation, TextStream


def write_text(stream: "TextStream", *, source: str, context: int, live: bool) -> None:
    """Écrit chaque texte et sa complétion sur stdout, séparés par « --- », le premier au fur et à mesure si `live`.

    Le résumé va sur stderr, même si l'on interrompt.
    """
    if stream.rows[0].unread:
        print(
            f"[le texte dépasse le contexte de {context} jetons : les "
            f"{number(stream.rows[0].unread)} premiers ne sont pas lus]",
            file=sys.stderr,
        )
    began, first = time.monotonic(), None
    if live:
        print(stream.rows[0].prompt, end="", flush=True)
    try:
        for row, text in stream:
            first = time.monotonic() - began if first is None else first
            if live and row == 0:
                print(text, end="", flush=True)
        finished = [row.prompt + row.text for row in stream.rows]
        if live:
            finished[0] = ""
        print(f"\n{SEPARATOR}\n".join(finished), flush=True)
    except KeyboardInterrupt:
        print(flush=True)
        raise
    finally:
        ids = [token for row in stream.rows for token in row.ids]
        reasons = [row.reason for row in stream.rows]
        seconds = time.monotonic() - began
        print(
            _summary(source, reasons=reasons, tokens=len(ids), seconds=seconds, first=first),
            file=sys.stderr,
        )
        if logprobs := [value for row in stream.rows for value in row.logprobs]:
            print(_likelihood(logprobs), file=sys.stderr)


def write_lines(
    prompts: Sequence[str],
    continue_texts: "Callable[[Sequence[str], int], TextStream]",
    *,
    output: str | None,
    batch_size: int,
    source: str,
) -> None:
    """Écrit une ligne JSON par complétion : prompt, text, tokens, reason, et logprobs si elles sont demandées.

    `continue_texts(textes, première ligne)` renvoie un TextStream. Chaque lot est écrit dès qu'il est fini : une
    interruption garde ce qui est fait.
    """
    began, tokens, reasons = time.monotonic(), 0, []
    with durable.refusals(Path(output)) if output else contextlib.nullcontext():
        file = open(output, "x", encoding="utf-8") if output else sys.stdout  # noqa: SIM115
    try:
        for start, batch in _batches(prompts, batch_size):
            stream = continue_texts(batch, start)
            for _ in stream:
                pass
            with durable.refusals(Path(output)) if output else contextlib.nullcontext():
                for row in stream.rows:
                    _write_record(file, row)
                    tokens += len(row.ids)
                    reasons.append(row.reason)
                file.flush()
    finally:
        if output:
            with contextlib.suppress(OSError):  # la commande l'a déjà dit
                file.close()
        seconds = time.monotonic() - began
        summary = _summary(source, reasons=reasons, tokens=tokens, seconds=seconds, first=None)
        print(summary, file=sys.stderr)


def write_labels(
    texts: Sequence[str], shares: Sequence[Sequence[float]], labels: Sequence[str], *, output: str | None
) -> None:
    """Écrit une ligne par texte : son étiquette, sa probabilité, le texte ; en csv, en tsv, ou en jsonl avec toutes."""
    kind = Path(output).suffix.lower() if output else ".tsv"
    lines = io.StringIO()
    table = csv.writer(lines, delimiter="," if kind == ".csv" else "\t", lineterminator="\n")
    if kind != ".jsonl":
        table.writerow(("label", "probability", "text"))
    for text, probabilities in zip(texts, shares, strict=True):
        best = max(range(len(labels)), key=lambda rank: probabilities[rank])
        if kind == ".jsonl":
            rounded = {label: round(share, 4) for label, share in zip(labels, probabilities, strict=True)}
            record = {"text": text, "label": labels[best], "probabilities": rounded}
            lines.write(json.dumps(record, ensure_ascii=False) + "\n")
        else:
            table.writerow((labels[best], f"{probabilities[best]:.4f}", text))
    if output:
        durable.write_text(Path(output), lines.getvalue())
    else:
        print(lines.getvalue(), end="", flush=True)


def check_table(output: str | None) -> None:
    """UserError si le nom du fichier à écrire ne dit pas un format de `write_labels`."""
    if output and Path(output).suffix.lower() not in (".csv", ".tsv", ".jsonl"):
        raise UserError(f"output={output} : il faut un nom en .csv, .tsv ou .jsonl.")


def _write_record(file: IO[str], row: "Continuation") -> None:
    record = {"prompt": row.prompt, "text": row.text, "tokens": len(row.ids), "reason": row.reason}
    if row.logprobs:
        record["logprobs"] = [round(value, 4) for value in row.logprobs]
    file.write(json.dumps(record, ensure_ascii=False) + "\n")


def _batches(prompts: Sequence[str], batch_size: int) -> Iterator[tuple[int, Sequence[str]]]:
    """Les lots, avec leur rang ; l'avancement s'affiche sur stderr (une ligne réécrite sur un terminal)."""
    began = shown = time.monotonic()
    for start in range(0, len(prompts), batch_size):
        yield start, prompts[start : start + batch_size]
        done, now = min(start + batch_size, len(prompts)), time.monotonic()
        line = progress_line(done, len(prompts), now - began)
        if sys.stderr.isatty():
            print(f"\r\033[K{line}", end="\n" if done == len(prompts) else "", file=sys.stderr, flush=True)
        elif now - shown > 5 or done == len(prompts):
            shown = now
            print(line, file=sys.stderr)


def _summary(
    source: str, *, reasons: Sequence[str | None], tokens: int, seconds: float, first: float | None
) -> str:
    """Le résumé d'une génération ; une raison None est une complétion interrompue."""
    why = {"eos": "fin de texte", "stop": "texte d'arrêt", "length": "longueur atteinte", None: "interrompu"}
    counts = {reason: list(reasons).count(reason) for reason in reasons}
    ends = ", ".join(why[r] if len(reasons) == 1 else f"{why[r]} × {n}" for r, n in counts.items())
    parts = [source, f"{number(tokens)} jetons"]
    if seconds:
        parts.append(f"{number(tokens / seconds, 1)} jetons/s")
    if first is not None:
        parts.append(f"premier jeton en {number(first, 2)} s")
    return f"[{' · '.join([*parts, ends])}]"


def _likelihood(logprobs: Sequence[float]) -> str:
    """La log-probabilité (nats) des jetons produits."""
    mean = sum(logprobs) / len(logprobs)
    return f"[log-probabilité moyenne {number(mean, 3)} nat par jeton, {number(sum(logprobs), 2)} en tout]"


def progress_line(done: int, total: int, seconds: float) -> str:
    """La phrase qui dit où en est un fichier de textes de départ."""
    left = f", reste {duration(seconds / done * (total - done))}" if done and done < total else ""
    return f"{number(done)} textes sur {number(total)}{left}"
