"""Les réglages d'un entraînement : les lire une fois, les juger clé par clé, ne plus les changer.

Chaque clé de train.yaml est ici un champ. Il donne les valeurs qu'elle prend, ce qu'une reprise peut y changer, et
quand elle serait sans effet. La précision, la compilation, le taux d'apprentissage et l'origine des poids se décident
plus tard : les réglages demandés et ceux qui ont servi sont donc deux objets. `--help` n'attend pas torch.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from gpt_lightning.errors import UserError, choice, whole
from gpt_lightning.training import checks, keys
from gpt_lightning.training.keys import LIMITS, Useless, itself, key
from gpt_lightning.typing import Settings

if TYPE_CHECKING:
    from gpt_lightning.model.lora import LoRAConfig
    from gpt_lightning.training.optim import OptimConfig
    from gpt_lightning.weights import StartingPoint

WRITES_NOTHING = "un modèle qui classe n'écrit pas de texte"
NO_CHECKPOINT = "cet entraînement n'écrit pas de checkpoint"
RESUMING = "la reprise elle-même"


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Ce que train.yaml demande. `read` lit et juge ; `settle` et `decide` donnent les réglages qui ont servi."""

    tokenizer: Settings = key()
    data: Settings = key(
        checks.data,
        follows={
            "batch_size": "le lot : la longueur est recomptée en jetons",
            "passes": "les passages sur le corpus",
            "num_workers": "les processus de lecture",
            "eval_batches": "les lots d'une évaluation",
            "cache_dir": "le dossier des jetons encodés",
            "path": "l'endroit du corpus : son contenu, lui, ne change pas",
            "val_path": "l'endroit de la validation, de même",
            "name": "l'endroit du jeu de données, de même",
            "url": "l'adresse du corpus, de même",
            "sha256": "son empreinte",
            "ignore": "les clés qui ne sont pas lues, si le contenu n'en change pas",
            **keys.READING,
        },
        useless=[Useless(("passes",), keys.has_other_length, f"la longueur est déjà donnée par {LIMITS}")],
    )
    optim: Settings = key(
        follows="l'optimiseur : taux, decay, betas, plan du taux et sa longueur",
        fixed=("_target_",),
        useless=[
            Useless(
                ("decay",),
                lambda s: s["optim"]["schedule"] != "wsd",
                "elle règle la descente de optim.schedule=wsd",
            ),
            Useless(
                ("min_lr_ratio",),
                lambda s: s["optim"]["schedule"] == "constant",
                "optim.schedule=constant ne descend pas",
            ),
        ],
    )
    model: Settings = key(
        follows={
            "drop_rate": "le dropout",
            "kernels": "les formules, écrites ou fusionnées : les mêmes nombres à l'arrondi près",
        }
    )
    lora: Settings = key(
        follows={"drop_rate": "celui des adaptateurs", "save": "ce que les checkpoints gardent"},
        useless=[Useless(("save",), keys.saves_nothing, NO_CHECKPOINT)],
    )
    decoding: Settings = key(
        follows="le décodage des textes d'exemple",
        useless=[
            *itself(keys.classifies, WRITES_NOTHING),
            *itself(keys.samples_nothing, "elle sert à callbacks.sample, qui est retiré"),
        ],
    )
    trainer: Settings = key(
        checks.trainer,
        follows="le Trainer : longueur, précision, écrêtage, appareils (le nombre de processus : voir plus bas)",
        useless=[
            Useless(
                ("gradient_clip_algorithm",),
                lambda s: not s["trainer"]["gradient_clip_val"],
                "il faut aussi trainer.gradient_clip_val",
            ),
            Useless(("max_epochs", "max_steps"), keys.runs_fast, "trainer.fast_dev_run dit le nombre de pas"),
        ],
    )
    callbacks: Settings = key(
        follows="les callbacks : patience, textes d'exemple, checkpoints",
        useless=[
            Useless(
                ("sample.max_new_tokens", "sample.strategy", "sample.seed"),
                keys.classifies,
                WRITES_NOTHING,
            )
        ],
    )
    logger: Settings = key(follows="les journaux")
    seed: int = key(partial(whole, least=0, most=2**32 - 1))
    ckpt_path: str | None = key(follows=RESUMING)
    resume: str | None = key(follows=RESUMING)
    strict_resume: bool = key(
        checks.boolean,
        follows=RESUMING,
        useless=itself(
            lambda s: s["ckpt_path"] is None and s["resume"] is None,
            "elle sert à ckpt_path= et à resume=auto",
        ),
    )
    init_from: str | None = key()
    train_on: str | None = key(checks.train_on)
    base_path: str | None = key(follows="l'endroit de la base d'adaptateurs gardés seuls")
    prompt: str | None = key(follows="le début des textes d'exemple")
    output_dir: str = key(follows="le dossier, s'il a été déplacé")
    run_name: str = key(
        follows="le nom dans les journaux",
        useless=itself(keys.only_csv, "elle nomme l'exécution dans les journaux, comme TensorBoard"),
    )
    threads: int | str = key(checks.threads, follows="les threads d'un processus, aux derniers chiffres près")
    compile: bool | str = key(checks.compile, follows="torch.compile")
    global_batch_tokens: int | None = key(checks.optional, follows="le lot global, en jetons")
    global_batch_size: int | None = key(checks.optional, follows="le lot global, en fenêtres")
    max_tokens: int | None = key(
        checks.optional,
        follows="la longueur",
        useless=itself(keys.runs_fast, "trainer.fast_dev_run dit déjà la longueur"),
    )
    eval_every: int = key(
        whole,
        follows="l'intervalle d'évaluation",
        useless=itself(
            keys.evaluates_by_lightning,
            "val_check_interval ou check_val_every_n_epoch (trainer.) la remplace",
        ),
    )
    save_every: int | None = key(
        checks.optional,
        follows="l'intervalle des checkpoints",
        useless=itself(keys.saves_nothing, NO_CHECKPOINT),
    )
    keep_last: int | None = key(
        follows="ceux que l'on garde",
        useless=itself(lambda s: s["save_every"] is None, "elle compte ceux de save_every="),
    )
    nan_policy: str = key(checks.nan_policy, follows="ce que devient un pas qui diverge")
    nan_skips: int = key(
        whole,
        follows="combien en passer de suite",
        useless=itself(lambda s: s["nan_policy"] != "skip", "elle sert à nan_policy=skip"),
    )
    peak_flops: float | None = key(
        follows="la crête d'un appareil",
        useless=itself(keys.monitors_nothing, "elle sert à callbacks.monitor, qui est retiré"),
    )
    metrics_port: int | None = key(
        checks.port,
        follows="le port des mesures",
        useless=itself(keys.runs_fast, "trainer.fast_dev_run n'a pas de journal"),
    )
    optimizer: type = field(metadata={"here": True})  # la classe que optim._target_ nomme : pas un réglage

    @classmethod
    def read(cls, settings: Settings, optimizer: type) -> "RunConfig":
        """Vérifie les réglages de train.py, sans rien lire sur le disque. `optimizer` est la classe de `optim`.

        UserError si l'un est impossible, seul ou avec un autre.
        """
        run = cls(**{setting.name: settings[setting.name] for setting in _keys()}, optimizer=optimizer)
        run.recipe  # noqa: B018 : l'optimiseur juge ses réglages le premier
        for setting in _keys():
            if setting.metadata["judge"] is not None:
                setting.metadata["judge"](setting.name, getattr(run, setting.name))
        checks.agree(run.adapters, run.train_on)
        if run.ckpt_path is None:  # dans une reprise, d'autres réglages que les siens se refusent d'abord
            checks.stride(run.data)
        return run

    def values(self) -> Settings:
        """Les réglages en valeurs simples, tels que config.yaml les garde."""
        return {setting.name: getattr(self, setting.name) for setting in _keys()}

    @property
    def folder(self) -> Path:
        """Le dossier de l'exécution."""
        return Path(self.output_dir)

    @property
    def length(self) -> int:
        """Jetons d'une fenêtre."""
        return self.data["max_length"]

    @property
    def recipe(self) -> "OptimConfig":
        """L'optimiseur et son plan du taux. UserError sur une valeur impossible."""
        from gpt_lightning.model import GPTConfig
        from gpt_lightning.training.optim import OptimConfig, resolve_lr

        width = GPTConfig.for_vocabulary(dict(self.model), 1).emb_dim
        return OptimConfig.from_dict(resolve_lr(self.optim, self.optimizer, width, self.lora), self.optimizer)

    @property
    def adapters(self) -> "LoRAConfig | None":
        """Les adaptateurs que `lora` demande, None pour lora=none. UserError sur une valeur impossible."""
        from gpt_lightning.model.lora import LoRAConfig

        values = dict(self.lora or {})
        if not values:
            return None
        choice("lora.save", values.pop("save"), ("full", "adapters"))
        return LoRAConfig.from_dict(values)

    @property
    def learns(self) -> str:
        """Ce qui apprend : `train_on`, sinon les adaptateurs s'il y en a, sinon tout."""
        return self.train_on or ("all" if self.adapters is None else "lora")

    def settle(self, start: "StartingPoint", typed: Iterable[str]) -> "RunConfig":
        """Complète ces réglages d'après les poids de départ : origine, architecture, taux qui en dépend, gabarit.

        Une reprise garde l'architecture demandée : la suivante la comparera à la sienne. UserError si une clé tapée
        (`typed`) n'a pas d'effet avec eux, s'il n'y a rien à adapter, ou si la fenêtre est trop longue pour le modèle.
        """
        from gpt_lightning.training.optim import resolve_lr

        checks.refuse_settled_by_weights(typed, start)
        if self.learns != "all" and start.state is None and self.ckpt_path is None:
            asked = "lora=default" if self.adapters else f"train_on={self.learns}"
            raise UserError(
                f"{asked} part d'un modèle déjà entraîné : ajoutez init_from=best, ou un autre modèle."
            )
        checks.check_window(self.length, start.architecture["context_length"], is_new=start.state is None)
        return replace(
            self,
            model=self.model if self.ckpt_path else dict(start.architecture),
            data=checks.in_template(self.data, start),
            optim=resolve_lr(self.optim, self.optimizer, start.architecture["emb_dim"], self.lora),
            init_from=start.source or self.init_from,
        )

    def hyperparameters(self, typed: Sequence[str]) -> dict[str, int | float | str]:
        """Ce qui distingue cet entraînement, {"optim.lr": 0.002 ...} : ce que la commande donne (`typed`,
        « clé=valeur ») d'abord, puis les réglages de `keys.TELLING`."""
        given: Settings = {}
        for name in [*(override.partition("=")[0].lstrip("+") for override in typed), *keys.TELLING]:
            group, _, leaf = name.partition(".")
            value = getattr(self, group, None)
            value = value if not leaf else (value or {}).get(leaf)
            if isinstance(value, Mapping) or (value is None and name in keys.TELLING):
                value = next((text.partition("=")[2] for text in typed if text.startswith(f"{name}=")), None)
            if value is not None:
                given.setdefault(name, value)
        shown = {name: getattr(v, "source", v) for name, v in given.items()}  # d'une variable, son nom seul
        return {name: v if isinstance(v, int | float | str) else str(v) for name, v in shown.items()}

    def decide(self, precision: str, compile: bool, threads: int | str) -> "RunConfig":
        """Ces réglages, avec ce que `auto` est devenu : la reprise et les autres processus le gardent."""
        trainer = {**self.trainer, "precision": precision}
        return replace(self, compile=compile, threads=threads, trainer=trainer)


def _keys() -> Iterator[Field]:
    return (setting for setting in fields(RunConfig) if "judge" in setting.metadata)


def useless() -> Iterator[Useless]:
    """Les clés qui seraient sans effet, en entier : « data.passes », « keep_last »."""
    for setting in _keys():
        for rule in setting.metadata["useless"]:
            names = (f"{setting.name}.{leaf}" if leaf else setting.name for leaf in rule.keys)
            yield rule._replace(keys=tuple(names))


def followed_keys() -> dict[str, str]:
    """Ce qu'une reprise peut changer, {clé ou groupe: ce que c'est} : la ligne de commande l'emporte alors."""
    table: dict[str, str] = {}
    for setting in _keys():
        what = setting.metadata["follows"]
        if isinstance(what, Mapping):
            table |= {f"{setting.name}.{leaf}": text for leaf, text in what.items()}
        elif what:
            table[setting.name] = what
    return table


def follows(name: str) -> bool:
    """Vrai si une reprise peut changer la clé `name`."""
    fixed = {f"{setting.name}.{leaf}" for setting in _keys() for leaf in setting.metadata["fixed"]}
    parts, table = name.split("."), followed_keys()
    return name not in fixed and any(".".join(parts[:n]) in table for n in range(1, len(parts) + 1))
