"""La loi des fichiers : tout ce qu'un dossier contient est lu, ou nommé avec sa raison ; rien ne finit en traceback."""

import codecs
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt_lightning.data import reading
from gpt_lightning.data.documents import Options, read_files
from gpt_lightning.data.documents.bounds import looks_like
from gpt_lightning.data.reading import find_files
from gpt_lightning.errors import UserError

TEXT = "Été 😀 ſ\n\tl’eau\u2028 fin 𝔘. " * 5


def read(path, **options) -> str:
    return "".join(piece.text for piece in read_files([path], Options(**options)))


@pytest.fixture
def tree(tmp_path):
    """Un dossier où il y a de tout, et ce qu'il faut en lire."""
    root, other = tmp_path / "corpus", tmp_path / "ailleurs"
    for folder in (root / "a" / "b", root / ".caché", root / os.fsdecode(b"l\xe9"), other / "dedans"):
        folder.mkdir(parents=True)
    for path in (
        root / "un.txt",
        root / "a" / "deux.MD",
        root / "a" / "b" / "trois.jsonl",
        root / ".caché" / "quatre.txt",
        root / os.fsdecode(b"l\xe9") / os.fsdecode(b"cinq\xe9.txt"),
        other / "dedans" / "six.txt",
        other / "sept.txt",
    ):
        path.write_text(json.dumps({"text": path.name.encode("utf-8", "replace").decode()}), encoding="utf-8")
    for path in (root / "image.png", root / "a" / "sans_suffixe", root / "a" / "script.py"):
        path.write_bytes(b"\0")
    (root / "lien").symlink_to(other, target_is_directory=True)
    (root / "lien.txt").symlink_to(root / "un.txt")
    (root / "perdu.txt").symlink_to(tmp_path / "nulle part")
    (root / "a" / "boucle").symlink_to(root, target_is_directory=True)
    os.mkfifo(root / "tube.txt")
    return root


def test_every_file_is_read_or_left_out_with_its_reason(tree):
    found = find_files(str(tree))
    everything = {  # sans entrer deux fois dans un dossier
        os.path.join(name, one) for name, _, names in os.walk(tree) for one in names
    } | {os.path.join(tree, "lien", one) for one in ("sept.txt", os.path.join("dedans", "six.txt"))}
    said = dict(found.left_out)
    assert {str(path) for path in found.files} | {str(path) for path in said} == everything | {
        str(tree / "a" / "boucle")
    }
    assert not set(found.files) & set(said) and all(said.values())
    assert len(found.files) == 7
    assert len({path.resolve() for path in found.files}) == 7
    assert [len("".join(p.text for p in read_files([path]))) > 0 for path in found.files] == [True] * 7


BOMS = {
    "utf-8": b"",
    "utf-8-sig": b"",
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
    "utf-32-le": codecs.BOM_UTF32_LE,
    "utf-32-be": codecs.BOM_UTF32_BE,
}


@pytest.mark.parametrize("block", [1, 2, 3, 5, 1 << 20])
@pytest.mark.parametrize("encoding", BOMS)
def test_a_text_is_the_same_in_any_encoding_and_blocks(tmp_path, monkeypatch, encoding, block):
    path = tmp_path / "texte.txt"
    path.write_bytes(BOMS[encoding] + TEXT.encode(encoding))
    monkeypatch.setattr(reading, "BLOCK", block)
    assert read(path) == TEXT


@given(st.binary(max_size=40), st.sampled_from([b"", *BOMS.values()]), st.sampled_from(["txt", "jsonl"]))
def test_any_bytes_are_read_or_refused_by_name(tmp_path_factory, content, bom, suffix):
    path = tmp_path_factory.mktemp("octets") / f"fichier.{suffix}"
    path.write_bytes(bom + content)
    try:
        text = read(path)
    except UserError as refused:
        assert "fichier" in str(refused) and str(path.parent) in str(refused)
    else:
        text.encode("utf-8")  # aucun demi-caractère ne passe
    if (b"\0" not in content or bom) and not looks_like(bom + content):
        replaced = read(path, errors="replace") if suffix == "txt" else ""
        replaced.encode("utf-8")


@pytest.mark.parametrize(
    "row",
    [
        "{",
        "[]",
        '"texte"',
        "3",
        "null",
        '{"texte": "a"}',
        '{"text": 3}',
        '{"text": null}',
        '{"text": ["a"]}',
        '{"text": "a"} x',
        r'{"text": "\ud83d"}',
        r'{"text": "a\udc00b"}',
        '{"text": "a", "n": ' + "9" * 5000 + "}",
        "[" * 100_000,
        '{"text": {"a": ' * 50_000,
        "\ufeff{}",
    ],
    ids=lambda row: row[:20],
)
def test_a_row_that_cannot_be_read_is_named(tmp_path, row):
    path = tmp_path / "lignes.jsonl"
    path.write_text('{"text": "bon"}\n\n' + row + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"lignes\.jsonl, ligne 3"):
        read(path)
