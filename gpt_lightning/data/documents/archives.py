"""Ce qui en contient d'autres : .gz et .zst, un fichier ; .zip, plusieurs. Rien n'est jamais déplié sur le disque."""

import gzip
import io
import posixpath
import stat
import zipfile
from pathlib import Path
from typing import BinaryIO, cast

from gpt_lightning.data.documents.bounds import Budget, Metered
from gpt_lightning.data.documents.libraries import library
from gpt_lightning.errors import UserError

WINDOW = 1 << 27  # octets que la fenêtre d'un .zst peut demander en mémoire
_SKIPPABLE = 0x184D2A50  # un cadre de .zst à sauter ; ses quatre derniers bits sont libres
JUNK = ("__MACOSX/", ".DS_Store")  # ce que macOS ajoute à un .zip


def expand(file: BinaryIO, suffix: str, budget: Budget) -> BinaryIO:
    """Le contenu d'un .gz ou d'un .zst, compté au fil de la lecture."""
    if suffix == ".zst":
        _check_frames(file)
        decompressor = library("zstandard", suffix).ZstdDecompressor(max_window_size=WINDOW)
        raw = cast(BinaryIO, decompressor.stream_reader(file, read_across_frames=True))
    else:
        raw = cast(BinaryIO, gzip.GzipFile(fileobj=file))
    return io.BufferedReader(Metered(raw, budget), 1 << 16)


def _check_frames(file: BinaryIO) -> None:
    """Parcourt les cadres d'un .zst. EOFError s'il est coupé : zstandard s'arrêterait là sans rien dire."""
    zstandard = library("zstandard", ".zst")
    end = file.seek(0, io.SEEK_END)
    file.seek(0)
    while head := file.read(18):
        if int.from_bytes(head[:4], "little") & ~15 == _SKIPPABLE:
            file.seek(8 + int.from_bytes(head[4:8], "little") - len(head), io.SEEK_CUR)
        else:
            file.seek(zstandard.frame_header_size(head) - len(head), io.SEEK_CUR)
            last = 0
            while not last and file.tell() < end:
                block = int.from_bytes(file.read(3), "little")
                last, kind, length = block & 1, block >> 1 & 3, block >> 3
                file.seek(1 if kind == 1 else length, io.SEEK_CUR)
            file.seek(4 * zstandard.get_frame_parameters(head).has_checksum, io.SEEK_CUR)
            if not last:
                raise EOFError
        if file.tell() > end:
            raise EOFError
    file.seek(0)


class Archive:
    """Un .zip, ou un document qui en est un ; ses membres sont comptés dans le même budget."""

    def __init__(self, file: BinaryIO, where: str, budget: Budget) -> None:
        self.where, self.budget = where, budget
        self.zip = zipfile.ZipFile(file)
        self.members = [member for member in self.zip.infolist() if not member.is_dir()]
        for member in self.members:
            self._refuse_dangerous(member)

    def _refuse_dangerous(self, member: zipfile.ZipInfo) -> None:
        name = member.filename.replace("\\", "/")
        climbs = name.startswith("/") or ".." in name.split("/") or name[1:2] == ":"
        if climbs or stat.S_ISLNK(member.external_attr >> 16):
            what = "un nom qui sort de l'archive" if climbs else "un lien"
            raise UserError(
                f"{self.where} n'est pas lu : il contient {what}, {member.filename!r} ; refaites-le sans lui."
            )

    def open(self, name: str | zipfile.ZipInfo) -> BinaryIO:
        """Le contenu d'un membre. UserError s'il n'est pas là, ou s'il est chiffré."""
        try:
            member = self.zip.getinfo(name) if isinstance(name, str) else name
        except KeyError:
            raise UserError(f"{self.where} n'a pas {name} : il est abîmé, ou mal nommé.") from None
        if member.flag_bits & 1:
            raise UserError(
                f"{self.where} est protégé par un mot de passe : ouvrez-le, et enregistrez-le sans lui."
            )
        raw = cast(BinaryIO, self.zip.open(member))
        return io.BufferedReader(Metered(raw, self.budget), 1 << 16)

    def has(self, name: str) -> bool:
        return name in self.zip.NameToInfo

    def readable(self, suffixes: tuple[str, ...]) -> list[zipfile.ZipInfo]:
        """Les membres d'un de ces suffixes, triés par nom."""
        members = (
            m for m in self.members if not m.filename.startswith(JUNK) and suffix_of(m.filename) in suffixes
        )
        return sorted(members, key=lambda member: member.filename)


def suffix_of(name: str) -> str:
    """Le suffixe d'un nom, en minuscules."""
    return posixpath.splitext(name)[1].lower()


def members_left_out(path: Path, suffixes: tuple[str, ...]) -> list[tuple[Path, str]]:
    """Les membres d'un .zip qui ne seront pas lus, avec leur raison."""
    with open(path, "rb") as file:
        archive = Archive(file, str(path), Budget(str(path), 0, 1))
        taken = {id(member) for member in archive.readable(suffixes)}
        names = [member.filename for member in archive.members if id(member) not in taken]
    return [(path / name, suffix_of(name) or "sans suffixe") for name in names]
