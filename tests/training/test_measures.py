"""Une mesure retenue : le fichier qui la garde est cru avec prudence, et rien n'échoue sans lui."""

import json
import os
import subprocess
import sys

import pytest

from gpt_lightning import durable
from gpt_lightning.training import measures

WHAT = "un produit sur cette machine"


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    measures._here.clear()
    return tmp_path / "gpt_lightning" / "measures.json"


def recall(value, what=WHAT):
    """Comme un processus neuf, dont la mesure donnerait `value`."""
    measures._here.clear()
    return measures.recall(what, lambda: value, low=0.01, high=100)


def test_the_first_measures_and_the_others_read(path):
    assert recall(2.0) == (2.0, None)
    assert recall(3.0) == (2.0, path)
    assert recall(4.0, "un autre") == (4.0, None)
    assert json.loads(path.read_text("utf-8")) == {WHAT: 2.0, "un autre": 4.0}


@pytest.mark.parametrize(
    "text",
    [b"", b"\x00\xff\xfe", b"{", b"[]", b"3", b"[" * 100_000, b'{"%s": ' % WHAT.encode() + b"9" * 5000 + b"}"]
    + [f'{{"{WHAT}": {value}}}'.encode() for value in ("NaN", "Infinity", "-1.0", "0.0", "1e30", "1e999")]
    + [f'{{"{WHAT}": {value}}}'.encode() for value in ("true", "null", '"2.0"', "[2.0]", "{}", "1" * 400)]
    + [b'{"\\ud800": 1.5}', b" " * (measures.MOST + 1)],
    ids=lambda text: text[:40].decode("latin-1"),
)
def test_a_damaged_file_is_measured_again_and_repaired(text, path):
    path.parent.mkdir()
    path.write_bytes(text)
    assert recall(2.0) == (2.0, None)
    assert recall(3.0) == (2.0, path)


def test_what_is_not_a_file_is_not_read(path):
    path.parent.mkdir()
    os.mkfifo(path)  # se lirait sans fin
    assert recall(2.0) == (2.0, None)
    path.unlink()
    path.mkdir()
    assert recall(3.0) == (3.0, None)
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("home", ["/proc", "/dev/null", "/dev/full", "/" + "a" * 300])
def test_without_a_place_to_write_this_process_still_remembers(home, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", home)
    assert recall(2.0) == (2.0, None)
    assert measures.recall(WHAT, lambda: 3.0, low=0.01, high=100) == (2.0, None)


def test_a_full_disk_and_a_person_without_a_home(path, monkeypatch):
    def full(*_):
        raise durable.WriteError(path, "plein")

    monkeypatch.setattr(durable, "write_text", full)
    assert recall(2.0) == (2.0, None)
    assert not path.exists()

    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(durable, "cache_folder", homeless)
    assert recall(3.0) == (3.0, None)


def test_the_measure_another_process_has_just_written_wins(path):
    def slow():
        recall(2.0)
        return 3.0

    assert measures.recall(WHAT, slow, low=0.01, high=100) == (2.0, path)


@pytest.mark.slow
def test_processes_that_write_together_leave_a_whole_file(path):
    code = (
        "import sys; from gpt_lightning.training import measures\n"
        "for i in range(30): measures.recall(f'{sys.argv[1]} {i}', lambda: 2.0, low=1, high=3)"
    )
    started = [subprocess.Popen([sys.executable, "-c", code, name]) for name in "abc"]
    assert [one.wait(120) for one in started] == [0, 0, 0]
    found = json.loads(path.read_text("utf-8"))
    assert len(found) >= 30 and set(found.values()) == {2.0}
    assert list(path.parent.iterdir()) == [path]


def test_the_processor_says_what_its_speed_depends_on(monkeypatch):
    measures.processor.cache_clear()
    first = measures.processor()
    monkeypatch.setattr(measures.torch.cpu, "_is_amx_tile_supported", lambda: True, raising=False)
    monkeypatch.setattr(measures.torch.cpu, "_is_avx512_bf16_supported", lambda: False, raising=False)
    measures.processor.cache_clear()
    assert first and measures.processor().endswith(" AMX")
    measures.processor.cache_clear()
