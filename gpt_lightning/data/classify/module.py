"""Le LightningDataModule des textes étiquetés : il les lit, et en sert les lots.

Légende des formes : B lot, T jetons du plus long texte du lot, N textes, E étiquettes.
"""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gpt_lightning.data.base import Statistics
from gpt_lightning.data.classify.formats import SUFFIXES, LabelledText, read_labelled
from gpt_lightning.data.classify.labels import check, spell
from gpt_lightning.data.dictionary import aspirated_h, noun_definitions
from gpt_lightning.data.padded import AnswerDataset, EncodedConversation
from gpt_lightning.data.rows import RowOptions, RowsDataModule
from gpt_lightning.errors import UserError, choice
from gpt_lightning.tokenizers import Tokenizer, fingerprint
from gpt_lightning.tokenizers.base import LearningTokenizer
from gpt_lightning.wording import number, percent

log = logging.getLogger("gpt_lightning")
OWN = {"noms": noun_definitions, "h_aspire": aspirated_h}


def _root(path: str | list[str] | None, file: Path) -> Path | None:
    """Celui des dossiers de `data.path` qui contient `file`."""
    entries = [path] if isinstance(path, str) else path or []
    folders = [Path(os.path.expanduser(entry)) for entry in entries]
    return next((folder for folder in folders if folder.is_dir() and file.is_relative_to(folder)), None)


class LabelBatch(NamedTuple):
    """Un lot. Le poids de chaque texte est celui de son étiquette dans la perte."""

    ids: Tensor  # (B, T)
    where: Tensor  # (B,) rangs, dans le lot mis à plat, des derniers jetons
    targets: Tensor  # (B,) les étiquettes, par leur rang
    weights: Tensor  # (B,)
    share: float = 1.0  # celui d'un lot d'`Answers` : zéro, le lot est vide

    @property
    def n_targets(self) -> int:
        """Les textes à classer ; aucun dans un lot vide."""
        return len(self.targets) if self.share else 0


class LabelDataset(AnswerDataset):
    """Des textes encodés (T,) et leurs étiquettes, complétés à droite : le remplissage n'est pas vu."""

    def __init__(self, texts: Sequence[np.ndarray], labels: Sequence[int], weights: np.ndarray) -> None:
        # un jeton de plus : `AnswerDataset` compte ceux qu'un texte fait lire
        super().__init__(
            [EncodedConversation(np.append(ids, 0), np.arange(len(ids) + 1) == len(ids)) for ids in texts]
        )
        self.labels = np.array(labels, dtype=np.int64)  # (N,)
        self.weights = weights.astype(np.float32)  # (E,)

    def batch(self, indices: Sequence[int]) -> LabelBatch:  # type: ignore[override]
        if not len(indices):
            first = torch.zeros(1, dtype=torch.int64)
            return LabelBatch(first[None], first, first, torch.ones(1), share=0.0)
        width = int(self.lengths[list(indices)].max())
        ids = np.zeros((len(indices), width), dtype=np.int64)
        for line, index in enumerate(indices):
            ids[line, : self.lengths[index]] = self.rows[index].ids[:-1]
        where = np.arange(len(indices)) * width + self.lengths[list(indices)] - 1
        labels = self.labels[list(indices)]
        arrays = ids, where, labels, self.weights[labels]
        tokens, places, targets, weights = map(torch.from_numpy, arrays)
        return LabelBatch(tokens, places, targets, weights)


class LabelledDataModule(RowsDataModule[LabelledText]):
    """Lit des textes étiquetés et sert de quoi apprendre leur étiquette.

    `source=None` : les fichiers de `path` s'il est donné, sinon les définitions de noms. Les étiquettes sont celles
    des textes, triées ; ou `labels`, celles d'un modèle qui classe déjà, jamais renumérotées. Un texte plus long
    que `max_length` est coupé à la fin.
    """

    task = "classify"
    nouns = ("texte", "textes")
    suffixes, what = SUFFIXES, "des textes étiquetés"
    own, default, few = tuple(OWN), "noms", 20_000
    alike, drew_before = "sont le même texte", True

    def __init__(
        self,
        *,
        tokenizer: Tokenizer | None,
        source: str | None = None,
        path: str | list[str] | None = None,
        val_path: str | list[str] | None = None,
        text_key: str = "text",
        label_key: str = "label",
        limit: int | str | None = None,
        errors: str = "strict",
        train_split: float = 0.9,
        class_weights: str = "none",
        max_length: int = 128,
        batch_size: int = 16,
        num_workers: int = 0,
        passes: int = 1,
        eval_batches: int | None = None,
        seed: int = 123,
        accumulate: int = 1,
        report: Callable[[str], None] = lambda folder: None,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        super().__init__()
        options = RowOptions(
            tokenizer=tokenizer,
            source=source,
            path=path,
            val_path=val_path,
            limit=limit,
            errors=errors,
            train_split=train_split,
            max_length=max_length,
            batch_size=batch_size,
            num_workers=num_workers,
            passes=passes,
            eval_batches=eval_batches,
            seed=seed,
            accumulate=accumulate,
            progress=progress,
        )
        self.check(options)
        for name, key in (("text_key", text_key), ("label_key", label_key)):
            if not isinstance(key, str) or not key.strip():
                raise UserError(f"data.{name} est vide : il faut le titre d'une colonne, ou une clé.")
        if text_key == label_key:
            raise UserError(f"data.text_key et data.label_key sont les mêmes : {text_key}.")
        self.text_key, self.label_key = text_key, label_key
        self.class_weights = choice("data.class_weights", class_weights, ("none", "auto"))
        self.labels: tuple[str, ...] = ()

    def prepare(self, tokenizer: Tokenizer | None = None, labels: Sequence[str] = ()) -> Statistics:
        """Lit et encode tous les textes ; `labels` : celles d'un modèle qui classe déjà, jamais renumérotées.

        UserError, qui nomme la ligne, si l'un ne se comprend pas.
        """
        if tokenizer is not None:
            self.tokenizer = tokenizer
        self.labels = tuple(labels) or self.labels
        of_model = bool(self.labels)
        self.texts = spell(self.halves(), self.labels)  # {moitié : les textes étiquetés}
        train, val = self.texts["train"], self.texts["val"]
        _say_unread(key for row in (*train, *val) for key in row.unread)
        self.labels = self.labels or tuple(sorted({row.label for row in (*train, *val)}))
        check(self.texts, self.labels, of_model=of_model, apart=bool(self.val_path))
        if isinstance(self.tokenizer, LearningTokenizer) and not self.tokenizer.vocab_size:
            read = (*train, *val) if self.tokenizer.fit_on == "all" else train
            self.tokenizer = self.tokenizer.fit(row.text for row in read)
        counts = self.class_counts("train")
        balanced = len(train) / (np.count_nonzero(counts) * np.maximum(counts, 1))
        self._cut = 0
        # une évaluation compte chaque texte de la même façon
        weights = {"train": balanced if self.class_weights == "auto" else np.ones(len(counts))}
        self.store = {
            split: self._encode_all(rows, weights.get(split, np.ones(len(counts))))
            for split, rows in self.texts.items()
        }
        content = [[split, [row[:2] for row in rows]] for split, rows in self.texts.items()]
        self._digest = hashlib.sha256(json.dumps([content, self.labels]).encode()).hexdigest()
        self.say_skipped()
        self.statistics = Statistics(
            documents=len(train) + len(val),
            characters=sum(len(row.text) for row in (*train, *val)),
            train_tokens=int(self.store["train"].lengths.sum()),
            val_tokens=int(self.store["val"].lengths.sum()),
            train_windows=len(train),
            val_windows=len(val),
        )
        return self.statistics

    def read(self, source: str, path: str | list[str] | None) -> Iterator[LabelledText]:
        if source in OWN:
            return OWN[source](self.limit)
        skipped = self.skipped.append if self.errors == "skip" else None
        return (
            row
            for file in self.files(path).files
            for row in read_labelled(
                file, self.text_key, self.label_key, skipped, _root(path, file), strict=self.partial
            )
        )

    def _encode_all(self, rows: Sequence[LabelledText], weights: np.ndarray) -> LabelDataset:
        """Encode les textes, coupés à la fenêtre ; `summary` dit combien l'ont été."""
        texts, size = [], 0
        for row in rows:
            size += len(row.text.encode())
            self.progress(size, 0)
            ids = self.tokenizer.encode(row.text)
            self._cut += len(ids) > self.max_length
            texts.append(np.array(ids[: self.max_length], dtype=np.int32))
            if not len(texts[-1]):
                raise UserError(f"{row.where} : ce tokenizer ne lit rien de « {row.text[:40]} ».")
        return LabelDataset(texts, [self.labels.index(row.label) for row in rows], weights)

    def documents(self, split: str) -> Iterator[Iterable[str]]:
        assert self.store is not None, "prepare() lit les textes"
        return ([self.tokenizer.decode(row.ids[:-1].tolist())] for row in self.store[split].rows)

    def names(self, ranks: Iterable[int]) -> Mapping[int, str]:
        return {rank: self.texts["train"][rank].where for rank in ranks}

    def class_counts(self, split: str) -> np.ndarray:
        """Compte les textes de cette moitié qui ont chaque étiquette : (E,)."""
        ranks = {label: rank for rank, label in enumerate(self.labels)}
        return np.bincount([ranks[row.label] for row in self.texts[split]], minlength=len(ranks))

    @property
    def summary(self) -> str:
        """Ce que le corpus contient, en une phrase."""
        counts = dict(zip(self.labels, self.class_counts("train").tolist(), strict=True))
        return _contents(self.statistics, self.name, counts, self._cut, self.max_length)

    @property
    def bytes_per_target(self) -> float:
        """Octets de texte par texte classé, en validation."""
        texts = [row.text for row in self.texts["val"]]
        return sum(len(text.encode()) for text in texts) / len(texts)

    @property
    def identity(self) -> str:
        """L'empreinte de ce qui est lu et appris."""
        how = [self.max_length, self.train_split, self.class_weights]
        description = json.dumps([self._digest, fingerprint(self.tokenizer), how])
        return hashlib.sha256(description.encode()).hexdigest()[:16]

    def openings(self, count: int = 3) -> list[str]:
        """`count` textes de validation, pour les exemples."""
        return [row.text for row in self.texts["val"][:count]]


def _say_unread(keys: Iterable[str]) -> None:
    """Dit les colonnes qui ne sont ni le texte ni l'étiquette."""
    if titles := list(dict.fromkeys(keys)):
        several = len(titles) > 1
        which = "des colonnes ne sont pas lues" if several else "une colonne n'est pas lue"
        listed = ", ".join(title[:40] or "sans titre" for title in titles[:8])
        log.info(f"Corpus     : {which}, {listed} ; data.text_key= et data.label_key= les choisissent")


def _contents(stats: Statistics, name: str, counts: Mapping[str, int], cut: int, length: int) -> str:
    """La phrase qui décrit un corpus : `counts` textes d'entraînement par étiquette, `cut` textes coupés."""
    most = sorted(counts.items(), key=lambda pair: -pair[1])
    listed = ", ".join(f"{label} {percent(count / sum(counts.values()))}" for label, count in most[:6])
    more = f" et {len(most) - 6} autres" if len(most) > 6 else ""
    text = (
        f"Corpus     : {name}, {number(stats.documents)} textes, {len(counts)} étiquettes ({listed}{more})\n"
        f"             entraînement {number(stats.train_windows)} textes, "
        f"{number(stats.train_tokens)} jetons ; validation {number(stats.val_windows)} textes"
    )
    if cut:
        plural = "s" * (cut > 1)
        text += f"\n             {number(cut)} texte{plural} coupé{plural} à data.max_length={length} jetons"
    return text
