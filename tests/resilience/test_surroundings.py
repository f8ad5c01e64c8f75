"""Les commandes dans des lieux hostiles : encodages, dossiers, sorties fermées, machine sans réseau ni personne."""

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT

TINY = ("model=tiny", "data=text", "data.path=texte.txt", "tokenizer=bytes", "data.max_length=32")
SHORT = ("data.batch_size=8", "trainer.max_steps=4", "eval_every=2", "save_every=2")
NAMES = ["l'été à ${la} plage", "a b", "'entre guillemets'", "-tiret", "100 % [x]", "~", "a,b=c"]
ALONE = ["unshare", "--net", "--map-root-user"]
NAMELESS = [
    "unshare",
    "--mount",
    "--map-root-user",
    "sh",
    "-c",
    'mount --bind /dev/null /etc/passwd; exec "$@"',
    "sh",
]


def permitted(prefix: list[str]) -> bool:
    return sys.platform == "linux" and not subprocess.run([*prefix, "true"], capture_output=True).returncode


SURROUNDINGS = {
    "latin-1": {"env": {"PYTHONIOENCODING": "latin-1"}},
    "cp1252": {"env": {"PYTHONIOENCODING": "cp1252"}},
    "ascii": {"env": {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}},
    "LANG=C": {"env": {"LANG": "C", "LC_ALL": "C"}},
    "sans utf-8 du tout": {"env": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}},
    "sans HOME": {"env": {"HOME": None, "XDG_CACHE_HOME": None}, "cache": "data.cache_dir=cache"},
    "HOME en lecture seule": {
        "env": {"HOME": "/proc", "XDG_CACHE_HOME": "/proc"},
        "cache": "data.cache_dir=cache",
    },
    "entrée fermée": {"shell": "exec 0<&-; "},
    "sorties fermées": {"shell": "exec 1>&- 2>&-; "},
    "sorties pleines": {"shell": "exec 1>/dev/full 2>/dev/full; "},
    "sans réseau": {"prefix": ALONE},
    "sans nom": {"prefix": NAMELESS},
}


@pytest.fixture
def shell(cache, tmp_path):
    """Tape une commande : shell("train.py", ..., env, shell, prefix) -> (code, sortie, erreurs)."""

    def run(script, *arguments, env=None, shell="", prefix=(), cwd=tmp_path, **_):
        entry = [str(ROOT / script)] if script.endswith(".py") else ["-m", script]
        values = {**os.environ, "XDG_CACHE_HOME": str(cache), "PYTHONPATH": str(ROOT), "PYTHONUTF8": ""}
        values = {key: value for key, value in {**values, **(env or {})}.items() if value is not None}
        typed = [*prefix, sys.executable, *entry, *arguments]
        whole = ["bash", "-c", f'{shell}exec "$@"', "bash", *typed] if shell else typed
        done = subprocess.run(
            whole,
            cwd=cwd,
            env=values,
            capture_output=True,
            timeout=300,
            **({} if shell else {"stdin": subprocess.DEVNULL}),
        )
        return done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")

    (tmp_path / "texte.txt").write_text("Il était une fois un été, près de l’eau. " * 200, encoding="utf-8")
    return run


@pytest.mark.slow
@pytest.mark.parametrize("where", SURROUNDINGS)
def test_train_generate_and_demos_work(shell, tmp_path, where):
    how = dict(SURROUNDINGS[where])
    if not permitted(how.get("prefix", [])):
        pytest.skip("unshare n'est pas permis ici")
    extra = [how["cache"]] if "cache" in how else []
    code, out, err = shell("train.py", *TINY, *SHORT, "output_dir=course", *extra, **how)
    assert code == 0 and "Traceback" not in err, err
    assert (tmp_path / "course" / "checkpoints" / "last.ckpt").exists()
    for script, *arguments in (
        ("generate.py", "ckpt_path=course", "prompt=Le", "max_new_tokens=8"),
        ("gpt_lightning.demos.temperature", "ckpt_path=course", f"output_dir={tmp_path}/images"),
        ("gpt_lightning", "evaluate", "ckpt_path=course", *extra),
    ):
        code, out, err = shell(script, *arguments, **how)
        lost = where == "sorties pleines"  # ce que la commande produit ne s'écrit pas
        assert code == int(lost) and "Traceback" not in err, (script, err)
        assert script != "generate.py" or where.startswith("sorties") or out.startswith("Le")
    pictures = tmp_path / "images" / "temperature.pdf"
    assert where == "sorties pleines" or pictures.stat().st_size > 1000


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_run_lives_in_a_folder_of_any_name(shell, tmp_path, name):
    home = {"HOME": str(tmp_path / "chez moi")}
    (tmp_path / "chez moi").mkdir()
    code, out, err = shell("train.py", *TINY, *SHORT, f"output_dir=./{name}", "prompt=Le", env=home)
    assert code == 0, err
    folder = tmp_path / name
    assert (folder / "checkpoints" / "last.ckpt").exists()
    code, out, err = shell("train.py", f"ckpt_path=./{name}", "trainer.max_steps=6", env=home)
    assert code == 0 and len((folder / "metrics.csv").read_text().splitlines()) > 2, err
    for line in out.splitlines():  # ce qui est dit de taper se tape
        if "generate.py" in line:
            done = subprocess.run(
                ["bash", "-c", f"{line.replace('python ', sys.executable + ' ', 1)} max_new_tokens=4"],
                cwd=tmp_path,
                capture_output=True,
                encoding="utf-8",
            )
            assert done.returncode == 0, done.stderr
            assert done.stdout.startswith("Le")
            break
    else:
        raise AssertionError(out)


@pytest.mark.slow
def test_a_reader_that_leaves_does_not_stop_a_run(shell, tmp_path):
    whole = ["train.py", *TINY, *SHORT, "output_dir=course"]
    command = " ".join(f"'{one}'" for one in [sys.executable, str(ROOT / whole[0]), *whole[1:]])
    done = subprocess.run(
        ["bash", "-c", f"{command} | head -n 1; exit ${{PIPESTATUS[0]}}"],
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 1, done.stderr
    assert (tmp_path / "course" / "samples" / "step_0000004.txt").exists()


@pytest.mark.slow
def test_a_working_folder_whose_name_is_not_utf8(shell, tmp_path):
    place = os.path.join(os.fsencode(tmp_path), b"l\xe9")
    os.mkdir(place)
    with open(os.path.join(place, b"texte.txt"), "w", encoding="utf-8") as file:
        file.write("Il était une fois. " * 400)
    code, out, err = shell("train.py", *TINY, *SHORT, cwd=place)
    assert code == 0 and "Traceback" not in err, err
    code, out, err = shell("generate.py", "max_new_tokens=4", cwd=place)
    assert code == 0, err
