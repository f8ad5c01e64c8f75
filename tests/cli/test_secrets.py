"""Ce qui vient de l'environnement ne s'écrit nulle part : son nom y est, et une reprise le relit."""

import shutil
from pathlib import Path

import pytest
import yaml

from gpt_lightning.cli.resume import literal, resume_overrides
from tests.resilience.faults import Zygote
from tests.resilience.runs import TINY

SECRET = "xK9-secret-42"
FILE = """# @package _global_
data:
  jsonl_key: nom ${oc.env:JETON_SECRET}
  url: ${oc.env:ABSENT,${oc.env:JETON_SECRET}}
  batch_size: ${oc.decode:${oc.env:LOT}}
"""


@pytest.fixture(scope="module")
def start(forks, tmp_path_factory):
    return Zygote(forks, tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def run(start, text_file, tmp_path_factory) -> Path:
    cwd = tmp_path_factory.mktemp("secret")
    (cwd / "conf" / "experiment").mkdir(parents=True)
    (cwd / "conf" / "experiment" / "secrete.yaml").write_text(FILE)
    typed = [one for one in TINY if not one.startswith("data.batch_size")]
    env = {"JETON_SECRET": SECRET, "LOT": "4"}
    more = (f"data.path={text_file}", "trainer.max_steps=4", "output_dir=course", "experiment=secrete")
    done = start("commands.train", "--config-dir=conf", *typed, *more, cwd=cwd, env=env)
    assert done["rc"] == 0 and SECRET not in done["said"], done["said"]
    return cwd / "course"


def test_no_file_of_the_run_has_it(run):
    for path in run.rglob("*"):
        if path.is_file():
            assert SECRET.encode() not in path.read_bytes(), path
    saved = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    assert saved["data"]["jsonl_key"] == "nom ${oc.env:JETON_SECRET}" and saved["data"]["batch_size"] == 4


def test_a_resume_reads_it_again(run, start, tmp_path):
    shutil.copytree(run, tmp_path / "ici" / "course")
    typed = ("ckpt_path=course", "trainer.max_steps=6")
    done = start("commands.train", *typed, cwd=tmp_path / "ici")
    assert done["rc"] == 1
    assert done["said"] == (
        "La variable d'environnement JETON_SECRET manque : la configuration la lit (export JETON_SECRET=...).\n"
    )
    done = start("commands.train", *typed, cwd=tmp_path / "ici", env={"JETON_SECRET": "autre"})
    assert done["rc"] == 0 and "pas 6/6" in done["said"], done["said"]
    saved = yaml.safe_load((tmp_path / "ici" / "course" / "config.yaml").read_text(encoding="utf-8"))
    assert saved["data"]["jsonl_key"] == "nom ${oc.env:JETON_SECRET}"


def test_no_variable_is_sent_where_a_folder_says(run, tmp_path):
    """L'adresse d'un corpus, dans un dossier venu d'ailleurs, n'emporte aucune variable."""
    from gpt_lightning.cli.resume import inherited_overrides

    shutil.copytree(run, tmp_path / "course")
    path = tmp_path / "course" / "config.yaml"
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    values["data"] |= {"source": "download", "url": "http://exemple/?k=${oc.env:HOME}", "sha256": "0" * 64}
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    source = f"ckpt_path='{tmp_path / 'course'}'"
    assert not any("HOME" in one for one in inherited_overrides([source], "data"))


@pytest.mark.parametrize("other", ["", "n: ${sizes.${oc.env:LOT}}\nsizes: {'4': 12}\n"])
def test_a_secret_is_hidden_wherever_it_goes(other, monkeypatch):
    from omegaconf import OmegaConf

    from gpt_lightning.cli.composition import hide_environment, to_plain

    monkeypatch.setenv("JETON_SECRET", SECRET)
    monkeypatch.setenv("LOT", "4")
    text = "a: http://h/?k=${b}\nb: ${oc.env:JETON_SECRET}\nc: ${oc.env:ABSENT,${oc.env:JETON_SECRET}}\n"
    found = to_plain(OmegaConf.create(text + other), resolve=True)
    assert found["a"] == f"http://h/?k={SECRET}" and found["c"] == SECRET
    assert (
        SECRET not in str(hide_environment(found))
        and hide_environment(found)["a"] == "http://h/?k=${oc.env:JETON_SECRET}"
    )


def test_a_default_that_is_a_variable_is_read_again():
    text = "${oc.env:ABSENT,${oc.env:JETON_SECRET}}/fin"
    assert literal(text) == f"'{text}'"


def test_only_a_variable_is_interpolated():
    assert literal("a ${oc.env:X} ${autre} 'b'") == "'a ${oc.env:X} \\${autre} \\'b\\''"


def test_what_is_resumed_is_the_name(run, monkeypatch):
    monkeypatch.setenv("JETON_SECRET", SECRET)
    found = resume_overrides([f"ckpt_path='{run}'"], "train")
    assert "data.jsonl_key='nom ${oc.env:JETON_SECRET}'" in found and not any(SECRET in one for one in found)
