"""Une clé tapée qui ne changerait rien est refusée, et celles qui changent quelque chose passent."""

import pytest

from gpt_lightning.cli import effects
from gpt_lightning.cli.composition import choices, compose, known_keys
from gpt_lightning.commands import ineffective

INEFFECTIVE = [
    ("train", ["data=pydoc", "data.path=a.txt"], "data.path= .*data=text"),
    ("evaluate", ["data=wiktionnaire", "data.path=a.txt"], "data.path= .*data=text"),
    ("prepare", ["data=wiktionnaire", "data.path=a.txt"], "data.path= .*data=text"),
    ("train", ["data=text", "data.path=a.txt", "data.url=http://a/b.txt"], "data.source=download"),
    ("train", ["data=shakespeare", "data.path=a.txt", "data.url=http://a/b.txt"], "data.path= est lu"),
    ("train", ["data=pydoc", "data.jsonl_key=contenu"], "ne lit pas de fichier"),
    ("train", ["data=pydoc", "data.text_key=contenu"], "ne lit pas de fichier"),
    ("train", ["data=text", "data.path=a", "data.text_key=a", "data.jsonl_key=a"], "son nouveau nom"),
    ("train", ["data=datasets", "data.path=a"], "data.name="),
    ("train", ["data=datasets", "data.name=a", "data.val_split=b", "data.cut=hash"], "à part"),
    ("train", ["data=parquet", "data.path=a", "data.join_hyphens=true"], "data=text"),
    ("prepare", ["to=dossier"], "format=bin"),
    ("prepare", ["shard_tokens=5"], "format=bin"),
    ("train", ["data=text", "data.path=a", "data.val_path=b", "data.train_split=0.5"], "data.val_path="),
    ("train", ["data.passes=2", "trainer.max_steps=3"], "la longueur"),
    ("train", ["data.passes=2", "max_tokens=300000"], "la longueur"),
    ("evaluate", ["data.passes=2"], "train.py"),
    ("evaluate", ["tasks=[h_aspire]", "data=text", "data.path=a"], "mot_suivant"),
    ("evaluate", ["tasks=[h_aspire]", "data.limit=2"], "mot_suivant"),
    ("prepare", ["data.batch_size=2"], "evaluate"),
    ("train", ["optim.schedule=cosine", "optim.decay=0.5"], "wsd"),
    ("train", ["optim.schedule=constant", "optim.min_lr_ratio=0.5"], "ne descend pas"),
    ("train", ["eval_every=3", "trainer.val_check_interval=2"], "la remplace"),
    ("train", ["save_every=3", "trainer.fast_dev_run=true"], "checkpoint"),
    ("train", ["keep_last=5"], "save_every="),
    ("train", ["nan_skips=5"], "nan_policy=skip"),
    ("train", ["strict_resume=true"], "ckpt_path="),
    ("train", ["callbacks.monitor=null", "peak_flops=1e12"], "callbacks.monitor"),
    ("train", ["callbacks.sample=null", "decoding=nucleus"], "callbacks.sample"),
    ("train", ["callbacks.sample=null", "decoding.temperature=2"], "callbacks.sample"),
    ("train", ["logger=none", "run_name=a"], "TensorBoard"),
    (
        "train",
        ["trainer.gradient_clip_val=null", "trainer.gradient_clip_algorithm=value"],
        "gradient_clip_val",
    ),
    ("train", ["trainer.fast_dev_run=true", "trainer.max_steps=3"], "nombre de pas"),
    ("generate", ["decoding=greedy", "decoding.top_k=5"], "temperature=0"),
    ("generate", ["decoding.temperature=1e-8", "decoding.top_k=5"], "temperature=0"),
    ("generate", ["decoding=nucleus", "decoding.length_penalty=2"], "decoding=beam"),
    ("generate", ["batch_size=4"], "prompts_file="),
    ("generate", ["stream=false", "interactive=true"], "au fur et à mesure"),
    ("generate", ["interactive=true", "logprobs=3"], "dialogue"),
]


@pytest.mark.parametrize(
    "command, typed, why", INEFFECTIVE, ids=lambda one: " ".join(one) if isinstance(one, list) else ""
)
def test_an_ineffective_key_is_refused_and_its_remedy_named(command, typed, why):
    with pytest.raises(ValueError, match=rf"^(?=.*= n'a pas d'effet ici : ).*{why}"):
        effects.refuse_ineffective(typed, compose(command, *typed), command, ineffective.TABLE)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["train", "evaluate", "prepare", "generate"])
def test_every_default_may_be_typed_again_unless_a_rule_says_otherwise(command):
    """Ce que chaque règle regarde existe, et une clé qui n'est dans aucune règle passe."""
    settings, known = compose(command), known_keys(command)
    ruled = {key for rule in ineffective.TABLE if command in rule.commands for key in rule.keys}
    everything = {
        *known,
        *(f"data.{key}" for one in choices("data") for key in compose("train", f"data={one}")["data"]),
    }
    everything |= (
        {f"lora.{key}" for key in compose("train", "lora=default")["lora"]} if command == "train" else set()
    )
    assert ruled <= everything
    effects.refuse_ineffective(
        [f"{key}=1" for key in known if not _under(key, ruled)], settings, command, ineffective.TABLE
    )


@pytest.mark.parametrize(
    "command, typed",
    [
        ("train", ["data=text", "data.path=a.txt", "data.jsonl_key=contenu", "data.errors=replace"]),
        ("train", ["data=verdict", "data.path=a.txt"]),
        ("train", ["data=shakespeare", "data.path=a.txt"]),
        ("train", ["data.passes=2"]),
        ("train", ["optim.schedule=wsd", "optim.decay=0.5", "optim.min_lr_ratio=0.5"]),
        ("train", ["decoding=nucleus", "peak_flops=1e12", "eval_every=3", "save_every=3", "run_name=a"]),
        ("generate", ["decoding=top_k", "decoding.top_k=5"]),
        ("generate", ["prompts_file=a.txt", "batch_size=4"]),
        ("generate", ["logprobs=3", "stream=false"]),
    ],
    ids=str,
)
def test_a_key_that_takes_effect_passes(command, typed):
    effects.refuse_ineffective(typed, compose(command, *typed), command, ineffective.TABLE)


def _under(key: str, rules: set[str]) -> bool:
    return any(key == one or key.startswith(f"{one}.") for one in rules)


@pytest.mark.parametrize("command", ["train", "evaluate", "prepare"])
def test_a_text_of_ones_own_needs_no_data_group(command):
    assert effects.with_own_text(["data.path='a b.txt'"], command) == ["data=text", "data.path='a b.txt'"]
    for typed in (["seed=1"], ["data=verdict", "data.path=a"], ["data=pydoc", "data.path=a"]):
        assert effects.with_own_text(typed, command) == typed


def test_a_command_without_a_corpus_says_that_the_key_is_unknown():
    assert effects.with_own_text(["data.path=a"], "generate") == ["data.path=a"]
