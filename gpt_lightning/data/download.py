"""Télécharger un texte une fois, et vérifier son empreinte."""

import hashlib
import re
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit

from gpt_lightning.errors import UserError


def check(url: object, sha256: object) -> None:
    """UserError si l'adresse ou l'empreinte manque."""
    hexadecimal = isinstance(sha256, str) and re.fullmatch("[0-9a-fA-F]{64}", sha256)
    if not (isinstance(url, str) and url) or not hexadecimal:
        raise UserError(
            "data.source=download demande data.url= et data.sha256= : l'adresse du texte, et les 64 chiffres "
            "hexadécimaux de son empreinte (sha256sum texte.txt les donne)."
        )


def fetch(url: str, sha256: str, cache_dir: Path) -> Path:
    """Le fichier de `url`, dans le cache. UserError qui dit où le poser si le réseau ne répond pas."""
    address = hashlib.sha256(url.encode()).hexdigest()[:12]  # deux adresses finissent parfois pareil
    path = cache_dir / "downloads" / address / (Path(urlsplit(url).path).name or "texte.txt")
    if not path.exists():
        from torch.hub import download_url_to_file

        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            download_url_to_file(url, str(path), hash_prefix=sha256.lower(), progress=False)
        except (OSError, ValueError, HTTPException):
            raise UserError(
                f"{url} ne se télécharge pas : sans réseau, posez ce fichier en {path}, "
                f"ou donnez-le avec data.path=."
            ) from None
        except RuntimeError:
            raise UserError(f"{url} n'a pas l'empreinte SHA-256 attendue : rien n'a été gardé.") from None
    if hashlib.sha256(path.read_bytes()).hexdigest() != sha256.lower():
        raise UserError(
            f"{path} n'a pas l'empreinte SHA-256 attendue : effacez-le, il sera téléchargé de nouveau."
        )
    return path
