"""Les mots de Hydra : ceux qui ont un effet ici sont honorés, tout autre est refusé par son nom.

Deux clés de Hydra choisissent un dossier : elles sont `output_dir=`, qui est plus court. `hydra.sweep.subdir` nomme
celui de chaque tâche. Hydra, lui, n'écrit rien : le reste de ses clés n'aurait pas d'effet, ou en aurait un à moitié.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from gpt_lightning.cli import console, options
from gpt_lightning.cli.arguments import unquote
from gpt_lightning.errors import UserError

# des options de Hydra que l'on ne prend pas ici
ELSEWHERE = {
    "--experimental-rerun": "ckpt_path=last reprend la dernière exécution",
    "--config-path": "conf/ est celle du projet ; --config-dir=mon_dossier y ajoute les vôtres",
}
PLACES = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir")
EXCLUDED = "hydra.job.config.override_dirname.exclude_keys"
KEY = re.compile(r"[+~]*(hydra(?:[./@][^=]*)?)(?:=(.*))?", re.DOTALL)
# ce qui est déjà vrai ici : le demander ne change rien
NEUTRAL = {
    "hydra.verbose": ("false",),
    "hydra.job.chdir": ("false", "null"),
    "hydra.output_subdir": (".hydra",),
    "hydra/launcher": ("basic",),
    "hydra/sweeper": ("basic",),
}
# ce qu'il faut taper à la place, d'après le début de la clé
INSTEAD = {
    "hydra.mode": "-m lance un balayage",
    "hydra.verbose": "GPT_LIGHTNING_TRACEBACK=1, devant la commande, montre la trace d'une erreur",
    "hydra.sweeper.params": "les valeurs d'un balayage se tapent : -m seed=1,2",
    "hydra.launcher": "les tâches d'un balayage se suivent, dans l'ordre",
    "hydra/launcher": "les tâches d'un balayage se suivent, dans l'ordre",
    "hydra.sweeper": "un balayage essaie toutes les valeurs tapées : -m seed=1,2",
    "hydra/sweeper": "un balayage essaie toutes les valeurs tapées : -m seed=1,2",
    "hydra.job.chdir": "une commande reste dans le dossier où on la tape",
    "hydra.job.name": "run_name= nomme une exécution",
    "hydra.job.env": "une variable se donne au shell : NOM=valeur devant la commande",
    "hydra.output_subdir": "les réglages demandés sont toujours dans .hydra/",
    "hydra.job_logging": "le journal d'une exécution est son train.log",
    "hydra/job_logging": "le journal d'une exécution est son train.log",
    "hydra.run.dir": "output_dir= est le dossier d'une exécution",
    "hydra.sweep": "elle sert à un balayage (-m)",
}


def check_options(argv: Sequence[str], config_name: str) -> None:
    """UserError sur une option de Hydra qui n'a pas d'effet ici, ou qui désigne une autre configuration."""
    for argument, value in zip(argv, [*argv[1:], ""], strict=False):
        option, equal, given = argument.partition("=")
        name, given = options.name_of(argument) or option, given if equal else value
        if name in ELSEWHERE:
            raise UserError(f"{option} est refusé : {ELSEWHERE[name]}.")
        if name == "--package" and "--cfg" not in options.names_in(argv):
            raise UserError(f"{option} accompagne --cfg : --cfg job --package=model.")
        if name == "--config-dir" and given and not Path(given).is_dir():
            raise UserError(f"{option}={given} n'est pas un dossier : donnez celui de vos configurations.")
        if name == "--config-name" and given and given.removesuffix(".yaml") != config_name:
            raise UserError(
                f"{option}={given} est refusé : cette commande lit conf/{config_name}.yaml ; les vôtres vont dans un "
                f"dossier, --config-dir=mon_dossier experiment=mon_fichier."
            )


def honour_keys(argv: Sequence[str], *, opens_run: bool) -> list[str]:
    """La ligne de commande, où un dossier dit à Hydra est dit à `output_dir=`.

    UserError sur une clé de Hydra qui n'aurait pas d'effet, ou sur le même dossier dit deux fois.
    """
    sweep = options.is_sweep(argv)
    given, words = options.separate(argv)  # « --cfg hydra » n'est pas une clé
    place = f"hydra.{'sweep' if sweep else 'run'}.dir"
    values = " ".join(match[2] or "" for text in words if (match := KEY.fullmatch(text)))
    honoured = list[str]()
    for text in words:
        match = KEY.fullmatch(text)
        key, value = (match[1], match[2] or "") if match else ("", "")
        if key == "hydra.searchpath":
            _check_places(value)
        if (
            match is None
            or key == "hydra.searchpath"
            or _is_read(key, values)
            or (sweep and _is_of_plugin(key, argv))
        ):
            honoured.append(text)
        elif opens_run and key == place and value and text[0] != "~":
            honoured.append(_as_output_dir(key, value))
        elif opens_run and sweep and key == "hydra.sweep.subdir" and value and text[0] != "~":
            honoured.append(_job_folder(value))
        elif text[0] == "~" or unquote(value).lower() not in NEUTRAL.get(key, ()):
            why = next((why for start, why in INSTEAD.items() if key.startswith(start)), "retirez-la")
            if key.startswith(PLACES) and not opens_run:
                why = "cette commande n'ouvre pas de dossier d'exécution, retirez-la"
            raise UserError(f"{key} n'a pas d'effet ici : {why}.")
    if sum(text.startswith("output_dir=") for text in honoured) > 1 and place in " ".join(words):
        raise UserError(f"{place}= et output_dir= disent la même chose : gardez output_dir=.")
    if "resume=auto" in honoured and any("${" in text for text in honoured if text.startswith("output_dir=")):
        raise UserError(
            f"{place}= contient ${{...}}, que resume=auto ne retrouve pas : écrivez-le en entier."
        )
    return [*given, *(_without_place(honoured) if "override_dirname" in values else honoured)]


def _check_places(value: str) -> None:
    """UserError si un dossier de hydra.searchpath n'existe pas : Hydra s'en passerait."""
    for text in unquote(value).strip("[]").split(","):
        place = unquote(text.strip()).removeprefix("file://")
        if place and "${" not in place and not place.startswith("pkg://") and not Path(place).is_dir():
            raise UserError(
                f"hydra.searchpath={place} n'est pas un dossier : donnez celui de vos configurations."
            )


def _without_place(argv: list[str]) -> list[str]:
    """Ajoute `output_dir` à ce que `override_dirname` ne nomme pas : un dossier ne porte pas son propre chemin."""
    if not any(text.startswith(EXCLUDED) for text in argv):
        return [*argv, f"{EXCLUDED}=[output_dir]"]
    return [re.sub(r"\[", "[output_dir,", t, count=1) if t.startswith(EXCLUDED) else t for t in argv]


def _is_of_plugin(key: str, argv: Sequence[str]) -> bool:
    """Vrai si la ligne choisit un autre lanceur ou un autre balayeur que celui de Hydra, et si cette clé en est.

    `explain` refuse celui qui n'est pas installé.
    """
    chosen = {match[1]: match[2] for text in argv if (match := KEY.fullmatch(text))}
    groups = [
        group
        for group in ("hydra/launcher", "hydra/sweeper")
        if chosen.get(group) and unquote(chosen[group]) not in NEUTRAL[group]
    ]
    return any(key == group or key.startswith(f"{group.replace('/', '.')}.") for group in groups)


def _is_read(key: str, values: str) -> bool:
    """Vrai si une des valeurs tapées lit cette clé : le nom de la tâche, ou la forme de ses surcharges."""
    if key == "hydra.job.name":
        return bool(re.search(r"\$\{hydra[.:]job\.name\}", values))
    return key.startswith("hydra.job.config.override_dirname.") and "override_dirname}" in values


def _as_output_dir(key: str, value: str) -> str:
    """`output_dir=` pour ce dossier ; ses interpolations restent à résoudre, les autres signes sont du texte."""
    console.log.info(f"Dossier    : {key}= s'écrit ici output_dir=, plus court")
    path = unquote(value)
    names = re.findall(r"\$\{(?!now:|hydra[.:])[^}]*\}", path)
    if key == "hydra.sweep.dir" and (names or re.search(r"job\.(num|id|over)", path)):
        raise UserError(
            "hydra.sweep.dir= est le dossier de tout le balayage : hydra.sweep.subdir= est celui de chaque tâche."
        )
    if "${" not in path:
        return f"output_dir={value}"
    text = path.replace("${hydra.", "${hydra:").replace("'", "\\'")
    return f"output_dir='{text}'"


def _job_folder(value: str) -> str:
    """`hydra.sweep.subdir=`, que Hydra résout. UserError s'il sort du dossier du balayage."""
    path = Path(unquote(value))
    if path.is_absolute() or ".." in path.parts or path == Path("."):
        raise UserError(
            f"hydra.sweep.subdir={value} : il faut un dossier du balayage, comme ${{seed}} ou ${{hydra.job.num}}."
        )
    text = str(path).replace("'", "\\'")
    return f"hydra.sweep.subdir='{text}'"
