"""Lire un fichier venu d'ailleurs : sans exécuter ce qu'il contient, sans croire ce qu'il annonce.

Tout ce qu'un fichier de poids dit de lui-même se vérifie d'abord : son archive est entière (les CRC que torch y écrit),
rien n'y est compressé, ce qu'elle annonce y tient, et son pickle ne nomme que ce qui fait un checkpoint.
"""

import io
import json
import os
import pickle
import pickletools
import re
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch

from gpt_lightning.errors import UserError
from gpt_lightning.typing import JsonObject

MOST_JSON = 256 << 20  # octets ; le tokenizer.json d'un vocabulaire de 250 000 jetons en fait vingt millions
MOST_PICKLE = 64 << 20  # octets ; celui d'un checkpoint de 124 M de paramètres en fait cent mille
MOST_OPCODES = 4_000_000
LEGACY_PICKLES = 5  # l'ancien format de torch : trois nombres, l'objet, la liste de ses tenseurs
# ce que le pickle d'un checkpoint nomme : des tenseurs, et les valeurs simples de Python et de torch
_NAMED = re.compile(
    r"collections (OrderedDict|Counter)|builtins (set|dict|list|tuple|int|float|complex)|"
    r"__builtin__ (set|dict|list|tuple|int|float|complex)|torch\._utils _rebuild_(tensor_v2|parameter|tensor)|"
    r"torch (\w+Storage|Size|device|dtype|\w*float\w*|\w*int\w*|bool|double|half|long)|"
    r"torch\.storage (Untyped|Typed)Storage|torch\.(serialization _get_layout|nn\.parameter Parameter)"
)


class Damaged(UserError):
    """Un fichier abîmé, ou qui n'est pas ce qu'il dit être."""


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Traduit en une UserError, qui nomme `path`, tout ce que sa lecture peut lever.

    Un fichier hostile fait lever n'importe quoi à n'importe qui : il n'y a pas de liste à tenir.
    """
    try:
        yield
    except UserError as error:
        if str(path) in str(error):
            raise
        kind = Damaged if isinstance(error, Damaged) else UserError  # aucun réglage n'accorde un fichier
        raise kind(f"{path} : {error}") from error
    except (OSError, MemoryError) as error:  # du système, pas du fichier : il est peut-être intact
        raise UserError(f"{path} ne se lit pas ({error or type(error).__name__}) : réessayez.") from error
    except UnicodeEncodeError as error:  # torch ouvre un fichier par un nom en UTF-8
        raise UserError(
            f"{path} : ce nom n'est pas de l'UTF-8 ; renommez ce dossier ou ce fichier."
        ) from error
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # la panique d'une bibliothèque en Rust n'est pas une Exception
        why = (str(error).splitlines() or [""])[0][:120] or type(error).__name__
        raise Damaged(
            f"{path} n'est pas lisible sans risque : ce n'est pas un fichier de poids, il est abîmé, ou il contient "
            f"du code, qui ne sera jamais exécuté ({why})."
        ) from error


def read_torch(path: Path, *, mmap: bool = True) -> Any:
    """Lit un fichier torch, vérifié en entier ; `mmap` projette les poids si son format le permet."""
    with reading(path):
        regular(path)
        is_zip = verify(path)  # l'ancien format de torch ne se projette pas
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap and is_zip)


def read_description(path: Path) -> object:
    """Lit un checkpoint dont seul le pickle est vérifié : ses tenseurs, projetés, ne sont pas lus.

    None si ce n'est pas une archive de torch.
    """
    regular(path)
    if not zipfile.is_zipfile(path):
        return None
    check_names(path)
    return torch.load(path, map_location="cpu", weights_only=True, mmap=True)


def verify(path: Path) -> bool:
    """Vérifie un fichier torch sans le charger ; vrai si c'est une archive, dont chaque octet est alors contrôlé.

    Damaged si elle est abîmée, ou annonce ce qui n'y est pas ; UserError si son pickle nomme autre chose que des
    tenseurs et des valeurs simples.
    """
    with open(path, "rb") as file:
        if file.read(4) != b"PK\x03\x04":
            file.seek(0)
            for _ in range(LEGACY_PICKLES):
                if file.peek(1)[:1] == b"":
                    break
                _check_pickle(path, file)
            return False
        file.seek(0)
        size = os.fstat(file.fileno()).st_size
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            if any(member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1 for member in members):
                raise Damaged(f"{path} est une archive compressée : torch n'en écrit pas.")
            names = {member.filename for member in members}
            if sum(member.file_size for member in members) > size or len(names) != len(members):
                raise Damaged(f"{path} est abîmé : il annonce plus qu'il ne contient.")
            if (wrong := archive.testzip()) is not None:
                raise Damaged(f"{path} est abîmé : le contenu de {wrong} n'est plus celui qui a été écrit.")
            _check_members(path, archive)
    return True


def check_names(path: Path) -> None:
    """UserError si le pickle de cette archive nomme autre chose que des tenseurs et des valeurs simples."""
    with zipfile.ZipFile(path) as archive:
        _check_members(path, archive)


def _check_members(path: Path, archive: zipfile.ZipFile) -> None:
    for member in archive.infolist():
        if member.filename.endswith("data.pkl"):
            if member.file_size > MOST_PICKLE:
                raise Damaged(f"{path} : {member.filename} est bien trop grand pour un checkpoint.")
            _check_pickle(path, io.BytesIO(archive.read(member)))


def _check_pickle(path: Path, file: IO[bytes]) -> None:
    """UserError si le pickle qui commence là nomme autre chose que des tenseurs et des valeurs simples."""
    for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if count > MOST_OPCODES:
            raise Damaged(f"{path} : son pickle est bien trop long pour un checkpoint.")
        if opcode.name == "GLOBAL" and not _NAMED.fullmatch(str(argument)):
            name = str(argument).replace(" ", ".")[:80]
            raise UserError(
                f"{path} n'est pas lisible sans risque : il nomme {name}, du code, qui ne sera jamais exécuté."
            )
        if opcode.name in ("INST", "STACK_GLOBAL", "EXT1", "EXT2", "EXT4"):
            raise pickle.UnpicklingError(f"{opcode.name} : un pickle que torch n'écrit pas")


def regular(path: Path) -> None:
    """UserError si `path` n'est pas un fichier ordinaire : un pipe se lirait sans fin."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise Damaged(f"{path} n'est pas un fichier.")


def read_text(path: Path) -> str:
    """Lit le texte d'un petit fichier. UserError s'il manque, n'est pas de l'UTF-8, ou est bien trop grand."""
    try:
        regular(path)
        if path.stat().st_size > MOST_JSON:
            raise Damaged(f"{path} est bien trop grand.")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise Damaged(f"{path} manque ou n'est pas du texte en UTF-8.") from None


def parse_json(text: str, path: Path) -> object:
    """Lit ce texte JSON, qui vient de `path`. UserError si ce n'en est pas, ou s'il s'emboîte sans fin."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # d'un nombre de dix mille chiffres aussi
        raise Damaged(f"{path} manque ou n'est pas du JSON.") from None


def read_json(path: Path) -> JsonObject:
    """Lit un objet JSON. UserError si le fichier manque, ou n'en est pas un."""
    values = parse_json(read_text(path), path)
    if not isinstance(values, dict):
        raise Damaged(f"{path} n'est pas un objet JSON.")
    return values
