"""Le LightningDataModule d'un jeu de données : sa colonne de textes, encodée une fois dans notre base."""

from collections.abc import Callable
from functools import partial

from gpt_lightning.data.corpus import Source
from gpt_lightning.data.hub import Dataset
from gpt_lightning.data.measure import Progress
from gpt_lightning.data.text import SPLITS, TextModule
from gpt_lightning.data.windowed import WindowOptions
from gpt_lightning.errors import UserError, choice
from gpt_lightning.tokenizers import Tokenizer


class DatasetsDataModule(TextModule):
    """Le texte d'un jeu de données, en fenêtres : un dossier d'ici, ou un nom du hub, que datasets lit."""

    def __init__(
        self,
        *,
        tokenizer: Tokenizer | None,
        source: str = "datasets",
        name: str | None = None,
        config: str | None = None,
        split: str = "train",
        val_split: str | None = None,
        path: str | list[str] | None = None,
        val_path: str | list[str] | None = None,
        text_key: str | None = None,
        errors: str = "strict",
        deduplicate: bool = False,
        limit: int | str | None = None,
        cut: str = "hash",
        train_split: float = 0.9,
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
        progress: Progress = lambda done, total: None,
    ) -> None:
        super().__init__()
        choice("data.source", source, ("datasets",))
        choice("data.cut", cut, SPLITS)
        _check_halves(path, val_split, val_path)
        reading = (batch_size, num_workers, passes, eval_batches, seed, accumulate)
        self.keep(
            WindowOptions(
                tokenizer, cache_dir, train_split, cross_documents, max_length, stride, shift, *reading
            )
        )
        self.report, self.progress = report, progress
        open_source = partial(
            Source,
            text_key=text_key or "text",
            errors=errors,
            deduplicate=deduplicate,
            cache_dir=self.cache_dir,
        )
        part = partial(open_source, source="datasets")
        apart = open_source(path=val_path) if val_path else None
        if val_split:
            apart = part(dataset=Dataset(name or "", config, val_split))
        self.read_from(part(dataset=Dataset(name or "", config, split), limit=limit), apart, cut)


def _check_halves(path: object, val_split: str | None, val_path: object) -> None:
    """UserError si le jeu est donné par un chemin, ou sa validation deux fois."""
    if path is not None:
        raise UserError(
            "data=datasets ne lit pas data.path= : donnez le dossier, ou le nom du jeu, avec data.name=."
        )
    if val_split and val_path:
        raise UserError(
            "data.val_split= et data.val_path= donnent chacun la validation : gardez l'un des deux."
        )
