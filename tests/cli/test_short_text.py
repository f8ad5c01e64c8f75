"""Un texte court : ses réglages sont des surcharges que toute clé tapée l'emporte, et qu'une reprise retrouve."""

import gzip
import random

import pytest
import yaml

from gpt_lightning.cli import defaults
from gpt_lightning.cli.composition import compose
from gpt_lightning.cli.short_text import READ, SHORT, announce, fitting, suit, with_short_text
from tests.data import strange

SIZES = (1, 300, 5_000, 20_000, 80_000, 400_000, SHORT)


@pytest.fixture
def text(tmp_path):
    """Un fichier de tant d'octets, comme la ligne de commande le donne une fois `data=text` ajouté."""

    def write(size: int) -> list[str]:
        path = tmp_path / "texte.txt"
        path.write_bytes(b"a" * size)
        return ["data=text", f"data.path='{path}'"]

    return write


@pytest.mark.parametrize("size", SIZES)
def test_every_size_composes(size, text):
    settings = compose("train", *with_short_text(text(size), "train"))
    assert settings["callbacks"]["early_stopping"]["patience"] >= 1
    assert settings["data"]["passes"] >= 1 and 256 < settings["tokenizer"]["size"] <= 2048
    assert 0 <= settings["model"]["drop_rate"] < 0.5 and settings["eval_every"] >= 1


def test_a_shorter_text_is_read_in_smaller_batches_and_a_long_one_has_the_defaults(text):
    for key in ("tokenizer.size", "data.batch_size", "eval_every"):
        values = [int(suit(size)[key]) for size in SIZES]
        assert values == sorted(values)
    assert with_short_text(text(SHORT + 1), "train") == text(SHORT + 1)


@pytest.mark.parametrize("key", sorted(suit(20_000)))
def test_a_typed_key_wins(key, text):
    typed = f"{key}={'default' if key == 'callbacks' else 7}"
    done = with_short_text([*text(20_000), typed], "train")
    assert [word for word in done if word.startswith(f"{key}=")] == [typed]


@pytest.mark.parametrize(
    "typed",
    ["model=tiny", "model=mini", "experiment=original", "init_from=best", "ckpt_path=last", "data.limit=3"],
)
def test_a_command_that_chooses_its_model_has_none(typed, text):
    assert fitting([*text(20_000), typed], "train") == {}


@pytest.mark.parametrize("length", ["trainer.max_steps=3", "trainer.max_epochs=2", "max_tokens=4096"])
def test_a_typed_length_wins_over_the_passes(length, text):
    assert "data.passes" not in fitting([*text(20_000), length], "train")


def test_another_tokenizer_keeps_its_vocabulary(text):
    assert "tokenizer.size" not in fitting([*text(20_000), "tokenizer=bytes"], "train")


def test_prepare_writes_the_tokens_that_train_will_read(text):
    fits = fitting(text(20_000), "train")
    assert fitting(text(20_000), "prepare")["tokenizer.size"] == fits["tokenizer.size"]
    compose("prepare", *with_short_text(text(20_000), "prepare"))
    assert fitting(text(20_000), "evaluate") == {}


@pytest.mark.parametrize(
    "words", [["data=text"], ["data=text", "data.path=nulle-part.txt"], ["data=verdict"]]
)
def test_a_text_that_is_not_there_has_none(words):
    assert with_short_text(words, "train") == words


@pytest.fixture
def said(caplog):
    """Ce que le plan dit de réglages, ceux qui servent étant ceux de `changed` et sinon ceux de la commande."""
    caplog.set_level("INFO", logger="gpt_lightning")

    def announced(typed: list[str], path: list[str], **changed) -> str:
        caplog.clear()
        defaults.remember_command(typed)
        overrides = with_short_text([*path, *typed], "train")
        settings = compose("train", *overrides)
        for key, value in changed.items():
            group, _, leaf = key.partition("__")
            settings[group] = {**settings[group], leaf: value} if leaf else value
        announce(overrides, settings)
        return caplog.text

    yield announced
    defaults.remember_command([])


def test_the_plan_says_what_nobody_typed(text, said):
    plan = said(["data.passes=4"], text(20_000))
    assert "texte court : 20,0 ko, donc tokenizer.size=" in plan and "data.passes" not in plan
    assert not said([], text(SHORT + 1))


@pytest.mark.parametrize(
    "typed, changed, unsaid",
    [
        (["callbacks.early_stopping=null"], {}, ["callbacks", "patience"]),
        (["model.vocab_size=300"], {"tokenizer__size": 300}, ["tokenizer.size"]),
        (["global_batch_size=6"], {"data__batch_size": 3}, ["data.batch_size"]),
    ],
)
def test_the_plan_says_nothing_that_does_not_serve(typed, changed, unsaid, text, said):
    everything, plan = said([], text(20_000)), said(typed, text(20_000), **changed)
    assert all(name in everything and name not in plan for name in unsaid) and "eval_every=" in plan


def test_the_plan_of_a_resumption_is_its_folder_s(text, said):
    assert said([], text(20_000)) and not said([], text(20_000), ckpt_path="x/checkpoints/last.ckpt")


@pytest.mark.parametrize("name", ["livre.html", "livre.docx", "livre.txt.gz", "livre.zip"])
@pytest.mark.parametrize("size", [20_000, SHORT + 200_000])
def test_a_document_is_as_long_as_its_text(name, size, tmp_path):
    """Ni les balises d'une page ni la compression ne comptent ; un dossier est lu comme le corpus le lira."""
    folder = tmp_path / "textes"
    folder.mkdir()
    (folder / "notes.txt").write_text("Une note. " * 100, encoding="utf-8")
    draw = random.Random(0)
    paragraphs = [f"{draw.getrandbits(326):098d}" for _ in range(size // 100)]
    document(folder / name, paragraphs)
    for path, more in ((folder, 1_000), (folder / name, 0)):
        fits = fitting(["data=text", f"data.path='{path}'"], "train")
        assert bool(fits) == (size < SHORT)
        if fits:
            assert fits == suit(size + more)


def document(path, paragraphs: list[str]) -> None:
    """Écrit ces paragraphes dans le format que dit le suffixe."""
    text, pieces = "\n\n".join(paragraphs), "".join(map(strange.paragraph, paragraphs))
    page = "".join(f'<p style="color:#{i:06x}">{line}</p>' for i, line in enumerate(paragraphs))
    made = {
        ".html": lambda: f"<html><body>{page}</body></html>".encode(),
        ".gz": lambda: gzip.compress(text.encode()),
        ".zip": lambda: strange.zipped({"livre.txt": text}),
        ".docx": lambda: strange.docx(pieces),
    }
    path.write_bytes(made[path.suffix]())


def sized(path, *typed: str) -> bool:
    """Vrai si ce texte est pris pour un texte court."""
    return bool(fitting(["data=text", f"data.path='{path}'", *typed], "train"))


def test_files_that_do_not_read_are_the_task_s_to_tell(tmp_path):
    (tmp_path / "livre.docx").write_bytes(b"rien d'une archive")
    (tmp_path / "notes.txt").write_text("Une note. " * 100, encoding="utf-8")
    assert not sized(tmp_path) and not sized(tmp_path / "livre.docx") and sized(tmp_path / "notes.txt")
    for source in ("data.source=parquet", "++data.source=parquet"):
        assert not sized(tmp_path / "notes.txt", source)


@pytest.mark.parametrize("size", [20_000, SHORT + 200_000])
def test_a_text_is_measured_as_the_command_reads_it(size, tmp_path):
    """Sa colonne, ses octets qui ne sont pas de l'UTF-8, ce qu'il peut donner au plus."""
    draw = random.Random(0)
    rows = [f"{draw.getrandbits(326):098d}" for _ in range(size // 100)]
    table = "contenu;autre\n" + "".join(f"{row};x\n" for row in rows)
    made = {
        "table.csv.gz": (table.encode(), "data.text_key=contenu"),
        "latin.txt.gz": ("é\n".join(rows).encode("latin-1"), "data.errors=replace"),
        "egal.txt.gz": (b"a" * size, "data.max_expansion=2000"),
    }
    for name, (content, typed) in made.items():
        (tmp_path / name).write_bytes(gzip.compress(content))
        assert sized(tmp_path / name, typed) == (size < SHORT)
        if name != "egal.txt.gz":
            assert not sized(tmp_path / name)  # sans cette clé, il ne se lit pas


def test_what_is_long_to_open_is_not_opened(tmp_path):
    (tmp_path / "page.html").write_text("<p>court</p>" + "<!-- rien -->" * 400_000, encoding="utf-8")
    assert (tmp_path / "page.html").stat().st_size > READ and not sized(tmp_path)


@pytest.mark.slow
def test_a_run_on_a_short_text_says_it_and_resumes_with_it(command, tmp_path):
    (tmp_path / "texte.txt").write_text("Le chat dort, la souris danse. " * 400, encoding="utf-8")
    typed = ("data.path=texte.txt", "trainer.max_steps=4", "model.emb_dim=32", "output_dir=x")
    done = command("train.py", *typed, cwd=tmp_path, timeout=600)
    assert done.returncode == 0 and "texte court : 12,4 ko" in done.stderr + done.stdout, done.stderr
    first = yaml.safe_load((tmp_path / "x" / "config.yaml").read_text(encoding="utf-8"))
    done = command("train.py", "ckpt_path=x", "trainer.max_steps=6", cwd=tmp_path, timeout=600)
    assert done.returncode == 0 and "texte court" not in done.stderr + done.stdout, done.stderr
    again = yaml.safe_load((tmp_path / "x" / "config.yaml").read_text(encoding="utf-8"))
    assert again["callbacks"]["early_stopping"] == first["callbacks"]["early_stopping"] is not None
    assert (again["tokenizer"], again["model"]) == (first["tokenizer"], first["model"])
