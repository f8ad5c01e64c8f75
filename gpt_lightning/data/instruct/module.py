"""Le LightningDataModule des conversations : il lit des questions et des réponses, et en sert les lots."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain

import numpy as np

from gpt_lightning.data.base import Statistics
from gpt_lightning.data.instruct.formats import NEEDED, SUFFIXES, Conversation, read_conversations
from gpt_lightning.data.padded import AnswerDataset, EncodedConversation, pack
from gpt_lightning.data.rows import RowOptions, RowsDataModule
from gpt_lightning.errors import Unfit, UserError, choice
from gpt_lightning.tokenizers import Tokenizer, fingerprint
from gpt_lightning.tokenizers.base import LearningTokenizer
from gpt_lightning.tokenizers.dialects import DIALECTS, FINISHED, NO_THOUGHT, TITLES, read_name
from gpt_lightning.tokenizers.messages import Message
from gpt_lightning.tokenizers.template import Template, template_for
from gpt_lightning.wording import number


class ConversationDataModule(RowsDataModule[Conversation]):
    """Lit des conversations, les met dans un gabarit, et sert ce qu'il y a à apprendre : les réponses.

    `source=None` : les fichiers de `path` s'il est donné, sinon les questions de dictionary.py. Une conversation plus
    longue que `max_length` est coupée après une réponse.
    """

    task = "instruct"
    nouns = ("conversation", "conversations")
    suffixes, what = SUFFIXES, "des conversations"
    own, default, few = ("definitions",), "definitions", 30_000
    alike = "commencent par la même question"

    def __init__(
        self,
        *,
        tokenizer: Tokenizer | None,
        source: str | None = None,
        path: str | list[str] | None = None,
        val_path: str | list[str] | None = None,
        limit: int | str | None = None,
        errors: str = "strict",
        ignore: str | Sequence[str] = (),
        train_split: float = 0.9,
        template: str | None = None,
        mask_prompt: bool = True,
        packing: bool = False,
        max_length: int = 256,
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
        self.template_name = "texte" if template is None else template
        read_name(self.template_name)
        self.mask_prompt = choice("data.mask_prompt", mask_prompt, (True, False))
        self.packing = choice("data.packing", packing, (True, False))
        self.ignore, self._ignored = _ignored_keys(ignore), set[str]()
        self.template: Template

    def prepare(self, tokenizer: Tokenizer | None = None, labels: Sequence[str] = ()) -> Statistics:
        """Lit et encode toutes les conversations. UserError, qui nomme la ligne, si l'une ne se comprend pas."""
        if tokenizer is not None:
            self.tokenizer = tokenizer
        self._longest = self._cut = self._unanswered = 0  # ce que `summary` dit de ce qui est laissé de côté
        halves = self.halves()
        self._refuse_ignored_in_vain()
        self._fit(halves)
        self.template = template_for(self.template_name, self.tokenizer)
        self.tokenizer = self.template.tokenizer
        digest = hashlib.sha256()
        self.store, self._sizes = {}, dict[str, int]()
        self._texts = dict[str, list[tuple[str, str]]]()  # par moitié : (d'où, le texte) de chaque message lu
        for split, conversations in halves.items():
            self._texts[split] = []
            self.store[split], self._sizes[split] = self._encode_all(conversations, self._texts[split])
            digest.update(json.dumps([split, list(map(_to_json, conversations))]).encode())
        self._digest = digest.hexdigest()
        since = chain.from_iterable(conversation.since for half in halves.values() for conversation in half)
        self.since = tuple(dict.fromkeys(since))
        self._questions = [conversation.messages[:-1] for conversation in halves["val"]]
        self.say_skipped()
        train, val = self.store["train"], self.store["val"]
        self.statistics = Statistics(
            documents=len(halves["train"]) + len(halves["val"]),
            characters=sum(
                len(message.content)
                for part in halves.values()
                for conversation in part
                for message in conversation.messages
            ),
            train_tokens=int(train.lengths.sum()),
            val_tokens=int(val.lengths.sum()),
            train_windows=len(train),
            val_windows=len(val),
        )
        return self.statistics

    def read(self, source: str, path: str | list[str] | None) -> Iterator[Conversation]:
        if source == "definitions":
            from gpt_lightning.data.dictionary import definitions

            yield from definitions(self.limit)
            return
        skipped = self.skipped.append if self.errors == "skip" else None
        for file in self.files(path).files:
            for conversation in read_conversations(file, skipped, self.ignore):
                self._ignored.update(conversation.ignored)
                yield conversation

    def _refuse_ignored_in_vain(self) -> None:
        """UserError si data.ignore nomme une clé que rien de ce qui est lu n'a : ce n'est pas elle que l'on voulait."""
        vain = [key for key in self.ignore if key not in self._ignored]
        if vain:
            raise UserError(
                f"data.ignore=[{','.join(self.ignore)}] : aucune conversation n'a la clé {vain[0]} ; retirez-la, ou "
                f"corrigez son nom."
            )

    def _fit(self, halves: dict[str, list[Conversation]]) -> None:
        """Apprend le vocabulaire, s'il s'apprend : sur toutes les conversations, ou celles d'entraînement."""
        if isinstance(self.tokenizer, LearningTokenizer) and not self.tokenizer.vocab_size:
            kind, system = read_name(self.template_name)
            titles = "\n\n".join([*TITLES.values(), FINISHED, *("user\n", "assistant\n", "system\n")])
            titles += (system or "") + NO_THOUGHT * DIALECTS[kind].thinks
            everything: Iterable[Conversation] = chain(*halves.values())
            conversations = everything if self.tokenizer.fit_on == "all" else halves["train"]
            texts = (message.content for conversation in conversations for message in conversation.messages)
            self.tokenizer = self.tokenizer.fit(chain([titles], texts))

    def _encode_all(
        self, conversations: list[Conversation], texts: list[tuple[str, str]]
    ) -> tuple[AnswerDataset, int]:
        """Encode ces conversations ; renvoie leurs lignes, et les octets de leurs réponses. `texts` reçoit ce qui en
        est lu."""
        rows, size, read = [], 0, 0
        too_long: dict[int, str] = {}  # jetons de ce qui ne se coupe pas -> ce qui le dit
        for conversation in conversations:
            read += sum(len(message.content.encode()) for message in conversation.messages)
            self.progress(read, 0)
            beginning = self._cut_to_window(conversation)
            if beginning is None:
                length, sentence = self._shortest(conversation)
                too_long.setdefault(length, sentence)
                self.skipped.append(sentence)
                continue
            messages, row = beginning
            rows.append(row)
            texts += [(conversation.where, message.content) for message in messages]
            self._count_rest(conversation, messages)
            size += sum(
                len(message.content.encode())
                for message in messages
                if message.learned and (message.role == "assistant" or not self.mask_prompt)
            )
        strict = self.errors == "strict" and self.source == "files"
        if too_long and (strict or not rows):
            where = too_long[max(too_long)].partition(" : ")[0]
            why = f"une question et sa réponse font {number(max(too_long))} jetons ({where})"
            sentence = next(iter(too_long.values()))
            if not rows:
                sentence = (
                    f"Aucune conversation ne tient en data.max_length={self.max_length} jetons : {sentence}"
                )
            raise Unfit(
                f"{sentence} : essayez data.max_length={max(too_long)}{', ou data.errors=skip' * strict}.",
                why,
                {"data.max_length": max(too_long)},
                otherwise="data.errors=skip" if strict else "",
            )
        bins = pack([len(row.ids) - 1 for row in rows], self.max_length) if self.packing else None
        return AnswerDataset(rows, bins), size

    def _cut_to_window(self, conversation: Conversation) -> tuple[list[Message], EncodedConversation] | None:
        """Le plus long début de la conversation qui tient dans la fenêtre et finit par une réponse à apprendre."""
        messages = list(conversation.messages)
        while messages:
            if messages[-1].role == "assistant" and messages[-1].learned:
                ids, mask = self.template.render(messages, everything=not self.mask_prompt)
                self._longest = max(self._longest, len(ids) - 1)
                if len(ids) <= self.max_length + 1:
                    return messages, EncodedConversation(np.array(ids, dtype=np.int32), np.array(mask))
            messages.pop()
        return None

    def _shortest(self, conversation: Conversation) -> tuple[int, str]:
        """Les jetons du plus court début de cette conversation, et la phrase qui dit qu'il ne tient pas."""
        answers = [rank for rank, message in enumerate(conversation.messages) if message.role == "assistant"]
        last = next(rank for rank in answers if conversation.messages[rank].learned)
        which = "la première question et sa réponse"
        if last != answers[0]:
            which = "les messages jusqu'à la première réponse à apprendre"
        ids, _ = self.template.render(conversation.messages[: last + 1])
        length = len(ids) - 1
        what = f"{which} font {number(length)} jetons, et dépassent data.max_length={self.max_length}"
        return length, f"{conversation.where} : {what}"

    def _count_rest(self, conversation: Conversation, messages: Sequence[Message]) -> None:
        """Compte ce que cette conversation, dont on ne lit que le début `messages`, laisse de côté."""
        left = conversation.messages[len(messages) :]
        self._cut += any(message.role == "assistant" and message.learned for message in left)
        self._unanswered += bool(left) and conversation.messages[-1].role == "user"

    @property
    def summary(self) -> str:
        """Ce que le corpus contient, en une phrase."""
        assert self.store is not None
        targets = int(self.store["train"].targets.sum())
        lines = [
            f"Corpus     : {self.name}, {number(self.statistics.documents)} "
            f"conversation{'s' * (self.statistics.documents > 1)}, gabarit {self.template_name}",
            f"entraînement {number(self.statistics.train_tokens)} jetons, dont "
            f"{number(targets)} à apprendre ; validation {number(self.statistics.val_tokens)} jetons",
        ]
        if self._cut:
            lines.append(
                f"{number(self._cut)} coupée{'s' * (self._cut > 1)} après une réponse, à data.max_length="
                f"{self.max_length} jetons (la plus longue en a {number(self._longest)})"
            )
        if self._unanswered:
            end = "finissent" if self._unanswered > 1 else "finit"
            lines.append(
                f"{number(self._unanswered)} {end} par une question sans réponse, qui n'est pas apprise"
            )
        return "\n             ".join(lines)

    @property
    def bytes_per_target(self) -> float:
        """Octets de texte par jeton appris, en validation."""
        assert self.store is not None
        return self._sizes["val"] / int(self.store["val"].targets.sum())

    @property
    def identity(self) -> str:
        """L'empreinte de ce qui est lu et appris."""
        how = [self.template_name, self.mask_prompt, self.packing, self.max_length, self.train_split]
        description = json.dumps([self._digest, fingerprint(self.tokenizer), how])
        return hashlib.sha256(description.encode()).hexdigest()[:16]

    def documents(self, split: str) -> Iterator[Iterable[str]]:
        return ([text] for _, text in self._texts[split])

    def names(self, ranks: Iterable[int]) -> Mapping[int, str]:
        return {rank: self._texts["train"][rank][0] for rank in ranks}

    def answer_bytes(self, *splits: str) -> int:
        """Les octets de texte appris dans ces moitiés."""
        return sum(self._sizes[split] for split in splits)

    def openings(self, count: int = 3) -> list[str]:
        """Les questions de `count` conversations de validation, pour les réponses d'exemple."""
        questions = self._questions[:count]
        users = [[message for message in question if message.role == "user"] for question in questions]
        return [messages[-1].content for messages in users]


def _ignored_keys(ignore: object) -> tuple[str, ...]:
    """Les clés de data.ignore. UserError si ce ne sont pas des noms, ou si un message ne se lit plus sans elles."""
    keys = [ignore] if isinstance(ignore, str) else ignore
    if not isinstance(keys, list | tuple) or not all(isinstance(key, str) for key in keys):
        raise UserError("data.ignore : il faut une liste de clés, data.ignore=[id,tags].")
    for key in keys:
        if key in NEEDED:
            raise UserError(f"data.ignore={key} : un message ne se lit pas sans cette clé ; retirez-la.")
    return tuple(keys)


def _to_json(conversation: Conversation) -> list[list[object]]:
    """Les messages de cette conversation, pour l'empreinte : `learned` n'y est que s'il est faux."""
    return [[*message[:2]] if message.learned else [*message] for message in conversation.messages]
