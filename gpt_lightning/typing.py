"""Les types que plusieurs modules échangent, et qui n'appartiennent à aucun."""

from typing import Any, TypeAlias

Settings: TypeAlias = dict[str, Any]  # la configuration d'une commande, ou d'un groupe, en valeurs simples
JsonObject: TypeAlias = dict[str, Any]  # un objet JSON, lu ou à écrire
State: TypeAlias = dict[str, Any]  # ce qu'un objet donne à sauver : nombres, textes, listes, tenseurs
