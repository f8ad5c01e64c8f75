"""Un fichier hostile à chaque porte : la même phrase, rien d'écrit, rien d'exécuté."""

import shutil

import pytest

from tests.conftest import sentences
from tests.resilience.faults import Zygote
from tests.weights.test_hostile import CANARY, HOSTILE, RUN

DOORS = {
    "init_from": ("commands.train", "model=tiny", "data=pydoc", "max_tokens=1000", "init_from={}"),
    "generate": ("commands.generate", "ckpt_path={}"),
    "evaluate": ("commands.evaluate", "data=pydoc", "ckpt_path={}"),
    "export": ("commands.export", "to=sortie", "ckpt_path={}"),
    "une démonstration": ("demos.top_k", "ckpt_path={}"),
    "reprise": ("commands.train", "ckpt_path=course"),
}
KINDS = [
    "os.system",
    "dix millions de couches",
    "compressé, un demi-gigaoctet",
    "tenseur répété",
    "index hors du dossier",
]


@pytest.fixture(scope="module")
def start(forks, tmp_path_factory):
    return Zygote(forks, tmp_path_factory.mktemp("cache"))


@pytest.mark.slow
@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_hostile_file_is_one_sentence_at_every_door(door, kind, start, tmp_path):
    cwd = tmp_path / "ici"
    cwd.mkdir()
    path = HOSTILE[kind](cwd)
    if door == "reprise":
        if path.suffix != ".ckpt":
            pytest.skip("un dossier de Hugging Face ne se reprend pas")
        shutil.copytree(RUN, cwd / "course")
        path.rename(cwd / "course" / "checkpoints" / "last.ckpt")
    before = sorted(one for one in cwd.rglob("*"))
    script, *typed = DOORS[door]
    done = start(script, *(one.format(path) for one in typed), cwd=cwd)
    assert done["rc"] == 1 and "Traceback" not in done["said"], done
    (said,) = sentences(done["said"])
    assert path.name in said or "last.ckpt" in said, said
    assert sorted(one for one in cwd.rglob("*")) == before and not (cwd / CANARY).exists()
