"""`ckpt_path=` et `resume=auto` : continuer une exécution avec ses propres réglages, dans son dossier.

Ses réglages sont des données : les valeurs de config.yaml, pour les clés que conf/ connaît. Sa ligne de commande n'est
jamais rejouée, et aucun `_target_` n'en vient, sauf celui de l'optimiseur, que `targets` juge.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from gpt_lightning import layout
from gpt_lightning.cli import console
from gpt_lightning.cli.arguments import literal_path, quote, shell_override, value_of
from gpt_lightning.cli.composition import choices, compose, compose_resolved
from gpt_lightning.cli.effects import READ_A_PATH
from gpt_lightning.cli.record import load_yaml
from gpt_lightning.errors import UserError
from gpt_lightning.layout import OUTPUTS, RECORD, SETTINGS, find_checkpoint, resumable_files
from gpt_lightning.typing import Settings

GROUPS = (
    "tokenizer",
    "data",
    "optim",
    "model",
    "lora",
    "decoding",
    "trainer",
    "callbacks",
    "logger",
    "experiment",
)  # ceux de train.yaml, dans son ordre
HERE = ("ckpt_path", "output_dir", "resume", "strict_resume")  # ce que la commande seule dit
PLACES = ("data.cache_dir",)  # où l'on écrirait : ce n'est pas à un dossier venu d'ailleurs de le dire
OPEN = ("optim",)  # un optimiseur quelconque (optim=target) a des clés à lui
DECIDED = ("optim.lr", "compile", "trainer.precision", "threads", "data.limit")  # auto, au départ


def resume_overrides(overrides: list[str], config_name: str) -> list[str]:
    """Pour `ckpt_path=`, les réglages de l'exécution reprise, son dossier, puis les surcharges de la ligne de commande.

    `resume=auto` est `ckpt_path=` sur `output_dir=` s'il s'y trouve un checkpoint, rien sinon.
    UserError si le checkpoint n'est pas dans un dossier d'exécution, ou si la commande demande un autre dossier.
    """
    source = _source(overrides)
    if source is None:
        return overrides
    checkpoint = find_checkpoint(source, prefer="last")
    run = layout.run_of(checkpoint)
    settings, record = load_yaml(run / SETTINGS), load_yaml(run / RECORD / "hydra.yaml")
    if not isinstance(settings, dict) or not isinstance(record, dict):
        missing = SETTINGS if not isinstance(settings, dict) else f"{RECORD}/hydra.yaml"
        raise UserError(
            f"{run} n'est pas un dossier d'exécution entier, il lui manque {missing} : "
            f"{shell_override('init_from', checkpoint)} part de ses poids."
        )
    asked = value_of("output_dir", overrides)
    if asked is not None and run.resolve() != Path(asked).resolve():
        raise UserError(
            f"ckpt_path= continue l'exécution dans son dossier, {run} : retirez output_dir={asked}, "
            f"ou partez de ses poids avec init_from=."
        )
    checkpoint = _newest_readable(checkpoint, run, value_of("strict_resume", overrides))
    if source in ("last", "best"):
        _name_those_without_checkpoint(run)
    overrides = [text for text in overrides if not _says_the_same(text, settings, record, overrides)]
    typed = {text.partition("=")[0].lstrip("+") for text in overrides}
    old = _as_overrides(config_name, settings, record, typed)
    rest = [text for text in overrides if text.partition("=")[0] not in HERE]
    where = [f"output_dir={quote(literal_path(run))}", f"ckpt_path={quote(literal_path(checkpoint))}"]
    return [*old, *where, *rest]


def _says_the_same(override: str, settings: Settings, record: Settings, overrides: list[str]) -> bool:
    """Vrai si cette surcharge redonne un choix de l'exécution, dont config.yaml garde ce qu'il est devenu.

    Un groupe a pu être complété d'après le corpus, les poids ou la machine. De `init_from`, c'est le fichier qu'il
    désignait : `best`, `last` et `auto` étaient ceux du premier jour, un dossier désigne un fichier qu'il contient. Ce
    que `auto` a décidé au départ reste, à moins que la commande (`overrides`) ne change tout le groupe.
    """
    key = override.partition("=")[0].lstrip("+")
    typed, group = value_of(key, [text.lstrip("+") for text in overrides]), key.partition(".")[0]
    if key in GROUPS:
        return typed is not None and _recorded_choices(record).get(key) == typed
    if key in DECIDED and typed == "auto":
        chosen = value_of(group, overrides) if group in GROUPS else None
        saved: Settings = settings if group == key else settings.get(group) or {}
        leaf = key.rpartition(".")[2]
        if chosen not in (None, _recorded_choices(record).get(group)) or leaf not in saved:
            return False
        console.log.info(f"{key}=auto : cette exécution garde {literal(saved[leaf])}, décidé à son départ.")
        return True
    start = settings.get("init_from")
    if key != "init_from" or typed is None or not isinstance(start, str):
        return False
    place = Path(start).absolute()
    return typed in ("auto", "best", "last", start) or Path(typed).absolute() in (place, *place.parents)


def refuse_in_sweep(overrides: list[str]) -> None:
    """UserError si un balayage demande de continuer une exécution : il en commence, et n'en continue aucune."""
    for key in ("ckpt_path", "resume"):
        if value_of(key, overrides) is not None:
            raise UserError(
                f"{key}= continue une seule exécution : dans un balayage, init_from= part de ses poids."
            )


def _newest_readable(checkpoint: Path, run: Path, strict: str | None) -> Path:
    """`checkpoint` s'il est entier, sinon le plus récent de `run` qui l'est. UserError s'il ne se reprend pas."""
    from gpt_lightning.weights.loading import first_whole, resumable

    others = [path for path in resumable_files(run) if path.name != checkpoint.name]

    def read(path: Path) -> Path:
        resumable(str(path))
        return path

    return first_whole([checkpoint, *others], read, strict=str(strict).lower() == "true")


def _source(overrides: list[str]) -> str | None:
    """Ce que la commande reprend : `ckpt_path`, ou avec resume=auto le dossier `output_dir` s'il a un checkpoint."""
    source, auto = value_of("ckpt_path", overrides), value_of("resume", overrides)
    if auto is None:
        return source
    if auto != "auto":
        raise UserError(
            f"resume={auto} : il n'y a que resume=auto, avec output_dir= ; ckpt_path=last reprend la dernière "
            "exécution."
        )
    folder = value_of("output_dir", overrides)
    if source is not None or folder is None:
        raise UserError(
            "resume=auto demande output_dir=, le dossier que la commande retrouve, et pas ckpt_path=."
        )
    return folder if resumable_files(Path(folder)) else None


def _name_those_without_checkpoint(taken: Path) -> None:
    """Affiche le dossier d'une exécution plus récente que `last` passe, faute d'un checkpoint."""
    began = (taken / RECORD).stat().st_mtime_ns
    for record in sorted(OUTPUTS.glob(f"**/{RECORD}")):
        run = record.parent
        if record.is_dir() and record.stat().st_mtime_ns > began and not layout.has_checkpoint(run):
            console.log.info(
                f"{run} s'est arrêtée avant son premier checkpoint : la reprise est celle de {taken}."
            )


def _as_overrides(config_name: str, settings: Settings, record: Settings, typed: set[str]) -> list[str]:
    """Écrit les réglages d'une exécution en surcharges : ses choix de groupes, puis ce qui diffère de conf/.

    Deux fois : les valeurs simples d'abord, puis celles qui se déduisaient d'autres et ont été données à part.
    Un groupe que la commande choisit (`typed`) n'en vient pas.
    """
    chosen = _choices(record, typed)
    if "logger" not in typed and not any(text.startswith("logger=") for text in chosen):
        chosen.append(_loggers(settings))
    before = settings.get("output_dir")
    place = [f"output_dir={quote(str(before))}"] if isinstance(before, str) else []
    changed: list[str] = []
    for deduced in (False, True):
        usual, raw = compose_resolved(config_name, *chosen, *changed, *place)
        for key, value, is_ours in _differences(settings, usual, raw, deduced):
            if key.partition(".")[0] in (*HERE, *(typed & set(GROUPS))):
                continue
            if _is_inherited(key, value, is_ours):
                changed.append(f"{'' if is_ours else '++'}{key}={literal(value)}")
            elif deduced and not any(f"{name}.".startswith(f"{key}.") for name in typed):
                console.log.info(
                    f"{key} n'est pas repris de ce dossier : redonnez-le "
                    f"({'' if is_ours else '+'}{key}=...) si vous y tenez."
                )
    return [*chosen, *(text for text in changed if text.lstrip("+").partition("=")[0] not in typed)]


def _choices(record: Settings, typed: set[str]) -> list[str]:
    chosen = _recorded_choices(record)
    pairs = [(group, chosen.get(group)) for group in GROUPS if group not in typed]
    return [f"{group}={name}" for group, name in pairs if name in choices(group)]


def _recorded_choices(record: Settings) -> Settings:
    """Le choix de chaque groupe que Hydra a noté. UserError s'il n'y en a pas."""
    try:
        return dict(record["hydra"]["runtime"]["choices"])
    except (KeyError, TypeError, ValueError):
        raise UserError(
            "Reprise impossible : .hydra/hydra.yaml ne dit pas les choix de l'exécution."
        ) from None


def _loggers(settings: Settings) -> str:
    """Le groupe logger de ces réglages : une liste, dont Hydra ne note pas le choix."""
    nodes = settings.get("logger") or {}
    listed = [name for name in choices("logger") if isinstance(nodes.get(name), dict)]
    return f"logger=[{','.join(listed)}]" if listed else "logger=none"


def _differences(
    saved: Settings, usual: Settings, raw: Settings, deduced: bool, key: str = ""
) -> Iterator[tuple[str, object, bool]]:
    """Les différences de `saved` avec `usual`, conf/ résolue : (clé, valeur, vrai si conf/ a cette clé).

    Une valeur qui se déduit d'une autre dans conf/ (`raw` a une interpolation) n'est donnée que si `deduced`.
    """
    for name, value in saved.items():
        inside = f"{key}.{name}" if key else str(name)
        here, source = usual.get(name), raw.get(name)
        formula = source if isinstance(source, str) and "${" in source else ""
        if formula and (not deduced or "${output_dir}" in formula):  # ce dossier-ci, et nul autre
            continue
        if isinstance(value, dict) and isinstance(here, dict):
            yield from _differences(value, here, source if isinstance(source, dict) else {}, deduced, inside)
        elif value != here:
            yield inside, value, name in usual


def _is_inherited(key: str, value: object, is_ours: bool) -> bool:
    """Vrai si cette valeur d'un config.yaml est reprise."""
    group, leaf = key.partition(".")[0], key.rpartition(".")[2]
    if (leaf == "_target_" and group not in OPEN) or key in PLACES:
        return False
    if key == "data.url" and "${oc.env" in str(value):  # ce serait envoyer une variable où ce dossier le dit
        return False
    return (is_ours or group in OPEN) and not isinstance(value, dict) and bool(re.fullmatch(r"[\w.]+", key))


def inherited_overrides(overrides: list[str], group: str) -> list[str]:
    """Le groupe `group` de l'exécution que `ckpt_path` désigne, en surcharges, puis celles de la ligne de commande.

    Rien si la commande choisit elle-même ce groupe, ou si les poids ne viennent pas d'une exécution.
    """
    typed = {text.partition("=")[0] for text in overrides}
    source = value_of("ckpt_path", overrides)
    if group in typed or (source or "").startswith("hf:"):
        return overrides
    try:
        run = layout.run_of(find_checkpoint(source))
    except UserError:  # la tâche le dira mieux
        return overrides
    settings, record = load_yaml(run / SETTINGS), load_yaml(run / RECORD / "hydra.yaml")
    saved = settings.get(group) if isinstance(settings, dict) else None
    if not isinstance(saved, dict) or not isinstance(record, dict):
        return overrides
    if f"{group}.path" in typed and saved.get("source") not in READ_A_PATH:
        return overrides  # son corpus ne lit pas de fichier, et la commande en donne un
    chosen = [choice for choice in _choices(record, set()) if choice.startswith(f"{group}=")]
    if not chosen:
        return overrides
    usual = compose("command", f"+{chosen[0]}")[group]
    changed = [
        f"{group}.{key}={literal(value)}"
        for key, value in saved.items()
        if key in usual and usual[key] != value and f"{group}.{key}" not in typed
        if key != "seed" and not isinstance(value, dict) and _is_inherited(f"{group}.{key}", value, True)
    ]
    return [*chosen, *changed, *overrides]


def literal(value: object) -> str:
    """Une valeur simple dans la grammaire de Hydra ; « ${oc.env:X} » y reste la variable, lue de nouveau."""
    if isinstance(value, str):
        parts = re.split(r"(\$\{oc\.env:(?:[^${}]|\$\{oc\.env:[^${}]*\})*\})", value)
        if len(parts) > 1:
            texts = [part.replace("'", "\\'") if n % 2 else quote(part)[1:-1] for n, part in enumerate(parts)]
            return "'" + "".join(texts) + "'"
        return quote(value)
    if isinstance(value, list):
        return "[" + ",".join(map(literal, value)) + "]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
