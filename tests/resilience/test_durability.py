"""La mort, ou un disque qui refuse, à chaque opération d'écriture : rien n'est perdu en silence, tout se reprend."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from gpt_lightning import durable
from gpt_lightning.data.store import TokenStore
from gpt_lightning.weights.untrusted import read_torch
from tests.resilience.faults import Zygote
from tests.resilience.runs import same_run

TYPED = (
    "model=tiny",
    "data=text",
    "tokenizer=characters",
    "data.max_length=16",
    "data.batch_size=4",
    "eval_every=2",
    "save_every=1",
    "keep_last=1",
    "trainer.log_every_n_steps=1",
    "data.eval_batches=2",
    "callbacks.sample.max_new_tokens=4",
    "trainer.max_steps=3",
    "output_dir=course",
    "resume=auto",
)
REFUSALS = (errno.ENOSPC, errno.EROFS, errno.EACCES)
PARTS = 6


@pytest.fixture(scope="module")
def start(forks, tmp_path_factory):
    return Zygote(forks, tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def whole(start, text_file, tmp_path_factory):
    """(ce qui est tapé, le dossier de l'exécution que rien n'a dérangée, ses opérations)."""
    text = tmp_path_factory.mktemp("texte") / "court.txt"
    text.write_text(text_file.read_text(encoding="utf-8")[:2000], encoding="utf-8")
    typed, cwd = (*TYPED, f"data.path={text}"), tmp_path_factory.mktemp("entier")
    done = start("commands.train", *typed, cwd=cwd)
    assert done["rc"] == 0, done["said"]
    again = start("commands.train", *typed, cwd=tmp_path_factory.mktemp("compte"))  # la base est déjà écrite
    return typed, cwd / "course", again["count"]


def sentence(said: str) -> str:
    """La dernière ligne, quand la commande finit mal : une phrase, sans trace."""
    assert "Traceback" not in said, said
    return said.strip().splitlines()[-1]


def scratch(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.endswith(".brouillon")]


def check_refusal(start, whole, cwd, at, number, for_good):
    typed, _, _ = whole
    done = start("commands.train", *typed, cwd=cwd, at=at, errno=number, for_good=for_good)
    said = done["said"]
    assert done["rc"] in (0, 1) and "Traceback" not in said, (at, number, said)
    if done["rc"]:
        assert any(word in sentence(said) for word in ("ne s'écrit pas", "accès refusé")), (at, said)
    elif for_good:
        assert "L'entraînement continue sans" in said, (at, said)
    if not for_good:
        assert not scratch(cwd), (at, scratch(cwd))
    for path in cwd.rglob("checkpoints/[!.]*.ckpt"):
        read_torch(path)


def check_death(start, whole, cwd, at):
    typed, expected, _ = whole
    died = start("commands.train", *typed, cwd=cwd, at=at)
    assert died["rc"] == -9, (at, died)
    for path in cwd.rglob("checkpoints/[!.]*.ckpt"):
        read_torch(path)
    again = start("commands.train", *typed, cwd=cwd)
    assert again["rc"] == 0, (at, again["said"])
    assert not scratch(cwd), at
    if "Rien à faire" in again["said"]:  # morte après last.ckpt, avant que le même ait aussi son numéro
        for path in (cwd / "course" / "checkpoints").glob("step_*.ckpt"):
            path.unlink()
        os.link(
            cwd / "course" / "checkpoints" / "last.ckpt", cwd / "course" / "checkpoints" / "step_0000003.ckpt"
        )
    same_run(cwd / "course", expected)


@pytest.mark.parametrize("where", [0.15, 0.4, 0.6, 0.8])
def test_a_refused_write_is_said_and_nothing_is_damaged(where, start, whole, tmp_path):
    check_refusal(start, whole, tmp_path / "x", int(where * whole[2]), errno.ENOSPC, where < 0.5)


@pytest.mark.parametrize("where", [0.1, 0.5, 0.7, 0.9])
def test_death_in_the_middle_of_a_write_is_recovered(where, start, whole, tmp_path):
    check_death(start, whole, tmp_path / "x", int(where * whole[2]))


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_a_write_refused_at_each_operation(part, start, whole, tmp_path):
    for at in range(1 + part, whole[2] + 1, PARTS):
        number = REFUSALS[at // PARTS % len(REFUSALS)]
        check_refusal(start, whole, tmp_path / "x", at, number, for_good=at % 3 == 0)
        shutil.rmtree(tmp_path / "x")


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_death_at_each_operation(part, start, whole, tmp_path):
    for at in range(1 + part, whole[2] + 1, PARTS):
        check_death(start, whole, tmp_path / "x", at)
        shutil.rmtree(tmp_path / "x")


def each(start, script, typed, work, watched, check):
    """Une mort, puis un refus, à chaque opération sur `watched` ; `check(dossier)` après une commande qui finit."""
    whole = start(
        script, *typed, cwd=work / "entier", watched=watched(work / "entier"), env=env(work / "entier")
    )
    assert whole["rc"] == 0, whole["said"]
    for at in range(1, whole["count"] + 1):
        for number in (0, REFUSALS[at % 3]):
            cwd = work / f"x{at}-{number}"
            done = start(script, *typed, cwd=cwd, at=at, errno=number, watched=watched(cwd), env=env(cwd))
            if number and done["rc"]:
                assert "ne s'écrit pas" in sentence(done["said"]), (at, done["said"])
                assert not scratch(cwd), at
            again = start(script, *typed, cwd=cwd, env=env(cwd))
            if done["rc"] == 0 or (script.endswith("export") and "contient déjà un modèle" in again["said"]):
                assert done["rc"] or again["rc"] in (0, 1)
            else:
                assert again["rc"] == 0, (at, number, again["said"])
            check(cwd)
            shutil.rmtree(cwd)
    return whole["count"]


def env(cwd: Path) -> dict[str, str]:
    return {"XDG_CACHE_HOME": str(cwd / "cache")}


@pytest.mark.slow
def test_a_store_interrupted_at_each_operation_is_built_again(start, whole, tmp_path):
    typed = [one for one in whole[0] if one.startswith(("data", "tokenizer="))]

    def check(cwd):
        (folder,) = (cwd / "cache" / "gpt_lightning").glob("court-*")
        store = TokenStore.open(folder)
        assert store.n_tokens("train") + store.n_tokens("val") == 2000 and not scratch(cwd)

    kept = [one for one in typed if not one.startswith(("data.batch_size", "data.eval_batches"))]
    count = each(start, "commands.prepare", kept, tmp_path, lambda cwd: str(cwd / "cache"), check)
    assert count > 10


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["safetensors", "hf"])
def test_an_export_interrupted_at_each_operation_is_whole_or_absent(kind, start, whole, tmp_path):
    from gpt_lightning.weights import load

    def check(cwd):
        assert load(str(cwd / "sortie"))[0] is not None

    typed = (f"ckpt_path={whole[1]}", f"format={kind}", "to=sortie")
    assert each(start, "commands.export", typed, tmp_path, str, check) > 10


def test_a_file_is_whole_or_absent_whatever_happens(tmp_path):
    path = tmp_path / "a.txt"
    durable.write_text(path, "avant")
    with pytest.raises(RuntimeError), durable.replacing(path) as beside:
        beside.write_text("apr")
        raise RuntimeError
    assert path.read_text() == "avant" and list(tmp_path.iterdir()) == [path]
    with pytest.raises(durable.WriteError, match=r"absent/b ne s'écrit pas \(son dossier n'existe plus\)"):
        durable.write_text(tmp_path / "absent" / "b", "x")


def test_a_folder_is_filled_entirely_or_not_at_all(tmp_path):
    to = tmp_path / "a" / "b"
    with pytest.raises(durable.WriteError), durable.filling(to) as beside:
        (beside / "un").write_text("1")
        raise OSError(errno.ENOSPC, "plein")
    assert not list(tmp_path.iterdir())
    with durable.filling(to) as beside:
        (beside / "un").write_text("1")
    assert [path.name for path in to.iterdir()] == ["un"] and [p.name for p in to.parent.iterdir()] == ["b"]


def test_scratch_files_of_the_dead_only_are_swept(tmp_path):
    mine = durable.scratch(tmp_path / "a")
    dead = mine.with_name(mine.name.replace(f"-{mine.name.split('-')[1]}", "-999999999.brouillon"))
    for path in (mine, dead, tmp_path / "a"):
        path.touch()
    durable.sweep(tmp_path)
    assert mine.exists() and not dead.exists()
    durable.sweep(tmp_path, alone=True)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_folder_that_someone_else_fills_meanwhile_is_not_removed(tmp_path):
    to = tmp_path / "sortie"
    with pytest.raises(KeyboardInterrupt), durable.filling(to) as beside:
        (beside / "un").write_text("1")
        to.mkdir()
        (to / "précieux").write_text("à un autre")
        raise KeyboardInterrupt
    assert (to / "précieux").read_text() == "à un autre" and not scratch(tmp_path)
