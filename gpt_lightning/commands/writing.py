"""Le travail de generate.py : lire les textes de départ, écrire leurs suites sur stdout ou dans un .jsonl."""

import contextlib
import csv
import io
import json
import os
import select
import stat
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from gpt_lightning import durable
from gpt_lightning.errors import UserError, choice, whole
from gpt_lightning.wording import duration, number

if TYPE_CHECKING:
    from gpt_lightning.decoding import Continuation, TextStream

SEPARATOR = "---"
SOURCES = ("prompt", "prompt_file", "prompts_file")


def check_sources(settings: dict[str, Any]) -> None:
    """UserError si les textes de départ, ou le fichier à écrire, ne vont pas ensemble."""
    given = [key for key in SOURCES if settings[key] is not None]
    if len(given) > 1 or (given and settings.get("interactive")):
        both = given[:2] if len(given) > 1 else [*given, "interactive"]
        raise UserError(f"{both[0]}= et {both[1]}= ne vont pas ensemble : gardez l'un des deux.")
    if settings["output"] is not None and settings["prompts_file"] is None:
        raise UserError(
            "output= reçoit les suites de prompts_file= ; pour un seul texte, redirigez : ... > fichier."
        )
    if settings["output"] is not None and Path(settings["output"]).exists():
        raise UserError(f"output={settings['output']} existe déjà : rien n'est écrasé, donnez un autre nom.")
    if settings["output"] is not None and not Path(settings["output"]).absolute().parent.is_dir():
        raise UserError(f"Le dossier de output={settings['output']} n'existe pas : créez-le d'abord.")


def check(settings: dict[str, Any]) -> None:
    """UserError sur ce qui ne va pas ensemble, avant de charger quoi que ce soit."""
    check_sources(settings)
    if settings["interactive"] and settings["num_samples"] != 1:
        raise UserError("interactive=true ne montre qu'une suite à la fois : retirez num_samples.")
    if "" in (settings["stop"] or ()):
        raise UserError("stop= est vide : il faut le texte devant lequel s'arrêter.")
    for key in ("batch_size", "num_samples"):
        whole(key, settings[key])
    whole("max_new_tokens", settings["max_new_tokens"], 0)
    if settings["seed"] is not None:
        whole("seed", settings["seed"], 0)
    for key in ("logprobs", "stream", "interactive"):
        choice(key, settings[key], (True, False))


def read_prompt(settings: dict[str, Any], default: str) -> str:
    """Le texte à continuer : prompt=, prompt_file=, ce qui est envoyé sur l'entrée standard, sinon `default`.

    Le retour à la ligne qui finit un fichier n'est pas du texte.
    """
    given = _given_prompt(settings)
    nothing = settings["prompt"] is None and settings["prompt_file"] is None
    return given or (default if nothing else "")


def _given_prompt(settings: dict[str, Any]) -> str:
    if settings["prompt"] is not None:
        return settings["prompt"]
    if settings["prompt_file"] is not None:
        return _without_last_newline(_read(settings["prompt_file"]))
    if not _may_be_piped():
        return ""
    if not _stdin_has_text():
        print(
            "[rien sur l'entrée standard : texte de départ par défaut ; « - » l'attendrait]", file=sys.stderr
        )
        return ""
    return _without_last_newline(_read("-"))


def write_text(stream: "TextStream", *, source: str, context: int, live: bool) -> None:
    """Écrit chaque texte et sa suite sur stdout, séparés par « --- », le premier au fur et à mesure si `live`.

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


def read_prompts(path: str) -> list[str]:
    """Un texte par ligne. UserError s'il n'y en a aucun."""
    content = _without_last_newline(_read(path))
    if not content:
        raise UserError(f"prompts_file={path} est vide : il faut un texte par ligne.")
    return content.split("\n")


def write_lines(
    prompts: Sequence[str],
    continued: "Callable[[Sequence[str], int], TextStream]",
    *,
    output: str | None,
    batch_size: int,
    source: str,
) -> None:
    """Une ligne JSON par suite : prompt, text (la suite), tokens, reason, et logprobs si elles sont demandées.

    `continued(textes, première ligne)` rend un TextStream. Chaque lot est écrit dès qu'il est fini : une
    interruption garde ce qui est fait.
    """
    began, tokens, reasons = time.monotonic(), 0, []
    with durable.refusals(Path(output)) if output else contextlib.nullcontext():
        file = open(output, "x", encoding="utf-8") if output else sys.stdout  # noqa: SIM115
    try:
        for start, batch in _shown(prompts, batch_size):
            stream = continued(batch, start)
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
            with contextlib.suppress(OSError):  # dit plus haut
                file.close()
        seconds = time.monotonic() - began
        summary = _summary(source, reasons=reasons, tokens=tokens, seconds=seconds, first=None)
        print(summary, file=sys.stderr)


def write_labels(
    texts: Sequence[str], shares: Sequence[Sequence[float]], labels: Sequence[str], *, output: str | None
) -> None:
    """Une ligne par texte : son étiquette, sa probabilité, le texte ; en csv, en tsv, ou en jsonl avec toutes."""
    kind = Path(output).suffix.lower() if output else ".tsv"
    lines = io.StringIO()
    table = csv.writer(lines, delimiter="," if kind == ".csv" else "\t", lineterminator="\n")
    if kind != ".jsonl":
        table.writerow(("label", "probability", "text"))
    for text, several in zip(texts, shares, strict=True):
        best = max(range(len(labels)), key=lambda rank: several[rank])
        if kind == ".jsonl":
            every = {label: round(share, 4) for label, share in zip(labels, several, strict=True)}
            record = {"text": text, "label": labels[best], "probabilities": every}
            lines.write(json.dumps(record, ensure_ascii=False) + "\n")
        else:
            table.writerow((labels[best], f"{several[best]:.4f}", text))
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


def _shown(prompts: Sequence[str], batch_size: int) -> Iterator[tuple[int, Sequence[str]]]:
    """Les lots, avec leur rang ; l'avancement est dit sur stderr (une ligne réécrite sur un terminal)."""
    began = said = time.monotonic()
    for start in range(0, len(prompts), batch_size):
        yield start, prompts[start : start + batch_size]
        done, now = min(start + batch_size, len(prompts)), time.monotonic()
        line = lines_done(done, len(prompts), now - began)
        if sys.stderr.isatty():
            print(f"\r\033[K{line}", end="\n" if done == len(prompts) else "", file=sys.stderr, flush=True)
        elif now - said > 5 or done == len(prompts):
            said = now
            print(line, file=sys.stderr)


def _read(path: str) -> str:
    if path == "-":
        content, name = sys.stdin.buffer.read(), "l'entrée standard"
    else:
        content, name = Path(os.path.expanduser(path)).read_bytes(), path
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{name} n'est pas du texte UTF-8 (octet {error.start}) : convertissez-le.") from None


def _without_last_newline(text: str) -> str:
    return text.removesuffix("\n")


def _may_be_piped() -> bool:
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (AttributeError, OSError, UserError):  # fermée
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode)


def _stdin_has_text() -> bool:
    """Un tuyau que personne ne remplit ne doit pas bloquer : on l'attend une seconde."""
    if sys.platform == "win32":
        return True
    return bool(select.select([sys.stdin], [], [], 1.0)[0])


def _summary(
    source: str, *, reasons: Sequence[str | None], tokens: int, seconds: float, first: float | None
) -> str:
    """Le résumé d'une génération ; une raison None est une suite interrompue."""
    why = {"eos": "fin de texte", "stop": "texte d'arrêt", "length": "longueur atteinte", None: "interrompu"}
    counted = {reason: list(reasons).count(reason) for reason in reasons}
    ends = ", ".join(why[r] if len(reasons) == 1 else f"{why[r]} × {n}" for r, n in counted.items())
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


def lines_done(done: int, total: int, seconds: float) -> str:
    """Où en est un fichier de textes de départ."""
    left = f", reste {duration(seconds / done * (total - done))}" if done and done < total else ""
    return f"{number(done)} textes sur {number(total)}{left}"
