"""Construire le corpus d'une commande d'après `data`, le lire et l'encoder ; l'avancement s'affiche."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from gpt_lightning.cli import console, defaults, processes
from gpt_lightning.cli.targets import build
from gpt_lightning.errors import Unfit, UserError
from gpt_lightning.training import checks
from gpt_lightning.typing import State
from gpt_lightning.wording import duration, number

if TYPE_CHECKING:
    from gpt_lightning.data.classify.module import LabelledDataModule
    from gpt_lightning.data.instruct.module import ConversationDataModule
    from gpt_lightning.data.windowed import WindowModule
    from gpt_lightning.tokenizers import Tokenizer
    from gpt_lightning.weights.format import TrainingProgress
    from gpt_lightning.weights.inference import Inference

GIVE = "donnez celui qu'il a lu, data=text data.path=corpus.txt."
DataModule: TypeAlias = "WindowModule | ConversationDataModule | LabelledDataModule"


def build_data(
    node: Mapping[str, object],
    tokenizer: Mapping[str, object] | None = None,
    *,
    accumulate: int = 1,
    done: "TrainingProgress | None" = None,
) -> DataModule:
    """Le module de données de `node`, et son tokenizer s'il y en a un : vérifiés, rien n'est lu.

    `done` est où en est l'exécution que l'on reprend, s'il y en a une : une version d'avant a pu la commencer.
    """
    data: DataModule = build(
        "data",
        node,
        tokenizer=None if tokenizer is None else build("tokenizer", tokenizer),
        report=lambda path: console.log.info(
            f"Base       : le texte, le tokenizer ou le découpage est nouveau, les jetons sont écrits dans {path}"
        ),
        progress=console.ProgressLine(_encoding_progress),
        accumulate=accumulate,
    )
    if done is not None and not (done.partial or done.formats):
        data.continue_as_before()
    return data


def find_data(node: Mapping[str, object], tokenizer: Mapping[str, object] | None = None) -> DataModule:
    """Le même module, jugé d'avance : ses fichiers sont trouvés, et le journal dit ceux qui ne seront pas lus."""
    data = build_data(node, tokenizer)
    if skipped := data.find():
        console.log.info(_skipped_files(skipped))
    return data


def prepare_data(data: DataModule, tokenizer: "Tokenizer | None" = None, labels: Sequence[str] = ()) -> State:
    """Lit et encode le corpus : `data` est prêt à servir. `tokenizer` et `labels` sont ceux des poids de départ.

    Un seul processus par machine le fait ; renvoie ce que les autres reçoivent, en valeurs simples : aussi un réglage
    qui ne va pas au corpus (Unfit), pour que tous y accordent le leur.
    """

    def prepare() -> State:
        try:
            data.prepare(tokenizer, labels)
        except Unfit as refusal:
            return {
                "unfit": [str(refusal), refusal.why, *refusal.fits],
                "otherwise": refusal.otherwise,
            }
        return data.prepared_state()

    shared = processes.once_per_machine(prepare)
    if "unfit" in shared:
        raise Unfit(*shared["unfit"], otherwise=shared["otherwise"])
    if data.store is None:
        data.adopt(shared, labels)
    return shared


def open_trained_corpus(node: Mapping[str, object], loaded: "Inference") -> DataModule:
    """Le corpus que le modèle de `loaded` a appris, d'après `node` : sa base si le cache l'a encore, sinon ses sources.

    UserError, qui dit comment le donner, s'il n'est plus là, ou si les poids viennent d'ailleurs.
    """
    from gpt_lightning.data.text import TextModule

    node = checks.in_template(dict(node), loaded)
    given = any(map(defaults.is_typed, ("data", "data.path", "data.name")))
    as_learned = not defaults.is_typed_under("data")
    if not loaded.corpus and not given:
        raise UserError(f"{loaded.source} ne dit pas son corpus : {GIVE}")
    checks.data("data", node)
    data = build_data(node)
    if as_learned and isinstance(data, TextModule) and data.adopt_base(loaded.corpus, loaded.tokenizer):
        return data
    try:
        prepare_data(data, loaded.tokenizer, loaded.labels)
    except Unfit:
        raise
    except UserError as error:
        if given:
            raise
        raise UserError(f"Le corpus de {loaded.source} n'est plus là ({str(error)[:-1]}) : {GIVE}") from None
    if loaded.corpus and data.identity != loaded.corpus:
        console.log.warning(f"Corpus     : {data.name} n'est pas exactement ce que {loaded.source} a appris")
    return data


def sorting_line() -> console.ProgressLine:
    """L'avancement d'un index."""
    return console.ProgressLine(
        lambda done, total, seconds: f"Index      : {number(done)} suffixes à leur place sur {number(total)}"
    )


def _skipped_files(files: Sequence[tuple[Path, str]]) -> str:
    """La phrase des fichiers d'un dossier qui ne sont pas lus, comptés par raison, et le premier."""
    counts = Counter(reason for _, reason in files).most_common()
    listed = ", ".join(f"{reason} × {n}" for reason, n in counts)
    plural = "s" * (len(files) > 1)
    return f"Corpus     : {number(len(files))} laissé{plural} de côté ({listed}), dont {files[0][0]}"


def _encoding_progress(done: int, total: int, seconds: float) -> str:
    """La phrase qui dit où en est la lecture d'un corpus, ou son encodage, dont on sait combien d'octets il a."""
    speed = f"{number(done / 1e6 / seconds, 1)} Mo/s"
    if not total:
        return f"             {number(done / 1e6)} Mo lus, {speed}"
    left = duration(seconds / done * (total - done))
    return f"             {number(done / 1e6)} Mo encodés sur {number(total / 1e6)}, {speed}, reste {left}"
