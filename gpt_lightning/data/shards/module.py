"""Le LightningDataModule de fragments déjà en jetons : il les projette en mémoire, et en sert les fenêtres."""

import json
import logging
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from gpt_lightning.data.base import Statistics
from gpt_lightning.data.limit import most, say_part
from gpt_lightning.data.reading import HALVES, Found, find_files, in_both
from gpt_lightning.data.shards.formats import NARROW, SUFFIX, open_shard
from gpt_lightning.data.shards.opened import Shards, check_samples, cut, document_ends
from gpt_lightning.data.store import Fragment
from gpt_lightning.data.windowed import WindowModule, WindowOptions
from gpt_lightning.errors import UserError, choice
from gpt_lightning.tokenizers import Tokenizer, fingerprint, from_state
from gpt_lightning.tokenizers.base import LearningTokenizer
from gpt_lightning.typing import State
from gpt_lightning.wording import magnitude, number

log = logging.getLogger("gpt_lightning")
SPLITS = ("tokens", "documents")
TOKENIZER = "tokenizer_state.json"  # à côté de fragments écrits par `prepare format=bin`
MOST_STATE = 1 << 26  # octets


class ShardsDataModule(WindowModule):
    """Ouvre des fragments là où ils sont, et sert leurs fenêtres. Rien n'est lu d'avance, hors les en-têtes.

    Un identifiant que le tokenizer n'a pas est refusé à sa lecture, avec sa place.
    """

    def __init__(
        self,
        *,
        tokenizer: Tokenizer | None,
        source: str = "shards",
        path: str | list[str] | None = None,
        errors: str = "strict",
        limit: int | str | None = None,
        split: str = "tokens",
        train_split: float = 0.9,
        val_path: str | list[str] | None = None,
        cross_documents: bool = True,
        max_length: int = 128,
        stride: int | None = None,
        shift: bool | None = None,
        batch_size: int = 16,
        num_workers: int = 0,
        passes: int = 1,
        eval_batches: int | None = None,
        cache_dir: str | None = None,
        seed: int = 123,
        accumulate: int = 1,
        report: Callable[[str], None] = lambda folder: None,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        super().__init__()
        choice("data.source", source, ("shards",))
        choice("data.split", split, SPLITS)
        choice("data.errors", errors, ("strict", "skip"))
        if limit is not None:
            most(limit)
        reading = (batch_size, num_workers, passes, eval_batches, seed, accumulate)
        self.keep(
            WindowOptions(
                tokenizer, cache_dir, train_split, cross_documents, max_length, stride, shift, *reading
            )
        )
        self.source, self.path, self.val_path, self.errors = source, path, val_path, errors
        self.limit, self.split = limit, split

    def find(self) -> list[tuple[Path, str]]:
        """Les fichiers laissés de côté, avec leur raison. UserError s'il n'y a rien à lire."""
        paths = [self.path, *([self.val_path] if self.val_path else [])]
        return [file for path in paths for file in _files(path).left_out if file[0].name != TOKENIZER]

    def prepare(self, tokenizer: Tokenizer | None = None, labels: Sequence[str] = ()) -> Statistics:
        """Ouvre les fragments ; `tokenizer`, s'il est donné, remplace celui de la construction.

        UserError si l'un d'eux ne se lit pas, ou si rien ne dit le tokenizer qui les a écrits.
        """
        if tokenizer is not None:
            self.tokenizer = tokenizer
        train, val = _files(self.path).files, _files(self.val_path).files if self.val_path else []
        if val:  # un fragment de la validation ne s'apprend pas
            both = in_both(train, val)
            train = [path for path in train if path not in both]
            if not train:
                raise UserError(
                    f"data.path={self.path} n'a que les fragments de data.val_path= : donnez-en d'autres."
                )
        else:
            train, val = self._two_halves(train)
        self.tokenizer = _tokenizer_of([*train, *val], self.tokenizer)
        self.below, self.apart = self.tokenizer.vocab_size, bool(val)
        if not self.cross_documents:
            self._eos_id()
        opened = self._first(self._open(train))
        halves = (opened, self._open(val)) if val else cut(opened, self._place(opened))
        self.store = Shards(dict(zip(("train", "val"), halves, strict=True)), self.tokenizer, self.cache_dir)
        self.statistics = self.count()
        return self.statistics

    def prepared_state(self) -> State:
        """Ce qu'il faut pour ouvrir les mêmes fragments dans un autre processus de cette machine."""
        return {"tokenizer": self.tokenizer.state()}

    def adopt(self, state: State, labels: Sequence[str] = ()) -> None:
        self.prepare(from_state(state["tokenizer"]))

    def _two_halves(self, files: list[Path]) -> tuple[list[Path], list[Path]]:
        """Les fichiers d'entraînement, et ceux dont le nom dit « val », s'il y en a d'autres qui disent « train »."""
        words = [set(re.findall(r"[^\W\d_]+", file.stem.lower())) for file in files]
        apart = [file for file, names in zip(files, words, strict=True) if names & {*HALVES[1]}]
        training = [file for file, names in zip(files, words, strict=True) if names & {*HALVES[0]}]
        if not apart or not training or {*apart} & {*training}:
            return files, []
        several = f"{number(len(apart))} fichiers, dont {apart[0].name}, font" if len(apart) > 1 else ""
        log.info(
            f"Corpus     : {several or f'{apart[0].name} fait'} la validation, d'après les noms ; le reste n'est pas "
            f"coupé (data.val_path= en choisit une autre)"
        )
        return [file for file in files if file not in {*apart}], apart

    def _open(self, files: Iterable[Path]) -> list[Fragment]:
        """Les fragments de ces fichiers. UserError si l'un ne va pas ; avec data.errors=skip, il est compté."""
        opened, faults = [], []
        for file in files:
            try:
                fragment = open_shard(file)
            except UserError as fault:
                if self.errors == "strict":
                    raise
                faults.append(str(fault))
                continue
            if fragment.dtype == NARROW and self.tokenizer.vocab_size > 1 << 16:
                raise UserError(
                    f"{file} est fait d'entiers de 16 bits, et le tokenizer a {self.tokenizer.vocab_size} "
                    f"identifiants : il ne vient pas de lui, donnez le sien avec tokenizer=."
                )
            opened.append(fragment)
        if faults:
            plural = "s" * (len(faults) > 1)
            log.warning(
                f"{number(len(faults))} fragment{plural} laissé{plural} de côté (data.errors=skip), d'abord : "
                f"{faults[0]}"
            )
        if not any(fragment.length for fragment in opened):
            raise UserError("Le corpus est vide : aucun jeton à lire.")
        check_samples(opened, self.tokenizer.vocab_size)
        return opened

    def _first(self, fragments: list[Fragment]) -> list[Fragment]:
        """Ceux que `data.limit` laisse lire."""
        if self.limit is None:
            return fragments
        documents, size = most(self.limit)
        total = sum(fragment.length for fragment in fragments)
        if size < float("inf"):
            at = min(total, max(1, int(size / fragments[0].dtype.itemsize)))
        else:
            at = self._document_end(fragments, int(documents))
        if at < total:
            say_part(f"{magnitude(at, 'jetons')}", magnitude(total, "jetons"), self.limit)
        return cut(fragments, at)[0]

    def _place(self, fragments: list[Fragment]) -> int:
        """Où couper : à la fraction data.train_split des jetons, ou à la première fin de texte d'après."""
        total = sum(fragment.length for fragment in fragments)
        at = int(self.train_split * total)
        if self.split == "documents":
            before, after = cut(fragments, at)
            at += self._document_end(after, 1)
            if at >= total:
                ends = (int(ends[-1]) for ends in document_ends(before, self._eos_id()) if len(ends))
                at = max(ends, default=0)
        return at

    def _document_end(self, fragments: Sequence[Fragment], count: int) -> int:
        """Le jeton qui suit les `count` premiers documents ; ce qui est après n'est pas lu."""
        eos_id = self._eos_id()
        for ends in document_ends(fragments, eos_id):
            ends = ends[ends > 1]  # une fin de texte au début ne finit rien
            if len(ends) >= count:
                return int(ends[count - 1])
            count -= len(ends)
        return sum(fragment.length for fragment in fragments)

    def _eos_id(self) -> int:
        """L'identifiant qui sépare les documents. UserError si le tokenizer n'en a pas."""
        if self.tokenizer.eos_id is None:
            raise UserError(
                f"Le tokenizer {self.tokenizer.state()['kind']} n'a pas de fin de texte : rien ne sépare les documents "
                f"(data.limit=20MB, data.split=tokens et data.cross_documents=true s'en passent)."
            )
        return self.tokenizer.eos_id

    @property
    def name(self) -> str:  # type: ignore[override]
        """Un nom court pour le corpus : celui de son dossier."""
        first = self.path if isinstance(self.path, str) else self.path[0] if self.path else "fragments"
        path = Path(first)
        return (path if path.is_dir() else path.parent).resolve().name or path.stem

    @property
    def reading(self) -> str:
        fragments = {part.path: part for split in ("train", "val") for part in self.base.fragments(split)}
        kinds = sorted(
            {f"{part.dtype}{'' if part.header else ' sans en-tête'}" for part in fragments.values()}
        )
        plural = "s" * (len(fragments) > 1)
        written = (
            f"tokenizer {self.tokenizer.state()['kind']}, {number(self.tokenizer.vocab_size)} identifiants"
        )
        return f"{number(len(fragments))} fragment{plural} ({', '.join(kinds)}), {written}"

    def first_documents(self, count: int) -> Sequence[int]:
        assert isinstance(self.store, Shards)
        return self.store.first_documents("val", count)


def _files(path: str | list[str] | None) -> Found:
    return find_files(path, suffixes=(SUFFIX,), what="des fragments")


def _tokenizer_of(files: Sequence[Path], tokenizer: Tokenizer) -> Tokenizer:
    """Le tokenizer qui a écrit ces fragments : `tokenizer`, ou le vocabulaire appris que leur dossier garde."""
    for folder in dict.fromkeys(file.parent for file in files):
        if not (folder / TOKENIZER).is_file():
            continue
        written = _read_state(folder / TOKENIZER)
        if _learns(tokenizer) and type(written) is type(tokenizer):
            tokenizer = written
        elif _learns(tokenizer) or not _writes(tokenizer, written):
            raise UserError(
                f"{folder} contient des jetons du tokenizer {written.state()['kind']}, et d'un autre vocabulaire que "
                f"celui qui est demandé : donnez le sien avec tokenizer=."
            )
    if _learns(tokenizer):
        pickled = any((file.parent / "meta.pkl").exists() for file in files[:1])
        why = " (meta.pkl, du code, n'est pas ouvert)" if pickled else ""
        raise UserError(
            f"{files[0]} : ces jetons ne disent pas leur tokenizer{why} : donnez tokenizer=gpt2, ou celui qui les a "
            f"écrits ; un vocabulaire appris se lit dans {TOKENIZER}, que prepare format=bin pose à côté d'eux."
        )
    return tokenizer


def _learns(tokenizer: Tokenizer) -> bool:
    return isinstance(tokenizer, LearningTokenizer) and not tokenizer.vocab_size


def _writes(tokenizer: Tokenizer, written: Tokenizer) -> bool:
    """Vrai si `tokenizer` a les jetons de `written`, aux mêmes rangs ; il peut en avoir de plus."""
    return fingerprint(written) == fingerprint(tokenizer) or (
        written.vocab_size <= tokenizer.vocab_size
        and all(written.token_bytes(i) == tokenizer.token_bytes(i) for i in range(written.vocab_size))
    )


def _read_state(path: Path) -> Tokenizer:
    broken = UserError(
        f"{path} est abîmé : refaites ces fragments, ou retirez ce fichier et donnez tokenizer=."
    )
    try:
        if path.stat().st_size > MOST_STATE:
            raise broken
        state = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(state, dict):
            raise broken
        return from_state(state)
    except (OSError, ValueError, TypeError, RecursionError, KeyError):
        raise broken from None
