"""Les étiquettes d'un corpus : une seule écriture pour chacune, et ce qui n'en laisse rien apprendre."""

import logging
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence

from gpt_lightning.data.classify.formats import LabelledText
from gpt_lightning.errors import UserError
from gpt_lightning.wording import number

log = logging.getLogger("gpt_lightning")
Halves = Mapping[str, Sequence[LabelledText]]  # {moitié : ses textes}
# ce qui ne s'imprime pas, et ne fait pas une autre étiquette
UNSEEN = re.compile("[\u00ad\u200b\u200e\u200f\u2060\ufeff]")


def plain_label(label: str) -> str:
    """La seule écriture d'une étiquette : deux qui s'impriment pareil, ou disent le même nombre, n'en font qu'une.

    Les accents sont composés, les espaces simples, ce qui ne s'imprime pas retiré ; 1.0 est 1, et True, true.
    """
    label = " ".join(UNSEEN.sub("", unicodedata.normalize("NFC", label)).split()) or label
    if label.lower() in ("true", "false"):
        return label.lower()
    return re.sub(r"^([+-]?\d+)[.,]0+$", r"\1", label)


def spell(halves: Halves, own: Sequence[str] = ()) -> dict[str, list[LabelledText]]:
    """Les mêmes textes, chaque étiquette écrite d'une seule façon : celle du modèle, s'il en a (`own`)."""
    names = {plain_label(label): label for label in own} | {label: label for label in own}

    def writing(label: str) -> str:
        return names.get(label) or names.get(plain_label(label)) or plain_label(label)

    united: dict[str, set[str]] = {}
    for row in (row for rows in halves.values() for row in rows):
        united.setdefault(writing(row.label), set()).add(row.label)
    for label, writings in united.items():
        if len(writings) > 1:
            listed = ", ".join(sorted(map(ascii, writings)))
            log.info(f"Étiquette  : « {label} » en réunit {len(writings)}, qui se lisent pareil : {listed}")
    return {half: [row._replace(label=writing(row.label)) for row in rows] for half, rows in halves.items()}


def check(halves: Halves, labels: Sequence[str], *, of_model: bool, apart: bool) -> None:
    """UserError si ces textes n'apprennent rien, ou ont une étiquette que le modèle n'a pas.

    `of_model` : les étiquettes sont celles d'un modèle ; `apart` : la validation est dans un fichier à elle.
    """
    train, val = halves["train"], halves["val"]
    learned, measured = Counter(row.label for row in train), Counter(row.label for row in val)
    if len(learned) < 2:
        elsewhere = ", ".join(f"« {label} »" for label in sorted(measured.keys() - learned.keys())[:4])
        why = f" (tous ceux de {elsewhere} sont en validation)" if elsewhere and not apart else ""
        raise UserError(
            f"Tous les textes d'entraînement ont l'étiquette « {train[0].label} »{why} : il en faut deux au moins."
        )
    for row in (*train, *val):
        if row.label not in labels:
            listed = ", ".join(labels[:8])
            raise UserError(
                f"{row.where} : l'étiquette « {row.label} » n'est pas une de celles du modèle ({listed})."
            )
    if of_model:
        return
    unlearned = next((row for row in val if row.label not in learned), None)
    if unlearned is not None and apart:
        raise UserError(
            f"{unlearned.where} : aucun texte d'entraînement n'a l'étiquette « {unlearned.label} »."
        )
    _say_lonely(learned, measured)
    _say_twins(labels)


def _say_lonely(learned: Counter[str], measured: Counter[str]) -> None:
    """Dit les étiquettes dont aucun texte n'est d'un des deux côtés."""
    unlearned = {label: count for label, count in measured.items() if label not in learned}
    unmeasured = {label: count for label, count in learned.items() if label not in measured}
    if unlearned:
        log.warning(
            f"Rien n'apprendra {_names(unlearned)} : {_count(unlearned)} en validation. Donnez-en davantage, ou "
            f"choisissez la validation avec data.val_path=."
        )
    if unmeasured:
        log.warning(
            f"Rien ne mesurera {_names(unmeasured)} : {_count(unmeasured)} à l'entraînement. Donnez-en davantage, "
            f"ou choisissez la validation avec data.val_path=."
        )


def _names(counts: Mapping[str, int]) -> str:
    labels = sorted(counts)
    more = f" et {number(len(labels) - 4)} autres" if len(labels) > 4 else ""
    return (
        ("l'étiquette " if len(labels) == 1 else "les étiquettes ")
        + ", ".join(f"« {label} »" for label in labels[:4])
        + more
    )


def _count(counts: Mapping[str, int]) -> str:
    total, plural = sum(counts.values()), len(counts) > 1
    if total == 1:
        return "son seul texte est"
    return f"{'leurs' if plural else 'ses'} {number(total)} textes sont tous"


def _say_twins(labels: Sequence[str]) -> None:
    """Dit deux étiquettes qui ne diffèrent que par la casse : elles restent deux."""
    first: dict[str, str] = {}
    for label in labels:
        other = first.setdefault(label.casefold(), label)
        if other != label:
            log.warning(
                f"Les étiquettes « {other} » et « {label} » ne diffèrent que par la casse, et restent deux : "
                f"écrivez-les pareil si c'est la même."
            )
