"""Des fichiers et des dossiers faits pour nuire : une phrase qui les nomme, sans rien exécuter, ni lire ailleurs."""

import builtins
import io
import json
import os
import pickle
import resource
import shutil
import signal
import struct
import time
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from gpt_lightning import weights
from gpt_lightning.cli.resume import inherited_overrides, resume_overrides
from gpt_lightning.errors import UserError
from gpt_lightning.weights import format as form
from tests.conftest import ROOT

RUN = ROOT / "tests" / "golden" / "releases" / "0.1.0"
MEMORY, SECONDS = 1 << 30, 10


class Evil:
    """Ce qui, déplié, toucherait un fichier."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def content() -> dict:
    return torch.load(RUN / "checkpoints" / "last.ckpt", weights_only=True)


def saved(change):
    """Un checkpoint dont `change` a modifié le contenu."""

    def write(folder: Path) -> Path:
        values = content()
        changed = change(values)
        torch.save(values if changed is None else changed, folder / "x.ckpt")
        return folder / "x.ckpt"

    return write


def described(**changes):
    return saved(lambda values: values[form.KEY].update(changes))


def modelled(**changes):
    return saved(lambda values: values[form.KEY]["model"].update(changes))


def tokenized(**state):
    return saved(lambda values: values[form.KEY].update(tokenizer=state))


def stated(name, value):
    return saved(lambda values: values["state_dict"].update({name: value}))


def archived(rewrite):
    """Un checkpoint dont `rewrite(archive d'origine, nouvelle)` a refait l'archive."""

    def write(folder: Path) -> Path:
        source = RUN / "checkpoints" / "last.ckpt"
        with zipfile.ZipFile(source) as old, zipfile.ZipFile(folder / "x.ckpt", "w") as new:
            rewrite(old, new)
        return folder / "x.ckpt"

    return write


def deflated(old, new):
    for one in old.infolist():
        data = bytes(1 << 29) if one.filename.endswith("data/0") else old.read(one)
        new.writestr(one.filename, data, zipfile.ZIP_DEFLATED)


def doubled(old, new):
    for one in old.infolist() * 2:
        new.writestr(one.filename, old.read(one.filename))


def pickled(body: bytes):
    def rewrite(old, new):
        for one in old.infolist():
            new.writestr(one, body if one.filename.endswith("data.pkl") else old.read(one))

    return archived(rewrite)


def raw(data: bytes, name: str = "x.ckpt"):
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return write


def legacy(value):
    def write(folder: Path) -> Path:
        torch.save(value, folder / "x.pt", _use_new_zipfile_serialization=False)
        return folder / "x.pt"

    return write


def special(make):
    def write(folder: Path) -> Path:
        make(folder / "x.safetensors")
        return folder / "x.safetensors"

    return write


def safetensors(description, tensors=None, name="x.safetensors"):
    def write(folder: Path) -> Path:
        text = description if isinstance(description, str) else json.dumps(description)
        save_file(tensors or {"tok_emb.weight": torch.zeros(2, 2)}, folder / name, metadata={form.KEY: text})
        return folder / name

    return write


CONFIG = {"model_type": "gpt2", "vocab_size": 20, "n_positions": 8, "n_embd": 8, "n_head": 2, "n_layer": 1}


def gpt2(config=CONFIG, **files):
    """Un dossier de Hugging Face, et d'autres fichiers."""

    def write(folder: Path) -> Path:
        (folder / "gpt2").mkdir()
        text = config if isinstance(config, str) else json.dumps(config)
        (folder / "gpt2" / "config.json").write_text(text)
        save_file({"transformer.wte.weight": torch.zeros(20, 8)}, folder / "gpt2" / "model.safetensors")
        for name, value in files.items():
            path = folder / "gpt2" / name.replace("__", ".")
            path.write_text(value if isinstance(value, str) else json.dumps(value))
        return folder / "gpt2"

    return write


def outside(folder: Path) -> Path:
    save_file({"transformer.wte.weight": torch.zeros(20, 8)}, folder / "dehors.safetensors")
    path = gpt2()(folder)
    (path / "model.safetensors").unlink()
    (path / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": "../dehors.safetensors"}})
    )
    return path


def huggingface(change=None, **state):
    """Un checkpoint dont le tokenizer est un tokenizer.json que `change` a abîmé."""
    values = {"version": "1.0", "added_tokens": [], "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}
    values |= change or {}
    return tokenized(**{"kind": "huggingface", "json": json.dumps(values), "end": None, **state})


def nested(depth):
    inside = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    for _ in range(depth):
        inside = {"type": "Sequence", "pretokenizers": [inside]}
    return inside


def bpe(vocabulary, **more):
    return {"model": {"type": "BPE", "vocab": vocabulary, "merges": [], **more}}


LAYER = "base_model.model.transformer.h.0.attn.c_proj.lora_"


def peft(tensors=None, raw_config=None, raw_weights=None, own=None, **values):
    """Un dossier de peft, dont la base est `RUN` : 2 couches de largeur 32."""

    def write(folder: Path) -> Path:
        path = folder / "peft"
        path.mkdir()
        config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "base_model_name_or_path": str(RUN)}
        config |= {"target_modules": ["transformer.h.0.attn.c_proj"], **values}
        (path / "adapter_config.json").write_text(raw_config or json.dumps(config))
        pair = {f"{LAYER}A.weight": torch.ones(2, 32), f"{LAYER}B.weight": torch.ones(32, 2)}
        save_file({**pair, **(tensors or {})}, path / "adapter_model.safetensors")
        if raw_weights is not None:
            (path / "adapter_model.safetensors").unlink()
            raw_weights(path)
        if own is not None:
            (path / "gpt_lightning.json").write_text(json.dumps(own))
        return path

    return write


def evil_bin(path: Path) -> None:
    torch.save({"a": Evil(os.system, f"touch {CANARY}")}, path / "adapter_model.bin")


def uneven(folder: Path) -> Path:
    """Un rang immense, que des zéros porteraient à toutes les couches."""
    wide, tensors = (
        60_000,
        {f"{LAYER}A.weight": torch.zeros(60_000, 32), f"{LAYER}B.weight": torch.zeros(32, 60_000)},
    )
    for layer, outputs, inputs in (("attn.c_attn", 96, 32), ("mlp.c_fc", 128, 32), ("mlp.c_proj", 32, 128)):
        for block in range(2):
            name = f"base_model.model.transformer.h.{block}.{layer}.lora_"
            tensors |= {f"{name}A.weight": torch.zeros(1, inputs), f"{name}B.weight": torch.zeros(outputs, 1)}
    targets = ["c_attn", "c_fc", "mlp.c_proj", "h.0.attn.c_proj"]
    return peft(tensors, r=1, rank_pattern={"h.0.attn.c_proj": wide}, target_modules=targets)(folder)


def immense(folder: Path) -> Path:
    path = gpt2(tokenizer__json="{}")(folder)
    os.truncate(path / "tokenizer.json", 1 << 40)
    return path


DEEP = "[" * 200_000 + "]" * 200_000
CANARY = "canari"
HOSTILE = {
    "compressé, un demi-gigaoctet": archived(deflated),
    "membres en double": archived(doubled),
    "pickle de cent mégaoctets": pickled(b"\x80\x02" + b"N0" * (50 << 20) + b"N."),
    "pickle sans fin": pickled(b"\x80\x02" + b"(" * 5_000_000),
    "os.system": saved(lambda values: {"a": Evil(os.system, f"touch {CANARY}")}),
    "eval": saved(lambda values: {"a": Evil(builtins.eval, "1")}),
    "getattr": saved(lambda values: {"a": Evil(builtins.getattr, values, "x")}),
    "bytearray de huit gigaoctets": saved(lambda values: {"a": Evil(bytearray, 8 << 30)}),
    "torch.load": saved(lambda values: {"a": Evil(torch.load, CANARY)}),
    "ancien format, os.system": legacy({"a": Evil(os.system, f"touch {CANARY}")}),
    "ancien format, bytearray": legacy({"a": Evil(bytearray, 8 << 30)}),
    "pickle nu": raw(pickle.dumps(Evil(os.system, f"touch {CANARY}"))),
    "vide": raw(b""),
    "deux lettres": raw(b"PK"),
    "archive vide": raw(b"PK\x05\x06" + bytes(18)),
    "du texte": raw(b"bonjour"),
    "dix millions de couches": modelled(n_layers=10**7),
    "mille couches": modelled(n_layers=1000),
    "largeur immense": modelled(emb_dim=10**12, n_heads=7),
    "contexte immense": modelled(context_length=10**12, positions="rope"),
    "vocabulaire immense": modelled(vocab_size=10**15),
    "nombre de mille chiffres": modelled(emb_dim=10**1000),
    "aucune tête": modelled(n_heads=0),
    "couches en texte": modelled(n_layers="2"),
    "clé inconnue": modelled(surprise=1),
    "modèle absent": saved(lambda values: values[form.KEY].pop("model") and None),
    "modèle en liste": described(model=[1]),
    "version en texte": described(format_version="1; rm"),
    "description en texte": saved(lambda values: values.update({form.KEY: "oui"})),
    "débuts qui n'en sont pas": described(prompts=3),
    "genre de tokenizer inconnu": tokenized(kind="os.system"),
    "fusions en nombre": tokenized(kind="trained", size=300, merges=12),
    "fusions absurdes": tokenized(kind="trained", size=300, merges="a\nb c d"),
    "caractères en nombres": tokenized(kind="characters", characters=[1, 2]),
    "tokenizer sans rien": tokenized(kind="words_v2"),
    "tokenizer de trop": tokenized(kind="bytes", surprise=1),
    "huggingface, sans rien": tokenized(kind="huggingface"),
    "huggingface, de trop": huggingface(surprise=1),
    "huggingface, un nombre": huggingface(json=3),
    "huggingface, pas du JSON": huggingface(json="{"),
    "huggingface, sans fond": huggingface(json=DEEP),
    "huggingface, une liste": huggingface(json="[1]"),
    "huggingface, un million de listes": huggingface(json="[" + "[]," * 1_600_000 + "1]"),
    "huggingface, emboîté": huggingface({"pre_tokenizer": nested(20)}),
    "huggingface, pièce inconnue": huggingface({"pre_tokenizer": {"type": "os.system"}}),
    "huggingface, expression absurde": huggingface(
        {
            "pre_tokenizer": {
                "type": "Split",
                "pattern": {"Regex": "(("},
                "behavior": "Isolated",
                "invert": False,
            }
        }
    ),
    "huggingface, WordPiece": huggingface({"model": {"type": "WordPiece", "vocab": {"a": 0}}}),
    "huggingface, modèle en liste": huggingface({"model": [1]}),
    "huggingface, identifiant négatif": huggingface(bpe({"a": -5})),
    "huggingface, identifiant immense": huggingface(bpe({"a": 2**32 - 1})),
    "huggingface, identifiant en texte": huggingface(bpe({"a": "b"})),
    "huggingface, aucun identifiant": huggingface(bpe({})),
    "huggingface, fusions au hasard": huggingface(bpe({"a": 0}, dropout=0.5)),
    "huggingface, ajouts absurdes": huggingface({"added_tokens": [{"content": ["x"], "id": -4}]}),
    "huggingface, décodeur d'ailleurs": huggingface({"decoder": {"type": "BPEDecoder", "suffix": "</w>"}}),
    "huggingface, fin inconnue": huggingface(end="<fin>"),
    "huggingface, fin en nombre": huggingface(end=3),
    "huggingface, début en liste": huggingface(start=["<s>"]),
    "état en liste": saved(lambda values: values.update(state_dict=[1])),
    "tenseur en texte": stated("model.tok_emb.weight", "zéro"),
    "tenseur répété": stated("model.tok_emb.weight", torch.zeros(1).expand(10**6, 10**6)),
    "tenseur creux": stated("model.tok_emb.weight", torch.sparse_coo_tensor(size=(10**9, 10**9))),
    "tenseur d'entiers": stated("model.final_norm.scale", torch.zeros(32, dtype=torch.int64)),
    "en-tête safetensors immense": raw(struct.pack("<Q", 1 << 60) + b"{}", "x.safetensors"),
    "safetensors coupé": raw(struct.pack("<Q", 100) + b"{", "x.safetensors"),
    "safetensors, JSON sans fond": safetensors(DEEP),
    "safetensors, pas du JSON": safetensors("{"),
    "safetensors, description en liste": safetensors([1]),
    "safetensors, modèle immense": safetensors(
        {"format_version": 1, "tokenizer": None, "model": {"n_layers": 10**9}}
    ),
    "tube nommé": special(os.mkfifo),
    "périphérique": special(lambda path: path.symlink_to("/dev/zero")),
    "index hors du dossier": outside,
    "config.json sans fond": gpt2(DEEP),
    "config.json en liste": gpt2("[1]"),
    "config.json, nombre de cent mille chiffres": gpt2(
        '{"model_type": "gpt2", "n_embd": ' + "9" * 100_000 + "}"
    ),
    "config.json, largeur en texte": gpt2({**CONFIG, "n_embd": "8"}),
    "config.json, couches immenses": gpt2({**CONFIG, "n_layer": 10**9}),
    "config.json, sans largeur": gpt2({"model_type": "gpt2"}),
    "tokenizer.json immense": immense,
    "tokenizer.json sans fond": gpt2(tokenizer__json=DEEP),
    "tokenizer.json, cent mille jetons de trop": gpt2(tokenizer__json=bpe({str(i): i for i in range(10**5)})),
    "fins absurdes": gpt2(
        {**CONFIG, "eos_token_id": [[[]]]},
        tokenizer__json=bpe({"a": 0}),
        generation_config__json={"eos_token_id": -(10**30)},
        special_tokens_map__json={"eos_token": {"content": 3}, "bos_token": 4},
        tokenizer_config__json={"additional_special_tokens": [3, {"content": None}], "add_bos_token": "oui"},
    ),
    "tokenizer.json en liste": gpt2(tokenizer__json=[1]),
    "tokenizer.json, vocabulaire absurde": gpt2(
        tokenizer__json={
            "model": {"type": "BPE", "vocab": {"a": "b"}, "merges": []},
            "pre_tokenizer": {"type": "ByteLevel"},
        }
    ),
    "tokenizer.json, ajouts absurdes": gpt2(
        tokenizer__json={
            "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []},
            "pre_tokenizer": {"type": "ByteLevel"},
            "added_tokens": [{"content": ["x"], "id": -4}],
        }
    ),
    "vocab.json négatif": gpt2(vocab__json={"a": -5}, merges__txt=""),
    "peft, pas du JSON": peft(raw_config="{"),
    "peft, sans fond": peft(raw_config=DEEP),
    "peft, une liste": peft(raw_config="[1]"),
    "peft, un nombre de cent mille chiffres": peft(raw_config='{"r": ' + "9" * 100_000 + "}"),
    "peft, une clé d'un mégaoctet": peft(**{"x" * (1 << 20): "y" * (1 << 20)}),
    "peft, mille clés": peft(**{f"cle_{i}": i for i in range(1, 1000)}),
    "peft, rang en texte": peft(r="2"),
    "peft, rang immense": peft(r=10**12),
    "peft, rang négatif": peft(r=-2),
    "peft, un autre rang": peft(r=3),
    "peft, alpha infini": peft(lora_alpha=float("inf")),
    "peft, alpha qui n'est pas un nombre": peft(lora_alpha=float("nan")),
    "peft, alpha presque nul": peft(lora_alpha=5e-324),
    "peft, couches en nombre": peft(target_modules=3),
    "peft, couches en listes": peft(target_modules=[["c_proj"]]),
    "peft, exclusion sans fin": peft(exclude_modules="(a+)+$"),
    "peft, rangs en liste": peft(rank_pattern=[1]),
    "peft, rangs par une expression sans fin": peft(rank_pattern={"(.+)+x": 3}),
    "peft, rangs en texte": peft(rank_pattern={"c_proj": "2"}),
    "peft, rangs trop inégaux": uneven,
    "peft, couche qui n'existe pas": peft(layers_to_transform=[10**9]),
    "peft, base en liste": peft(base_model_name_or_path=[1]),
    "peft, base nulle part": peft(base_model_name_or_path="\0/" + "x" * 100_000),
    "peft, base sans modèle": peft(base_model_name_or_path="/"),
    "peft, sa propre base": peft(base_model_name_or_path="peft"),
    "peft, un tenseur en trop": peft({f"base_model.model.{'x' * 10_000}.lora_A.weight": torch.ones(1)}),
    "peft, des noms sur deux lignes": peft(**{"clé\nà moi": "a\nb"}),
    "peft, une base sur deux lignes": peft(base_model_name_or_path="a\nb\ud800"),
    "peft, un tenseur sur deux lignes": peft({"base_model.model.a\nb.lora_A.weight": torch.ones(1)}),
    "peft, un million de noms": peft(target_modules=["c_proj"] * 10**6),
    "peft, un million de rangs": peft(rank_pattern={f"c_{i}": 1 for i in range(10**6)}),
    "peft, deux fois la même couche": peft(
        {LAYER.replace("transformer.", "") + "A.weight": torch.ones(2, 32)}
    ),
    "peft, un bloc en trop": peft({LAYER.replace("h.0", "h.999999999") + "A.weight": torch.ones(2, 32)}),
    "peft, d'autres formes": peft({f"{LAYER}A.weight": torch.ones(2, 31)}),
    "peft, un nombre": peft({f"{LAYER}A.weight": torch.tensor(1.0)}),
    "peft, des entiers": peft({f"{LAYER}A.weight": torch.ones(2, 32, dtype=torch.int8)}),
    "peft, c_attn qui ne se divise pas": peft(
        {
            LAYER.replace("c_proj", "c_attn") + "A.weight": torch.ones(2, 32),
            LAYER.replace("c_proj", "c_attn") + "B.weight": torch.ones(95, 2),
        },
        target_modules=["transformer.h.0.attn.c_proj", "transformer.h.0.attn.c_attn"],
    ),
    "peft, sans poids": peft(raw_weights=lambda path: None),
    "peft, safetensors coupé": peft(
        raw_weights=lambda path: (path / "adapter_model.safetensors").write_bytes(
            struct.pack("<Q", 100) + b"{"
        )
    ),
    "peft, un tube nommé": peft(raw_weights=lambda path: os.mkfifo(path / "adapter_model.safetensors")),
    "peft, os.system": peft(raw_weights=evil_bin),
    "peft, une liste de poids": peft(raw_weights=lambda path: torch.save([1], path / "adapter_model.bin")),
    "peft, des textes pour poids": peft(
        raw_weights=lambda path: torch.save({"a": "b", 3: [1]}, path / "adapter_model.bin")
    ),
    "peft, notre description hostile": peft(own={"format_version": 1, "model": 3, "tokenizer": None}),
    "peft, notre description immense": peft(
        own={
            "format_version": 1,
            "tokenizer": None,
            "model": {
                "vocab_size": 250,
                "context_length": 128,
                "emb_dim": 32,
                "n_heads": 2,
                "n_layers": 10**9,
                "positions": "rope",
            },
        }
    ),
    "notre description, hostile": gpt2(
        gpt_lightning__json={"format_version": 1, "model": 3, "tokenizer": None}
    ),
}


def measured(work) -> tuple[str, float, float]:
    """Ce que dit `work`, dans un enfant : (la phrase, sa mémoire de plus, ses secondes)."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.monotonic()
        try:
            work()
            said = "CHARGÉ"
        except UserError as error:
            said = f"PHRASE {error}"
        except BaseException as error:
            said = f"TRACE {type(error).__name__}: {error}"
        more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        os.write(write, json.dumps([said[:2000], more, time.monotonic() - began]).encode())
        os._exit(0)
    os.close(write)
    with open(read, "rb") as file:
        found = file.read()
    os.waitpid(pid, 0)
    return tuple(json.loads(found)) if found else ("MORT", 0, 0)


LONG = [name for name in HOSTILE if name.startswith("peft, ")][::2]  # des cas de la même loi
CASES = [pytest.param(name, marks=pytest.mark.slow if name in LONG else []) for name in HOSTILE]


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_file_is_one_sentence(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = HOSTILE[name](tmp_path)
    said, memory, seconds = measured(lambda: weights.load(str(path), n_heads=None))
    assert said.startswith("PHRASE") and "\n" not in said and len(said) < 700, said
    assert str(path) in said, said
    assert memory < MEMORY and seconds < SECONDS, (memory, seconds)
    assert not (tmp_path / CANARY).exists()


RESUMED = [name for name in HOSTILE if HOSTILE[name].__qualname__.startswith(("saved", "archived", "raw"))]


@pytest.mark.parametrize("name", RESUMED)
def test_a_hostile_run_is_not_resumed(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(RUN, tmp_path / "course")
    made = HOSTILE[name](tmp_path)
    if made.suffix != ".ckpt":
        return
    made.rename(tmp_path / "course" / "checkpoints" / "last.ckpt")
    said, memory, seconds = measured(lambda: resume_overrides(["ckpt_path=course"], "train"))
    assert said.startswith("PHRASE") and "last.ckpt" in said, said
    assert memory < MEMORY and seconds < SECONDS and not (tmp_path / CANARY).exists()


def config(**changes):
    def write(run: Path) -> None:
        import yaml

        values = yaml.safe_load((run / "config.yaml").read_text())
        for key, value in changes.items():
            group, _, leaf = key.partition("__")
            if leaf:
                values[group][leaf] = value
            else:
                values[group] = value
        (run / "config.yaml").write_text(yaml.safe_dump(values))

    return write


def text(name: str, body: str):
    return lambda run: (run / name).write_text(body)


LAUGHS = "a: &a [x, x]\n" + "".join(
    f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefghij", "bcdefghijk", strict=True)
)
RUNS = {
    "un objet de Python": text("config.yaml", f"seed: !!python/object/apply:os.system ['touch {CANARY}']"),
    "des alias sans fin": text("config.yaml", LAUGHS),
    "pas du YAML": text("config.yaml", "{[:"),
    "une liste": text("config.yaml", "[1, 2]"),
    "sans fond": text("config.yaml", "[" * 5000),
    "deux mégaoctets": text("config.yaml", "a: " + "x" * (2 << 20)),
    "pas les choix": text(".hydra/hydra.yaml", "hydra: 3"),
    "des choix en liste": text(".hydra/hydra.yaml", "hydra: {runtime: {choices: [1]}}"),
}


@pytest.mark.parametrize("name", RUNS)
def test_the_settings_of_a_hostile_run_are_one_sentence(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(RUN, tmp_path / "course")
    RUNS[name](tmp_path / "course")
    said, memory, seconds = measured(lambda: resume_overrides(["ckpt_path=course"], "train"))
    assert said.startswith("PHRASE") and "\n" not in said, said
    assert memory < MEMORY and seconds < SECONDS and not (tmp_path / CANARY).exists()
    said, memory, seconds = measured(lambda: inherited_overrides(["ckpt_path=course"], "data"))
    assert not said.startswith(("TRACE", "MORT")), said


TAKEN = {
    "un dossier où écrire": (config(data__cache_dir="/etc"), "/etc"),
    "des checkpoints ailleurs": (config(callbacks={"last": {"dirpath": "/etc/x"}}), "/etc"),
    "un journal ailleurs": (config(logger={"csv": {"path": "/etc/x"}}), "/etc"),
    "une cible": (config(data__source="pydoc", model={"_target_": "os.system"}), "os.system"),
    "un callback": (config(callbacks={"x": {"_target_": "os.system"}}), "os.system"),
    "un plugin": (config(trainer__plugins={"_target_": "os.system"}), "os.system"),
    "une surcharge dans une clé": (
        config(**{"optim": {"x=1 hydra.callbacks.a": 1, "lr": 0.01}}),
        "hydra.callbacks",
    ),
    "un fichier hors de conf/": (
        text(".hydra/hydra.yaml", "hydra: {runtime: {choices: {data: ../../../tmp/mal}}}"),
        "../",
    ),
    "une ligne de commande": (
        text(".hydra/overrides.yaml", "['+hydra.callbacks.x._target_=os.system']"),
        "os.system",
    ),
}


@pytest.mark.parametrize("name", TAKEN)
def test_nothing_that_acts_is_taken_from_a_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(RUN, tmp_path / "course")
    change, refused = TAKEN[name]
    change(tmp_path / "course")
    for take in (
        lambda: resume_overrides(["ckpt_path=course"], "train"),
        lambda: inherited_overrides(["ckpt_path=course"], "data"),
    ):
        try:
            found = take()
        except UserError as error:
            found = []
            assert "\n" not in str(error)
        assert not any(refused in one for one in found), found


def test_an_optimizer_of_a_run_is_judged(tmp_path, monkeypatch):
    from gpt_lightning.cli.targets import resolve

    with pytest.raises(UserError, match="_target_"):
        resolve("optim", "os.system")


def test_every_file_is_read_inside_its_folder(tmp_path):
    with pytest.raises(UserError, match="hors de son dossier"):
        weights.load(str(outside(tmp_path)))


def test_a_real_export_still_loads(tmp_path):
    buffer = io.BytesIO()
    torch.save(content(), buffer)
    (tmp_path / "x.ckpt").write_bytes(buffer.getvalue())
    assert weights.load(str(tmp_path / "x.ckpt"))[0] is not None
