"""Les phrases dont deux pièces se servent, et la forme française des nombres.

Toute autre phrase est dans le fichier qui la dit.
"""

import errno
from collections.abc import Sequence
from typing import Any

_NARROW = "\u202f"  # espace fine insécable : sépare les milliers en français


def number(value: float, digits: int = 0) -> str:
    """1234567.8 -> « 1 234 568 » ; avec `digits` décimales, à virgule."""
    return f"{value:,.{digits}f}".replace(",", _NARROW).replace(".", ",")


def tick(value: float, position: int | None = None) -> str:
    """Le nombre d'une graduation, à virgule : la forme qu'attend `FuncFormatter` de matplotlib."""
    return f"{value:g}".replace(".", ",").replace("-", "−")


def magnitude(value: float, unit: str = "") -> str:
    """Un grand nombre en k, M, G, T : 124439808 -> « 124,4 M »."""
    for size, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{number(value / size, 1)} {prefix}{unit}"
    return f"{number(value)} {unit}".strip()


def parameters_of(count: int) -> str:
    """Un nombre de paramètres : « 124,4 M de paramètres », « 256 paramètres »."""
    return f"{magnitude(count)} {'de ' if count >= 1e3 else ''}paramètres"


def duration(seconds: float) -> str:
    """Une durée lisible : 3725 -> « 1 h 02 min », 95 -> « 1 min 35 s »."""
    seconds = round(seconds)
    if seconds >= 3600:
        return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"
    return f"{seconds // 60} min {seconds % 60:02d} s" if seconds >= 60 else f"{seconds} s"


def percent(share: float) -> str:
    """Une part, en pour cent."""
    return f"{100 * share:.1f} %".replace(".", ",")


def cannot_compile(name: str, why: str) -> str:
    """torch n'a pas pu compiler : le plus souvent, le compilateur C++ manque."""
    first = next((line for line in why.splitlines() if line and not line.endswith(":")), "")[:160]
    return (
        f"compile=true, mais torch ne peut pas compiler ici ({name} : {first}) : installez un compilateur C++ (g++), "
        f"ou compile=false."
    )


def cannot_write(path: str, code: int, reason: str) -> str:
    """Le système refuse une écriture : pourquoi, et quoi faire."""
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    why, advice = {
        **dict.fromkeys(full, ("le disque est plein", "libérez de la place, ou choisissez un autre dossier")),
        errno.EROFS: ("le disque est en lecture seule", "choisissez un autre dossier"),
        errno.EACCES: ("accès refusé", "changez les droits du dossier, ou choisissez-en un autre"),
        errno.EPERM: ("accès refusé", "changez les droits du dossier, ou choisissez-en un autre"),
        errno.ENOENT: ("son dossier n'existe plus", "recréez-le, ou choisissez un autre dossier"),
        errno.ENOTDIR: ("un élément de ce chemin n'est pas un dossier", "choisissez un autre dossier"),
        errno.EISDIR: ("c'est un dossier", "choisissez un autre nom"),
        errno.EIO: ("le disque ne répond pas", "vérifiez-le, ou choisissez un autre dossier"),
    }.get(code, (reason, "vérifiez ce disque, ou choisissez un autre dossier"))
    return f"{path} ne s'écrit pas ({why}) : {advice}."


def goes_on(why: str) -> str:
    """L'entraînement se passe de ce qui ne s'écrit pas."""
    return f"{why} L'entraînement continue sans."


def class_table(report: Any, labels: Sequence[str]) -> str:
    """La table d'une classification, une ligne par étiquette : précision, rappel, F1, et combien de textes l'ont."""
    width = max(len("étiquette"), *(min(len(label), 30) for label in labels))
    rows = [f"{'étiquette':<{width}}  précision  rappel     F1  textes"]
    for rank, label in enumerate(labels):
        precision, recall, f1 = (
            float(measure[rank]) for measure in (report.precision, report.recall, report.f1)
        )
        rows.append(
            f"{label[:30]:<{width}}  {number(precision, 3):>9}  {number(recall, 3):>6}  {number(f1, 3):>5}  "
            f"{number(int(report.counts[rank].sum())):>6}"
        )
    return "\n".join(rows)


def stride_too_long(stride: object, max_length: object) -> str:
    """La phrase de deux fenêtres qui laisseraient des jetons entre elles."""
    return (
        f"data.stride={stride} sauterait des jetons : il faut de 1 à data.max_length={max_length}, "
        "ou null pour avancer d'une fenêtre."
    )


def unknown_template(source: str, key: str = "template") -> str:
    """La phrase qui demande, par le réglage `key`, le gabarit d'un modèle qui en a un autre que ceux d'ici."""
    return (
        f"{source} a son propre gabarit de conversation, que l'on ne reconnaît pas : dites dans lequel lui parler, "
        f"{key}=chatml, llama3, qwen3 ou texte."
    )
