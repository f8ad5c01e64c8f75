"""Réunir les modules JavaScript de la page en un seul script, pour un fichier qui n'a pas de serveur.

Chaque module devient une fonction appelée une fois, dans l'ordre de leurs imports : ses noms restent à lui, et ce qu'il
exporte est un objet. Rien d'autre de son texte ne change.
"""

import re
from pathlib import Path

IMPORT = re.compile(r'^import (?:\{([^}]*)\} from )?"(\.{1,2}/[^"]+)";\n', re.MULTILINE)
EXPORT = re.compile(r"^export (?=(?:async )?(?:function\*?|class|const) ([\w$]+))", re.MULTILINE)


def bundle(*entries: Path) -> str:
    """Le script qui exécute ces modules et ceux qu'ils importent, chacun une fois, après ceux dont il a besoin."""
    done: dict[Path, str] = {}
    for entry in entries:
        _add(entry.resolve(), done, ())
    names = ", ".join(path.name for path in done)
    script = f'"use strict"; // {names}\n' + "".join(done.values())
    assert "</script" not in script and "<!--" not in script, "le script fermerait sa balise"
    return script


def _add(path: Path, done: dict[Path, str], above: tuple[Path, ...]) -> None:
    """Ajoute ce module à `done`, après ses imports ; `above` sont ceux dont il est l'import."""
    assert path not in above, (
        f"{path.name} s'importe lui-même, par {', '.join(module.name for module in above)}"
    )
    if path in done:
        return
    text = path.read_text(encoding="utf-8")
    for _, other in IMPORT.findall(text):
        _add((path.parent / other).resolve(), done, (*above, path))

    def assignment(match: re.Match[str]) -> str:
        other = (path.parent / match[2]).resolve()
        names = [name.strip() for name in (match[1] or "").split(",") if name.strip()]
        missing = {name.split(" as ")[0] for name in names} - {*EXPORT.findall(other.read_text("utf-8"))}
        assert not missing, f"{other.name} n'exporte pas {missing}, que {path.name} importe"
        given = ", ".join(name.replace(" as ", ": ") for name in names)
        return f"const {{ {given} }} = {_name(other)};\n" if names else ""

    exported = EXPORT.findall(text)
    body = EXPORT.sub("", IMPORT.sub(assignment, text)).replace("import.meta.url", "document.baseURI")
    left = re.search(r"^(?:import|export)\b.*|\bimport\(.*|\bimport\.meta.*", body, re.MULTILINE)
    assert left is None, f"{path.name} : « {left and left[0]} » ne se réunit pas"
    done[path] = f"const {_name(path)} = (() => {{\n{body}return {{ {', '.join(exported)} }};\n}})();\n"


def _name(path: Path) -> str:
    """Le nom du module dans le script."""
    return f"{path.parent.name}_{path.stem}"
