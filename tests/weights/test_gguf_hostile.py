"""Des GGUF faits pour nuire, coupés, ou dont un bit est retourné : une phrase qui les nomme, ou ce seul changement."""

import random
import re
import struct
import time

import pytest
import torch

from gpt_lightning import weights
from gpt_lightning.errors import UserError
from tests.gguf import BOOL, F32, LIST, TEXT, TOKENS, U32, packed, small, text
from tests.weights.test_hostile import MEMORY, SECONDS, measured

FIRST, SECOND = "token_embd.weight", "output_norm.weight"
HUGE = (1 << 64) - 1


def value(key: str, kind: int, given):
    """Un petit Llama dont le réglage `key` est celui-là."""

    def write() -> bytes:
        file = small()
        file.values[key] = (kind, given)
        return file.bytes()

    return write


def without(*keys: str):
    def write() -> bytes:
        file = small()
        for key in keys:
            del file.values[key]
        return file.bytes()

    return write


def said(**fields):
    """Un petit Llama qui ment sur sa version, ou sur ce qu'il contient."""

    def write() -> bytes:
        file = small()
        for name, given in fields.items():
            setattr(file, name, given)
        return file.bytes()

    return write


def tensor(name: str, place: int, given):
    """`place` : 0 les dimensions, 1 le type, 2 le décalage."""

    def write() -> bytes:
        file = small()
        file.tensors[name][place] = given
        return file.bytes()

    return write


def tensors(change):
    def write() -> bytes:
        file = small()
        change(file.tensors)
        return file.bytes()

    return write


def patched(old: bytes, new: bytes):
    def write() -> bytes:
        raw = small().bytes()
        assert old in raw
        return raw.replace(old, new, 1)

    return write


def listed(inner: int, length: int, body: bytes = b""):
    """Une liste qui annonce `length` éléments."""
    raw = text("x") + struct.pack("<IIQ", LIST, inner, length) + body
    return said(again=raw, n_values=15)


def renamed(old: str, new: str):
    return tensors(lambda all_of_them: all_of_them.update({new: all_of_them.pop(old)}))


A, LLAMA = "general.architecture", "llama."
NESTED = b"".join(struct.pack("<IQ", LIST, 1) for _ in range(100_000))
HOSTILE = {
    "vide": lambda: b"",
    "quatre lettres": lambda: b"GGUF",
    "une autre magie": said(magic=b"GGML"),
    "version 1": said(version=1),
    "version 99": said(version=99),
    "gros-boutiste": said(version=3 << 24),
    "aucun tenseur": said(tensors={}),
    "tenseurs sans nombre": said(n_tensors=HUGE),
    "un tenseur de trop": said(n_tensors=12),
    "un million de tenseurs": said(n_tensors=10**6),
    "réglages sans nombre": said(n_values=HUGE),
    "un réglage de trop": said(n_values=15),
    "clé immense": said(again=struct.pack("<Q", HUGE), n_values=15),
    "clé d'un gigaoctet": said(again=struct.pack("<Q", 1 << 30), n_values=15),
    "clé qui n'est pas du texte": said(again=text(b"\xff\xfe") + struct.pack("<IB", 0, 0), n_values=15),
    "clé en double": said(again=text(A) + struct.pack("<I", TEXT) + text("llama"), n_values=15),
    "genre inconnu": said(again=text("x") + struct.pack("<I", 99), n_values=15),
    "texte immense": said(again=text("x") + struct.pack("<IQ", TEXT, HUGE), n_values=15),
    "liste sans nombre": listed(TEXT, HUGE),
    "liste de quatre milliards d'octets": listed(0, 1 << 32),
    "liste plus longue que le fichier": listed(10, 1 << 20),
    "liste d'un genre inconnu": listed(77, 1),
    "listes sans fond": listed(LIST, 1, NESTED),
    "architecture absente": without(A),
    "architecture en nombre": value(A, U32, 3),
    "architecture inconnue": value(A, TEXT, "mamba"),
    "alignement nul": value("general.alignment", U32, 0),
    "alignement de trois": value("general.alignment", U32, 3),
    "alignement immense": value("general.alignment", U32, 1 << 31),
    "alignement en texte": value("general.alignment", TEXT, "32"),
    "largeur absente": without("llama.embedding_length"),
    "largeur en texte": value("llama.embedding_length", TEXT, "8"),
    "largeur immense": value("llama.embedding_length", U32, (1 << 32) - 1),
    "largeur fausse": value("llama.embedding_length", U32, 16),
    "aucune tête": value("llama.attention.head_count", U32, 0),
    "têtes en liste": value("llama.attention.head_count", LIST, (U32, [2])),
    "quatre milliards de têtes": value("llama.attention.head_count_kv", U32, (1 << 32) - 1),
    "quatre milliards de couches": value("llama.block_count", U32, (1 << 32) - 1),
    "quatre mille couches": value("llama.block_count", U32, 4096),
    "contexte nul": value("llama.context_length", U32, 0),
    "epsilon en texte": value("llama.attention.layer_norm_rms_epsilon", TEXT, "0"),
    "epsilon qui n'est pas un nombre": value("llama.attention.layer_norm_rms_epsilon", F32, float("nan")),
    "base de rope infinie": value("llama.rope.freq_base", F32, float("inf")),
    "rope étiré": value("llama.rope.scaling.type", TEXT, "yarn"),
    "experts": value("llama.expert_count", U32, 8),
    "un réglage que l'on n'a pas": value("llama.surprise", BOOL, True),
    "un adaptateur": value("general.type", TEXT, "adapter"),
    "un morceau": value("split.count", 2, 3),
    "tête de travers": value("llama.attention.value_length", U32, 2),
    "nom de tenseur immense": patched(text(FIRST), struct.pack("<Q", HUGE) + FIRST.encode()),
    "nom qui n'est pas du texte": patched(text(FIRST), text(b"\xff" * len(FIRST))),
    "tenseur en double": patched(text("blk.0.attn_q.weight"), text("blk.0.attn_k.weight")),
    "tenseur inconnu": renamed("blk.0.attn_q.weight", "blk.0.attn_sinks.weight"),
    "tenseur absent": tensors(lambda all_of_them: all_of_them.pop("blk.0.ffn_down.weight")),
    "aucune dimension": tensor(SECOND, 0, ()),
    "neuf dimensions": tensor(SECOND, 0, (1,) * 9),
    "quatre milliards de dimensions": patched(text(SECOND) + b"\1\0\0\0", text(SECOND) + b"\xff" * 4),
    "dimension nulle": tensor(FIRST, 0, (8, 0)),
    "dimension immense": tensor(FIRST, 0, (8, HUGE)),
    "produit qui déborde": tensor(FIRST, 0, (1 << 32, 1 << 32, 1, 1)),
    "type inconnu": tensor(FIRST, 1, 77),
    "un type que personne n'écrit plus": tensor(FIRST, 1, 4),
    "lignes qui ne font pas un bloc": tensor(FIRST, 1, 8),
    "des entiers": tensor(FIRST, 1, 26),
    "décalage immense": tensor(FIRST, 2, HUGE - 31),
    "décalage de travers": tensor(SECOND, 2, 7),
    "deux au même endroit": tensor(SECOND, 2, 0),
    "un au-delà de la fin": tensor(SECOND, 2, 1 << 40),
    "formes échangées": tensor(FIRST, 0, (len(TOKENS), 8)),
}


def test_hostile_ggufs_are_one_sentence_each(tmp_path):
    """Tous dans un seul enfant : sa mémoire et son temps sont ceux du pire, ou moins."""
    assert len(HOSTILE) >= 40
    for rank, make in enumerate(HOSTILE.values()):
        (tmp_path / f"{rank}.gguf").write_bytes(make())

    def work() -> None:
        wrong = {}
        for rank, name in enumerate(HOSTILE):
            path, began = tmp_path / f"{rank}.gguf", time.monotonic()
            try:
                weights.load(str(path))
                wrong[name] = "CHARGÉ"
            except UserError as error:
                if str(path) not in str(error) or "\n" in str(error) or len(str(error)) > 700:
                    wrong[name] = str(error)
            except BaseException as error:
                wrong[name] = f"{type(error).__name__} {error}"
            assert time.monotonic() - began < SECONDS, name
        assert not wrong, wrong

    told, memory, _ = measured(work)
    assert told == "CHARGÉ" and memory < MEMORY, (told, memory)


T = "tokenizer.ggml."
TOKENLESS = {
    "tokenizer absent": without(f"{T}tokens"),
    "tokenizer d'ailleurs": value(f"{T}model", TEXT, "t5"),
    "découpage absent": without(f"{T}pre"),
    "découpage inconnu": value(f"{T}pre", TEXT, "os.system"),
    "découpage par défaut": value(f"{T}pre", TEXT, "default"),
    "fusions absurdes": value(f"{T}merges", LIST, (TEXT, ["a", "b c d"])),
    "jetons en double": value(f"{T}tokens", LIST, (TEXT, ["a"] * len(TOKENS))),
    "jetons de trop": value(f"{T}tokens", LIST, (TEXT, [str(rank) for rank in range(100_000)])),
    "genres de trop": value(f"{T}token_type", LIST, (5, [1])),
    "sans notes": value(f"{T}model", TEXT, "llama"),
}


@pytest.mark.parametrize("name", TOKENLESS)
def test_a_tokenizer_that_cannot_be_read_leaves_the_weights(name, tmp_path, caplog):
    (tmp_path / "x.gguf").write_bytes(TOKENLESS[name]())
    model, tokenizer = weights.load(str(tmp_path / "x.gguf"))
    assert tokenizer is None and model.config.n_layers == 1
    assert "son tokenizer ne se lit pas" in caplog.text


def test_absurd_tokens_are_one_sentence(tmp_path):
    for key, kind, given in (
        ("tokens", LIST, (U32, [1] * len(TOKENS))),
        ("tokens", U32, 3),
        ("eos_token_id", TEXT, "x"),
        ("add_bos_token", U32, 7),
    ):
        (tmp_path / "x.gguf").write_bytes(value(T + key, kind, given)())
        loaded(tmp_path / "x.gguf")


def loaded(path):
    """Ce que ce fichier donne : (configuration, tokenizer, tenseurs), ou None et la phrase nomme le fichier."""
    try:
        model, tokenizer = weights.load(str(path))
    except UserError as error:
        assert str(path) in str(error) and "\n" not in str(error), error
        return None
    return model.config, tokenizer and tokenizer.state(), model.state_dict()


def test_a_cut_is_one_sentence(tmp_path):
    raw, path = small().bytes(), tmp_path / "x.gguf"
    for length in random.Random(0).sample(range(len(raw)), 50):
        path.write_bytes(raw[:length])
        assert loaded(path) is None, length


def test_a_flipped_bit_is_one_sentence_or_changes_only_its_number(tmp_path):
    """Le format n'a pas de somme de contrôle : un bit d'un poids change ce poids, et rien d'autre."""
    raw, path, rng = small().bytes(), tmp_path / "x.gguf", random.Random(1)
    begins = len(small().head())
    path.write_bytes(raw)
    before = loaded(path)
    for place in [*rng.sample(range(begins), 60), *rng.sample(range(begins, len(raw)), 40)]:
        flipped = bytearray(raw)
        flipped[place] ^= 1 << rng.randrange(8)
        path.write_bytes(flipped)
        after = loaded(path)
        if place < begins:
            continue
        assert after is not None and after[:2] == before[:2]
        pairs = [(tensor, after[2][name]) for name, tensor in before[2].items() if name != "out_head.weight"]
        assert sum(int((one.view(torch.int32) != other.view(torch.int32)).sum()) for one, other in pairs) <= 1


def test_what_it_says_is_what_it_holds(tmp_path):
    path = tmp_path / "x.gguf"
    path.write_bytes(small().bytes())
    config, state, tensors = loaded(path)
    assert (config.emb_dim, config.n_heads, config.norm_eps, config.tie_weights) == (8, 2, 1e-5, True)
    assert state["kind"] == "byte_level" and state["end"] == "<|endoftext|>"
    given = small().tensors[FIRST][3]
    assert tensors["tok_emb.weight"].numpy().tobytes() == given
    other = tmp_path / "sans-suffixe"  # un fichier se reconnaît à ce qu'il contient
    other.write_bytes(small().bytes())
    assert loaded(other)[0] == config


def test_every_value_type_is_read(tmp_path):
    from gpt_lightning.weights.gguf.header import read_header

    file = small()
    kinds = {0: 255, 1: -1, 2: 65535, 3: -1, 4: 7, 5: -7, 6: 0.5, 7: 1, 10: 1 << 40, 11: -(1 << 40), 12: 0.1}
    file.values |= {f"x.{kind}": (kind, given) for kind, given in kinds.items()}
    file.values["x.list"] = (LIST, (BOOL, [0, 1]))
    (tmp_path / "x.gguf").write_bytes(file.bytes())
    values = read_header(tmp_path / "x.gguf").values
    assert {kind: values[f"x.{kind}"] for kind in kinds} == {**kinds, 7: True}
    assert values["x.list"] == [False, True] and re.fullmatch("llama", values[A])
    assert packed(TEXT, "é") == text("é")
