"""Les bibliothèques des documents : importées quand un fichier les demande, ou nommées avec la ligne à taper."""

from importlib import import_module
from types import ModuleType

from gpt_lightning.errors import UserError


class MissingLibrary(UserError):
    """Une bibliothèque n'est pas installée : ce n'est pas la faute du fichier, et data.errors=skip ne la saute pas."""


def library(name: str, suffix: str, extra: str = "documents") -> ModuleType:
    """Le module `name`, que lire un `suffix` demande. MissingLibrary, qui nomme `extra`, s'il n'est pas installé."""
    try:
        return import_module(name)
    except ImportError:
        article = suffix if " " in suffix else f"un {suffix}"
        package = name.partition(".")[0]
        raise MissingLibrary(
            f"Lire {article} demande {package} : pip install -c constraints.txt -e '.[{extra}]'."
        ) from None
