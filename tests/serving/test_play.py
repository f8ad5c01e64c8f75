"""`play` ouvre un navigateur graphique, ou dit l'adresse : aucun programme ne reçoit le terminal."""

import logging
import os
import pty
import re
import signal
import sys

import pytest
import torch

from gpt_lightning.cli.composition import compose
from gpt_lightning.commands import play, services
from gpt_lightning.errors import UserError
from gpt_lightning.model import GPTModel
from gpt_lightning.model.lora import merge
from gpt_lightning.weights.loading import load_and_describe
from tests.conftest import ROOT
from tests.serving.live import until

ADDRESS = "http://127.0.0.1:1"
TEXT = ("w3m", "lynx", "links", "elinks", "www-browser")


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Une machine qui a tous les navigateurs de terminal, et firefox ; chacun note son nom, et s'il a un terminal."""
    programs, log = tmp_path / "bin", tmp_path / "ouverts"
    programs.mkdir()
    for name in (*TEXT, "firefox", "browser.sh"):
        program = programs / name
        program.write_text(
            f'#!/bin/sh\n(: < /dev/tty) 2>/dev/null && tty=" tty"\necho "{name} $*$tty" >> "{log}"\n'
        )
        program.chmod(0o755)
    (programs / "mien").symlink_to(programs / "w3m")
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setenv("TERM", "xterm")
    for name in ("BROWSER", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    return lambda: log.read_text().splitlines() if log.exists() else []


@pytest.mark.parametrize("browser", [None, *TEXT, "w3m %s", "lynx -nopause %s &", "mien", "w3m:lynx", ":"])
def test_without_a_graphical_browser_the_address_is_said(browser, machine, monkeypatch, caplog):
    if browser is not None:
        monkeypatch.setenv("BROWSER", browser)
    with caplog.at_level(logging.INFO, "gpt_lightning"):
        play.show(ADDRESS)
    assert machine() == [] and f"ouvrez {ADDRESS}/" in caplog.text


@pytest.mark.parametrize(
    "browser", ["firefox", "browser.sh", "w3m:firefox", "nulle-part:firefox", "env firefox %s"]
)
def test_a_graphical_browser_gets_the_address(browser, machine, monkeypatch, caplog):
    monkeypatch.setenv("BROWSER", browser)
    with caplog.at_level(logging.INFO, "gpt_lightning"):
        play.show(ADDRESS)
    assert [line.split() for line in machine()] == [
        [browser.rpartition(":")[2].split()[-browser.count("%") - 1], ADDRESS]
    ]
    assert caplog.text == ""


@pytest.mark.slow
@pytest.mark.parametrize("browser", [None, "w3m", "env w3m %s", "sh -c 'lynx %s'"])
def test_in_a_terminal_play_keeps_it(browser, machine, monkeypatch, finished_run, cache):
    """Comme on la tape : le navigateur de terminal, même caché derrière une commande, n'a pas de terminal à prendre."""
    cwd, *_ = finished_run
    if browser is not None:
        monkeypatch.setenv("BROWSER", browser)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    child, screen = pty.fork()
    if child == 0:
        os.chdir(cwd)
        os.execv(sys.executable, [sys.executable, "-m", "gpt_lightning", "play"])
    said, hidden = "", browser is not None and " " in browser
    while "Ctrl-C" not in said or not (hidden or "dans le vôtre" in said):
        said += os.read(screen, 4096).decode(errors="replace")
    if hidden:
        until(machine)
    os.kill(child, signal.SIGINT)
    while True:
        try:
            said += os.read(screen, 4096).decode(errors="replace")
        except OSError:  # plus personne n'écrit
            break
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert re.search(r"La page : http://127\.0\.0\.1:\d+/", said) and not any(
        "tty" in line for line in machine()
    )
    assert bool(machine()) == hidden


LORA = ROOT / "tests" / "golden" / "before" / "lora" / "checkpoints" / "last.ckpt"
PLAIN = ROOT / "tests" / "golden" / "before" / "text" / "checkpoints" / "last.ckpt"


def models(**keys):
    return services.load_models({**compose("play"), "device": "cpu", "ckpt_path": str(LORA), **keys})


def test_play_shows_an_adapted_model_with_and_without_its_adapters():
    """Sans eux : les mêmes poids, la correction en moins. `serve`, qui ne la montre pas, ne la charge pas."""
    on, off = models()
    ids = torch.tensor([[1, 2, 3]])
    state = load_and_describe(str(LORA)).adapted
    silent = {name: tensor * (not name.endswith("lora_B")) for name, tensor in state.items()}
    expected = GPTModel(on.model.config)
    expected.load_state_dict(merge(silent, load_and_describe(str(LORA)).description.lora))
    with torch.inference_mode():
        torch.testing.assert_close(off.model(ids), expected(ids), atol=1e-5, rtol=1e-5)
        assert (on.model(ids) - off.model(ids)).abs().max() > 1e-3
    assert services.introduce([on, off], True) == {"names": ["A", "B"], "same": True, "adapter": True}
    (alone,) = services.load_models({**compose("serve"), "device": "cpu", "ckpt_path": str(LORA)})
    assert alone.bare is None


def test_play_compares_two_models_and_names_what_tells_them_apart():
    first, second = models(compare=str(PLAIN))
    said = services.introduce([first, second], True)
    assert said["names"] == ["lora", "text"] and not said["adapter"]
    assert services.introduce([first, second], False)["names"] == ["A", "B"]  # ailleurs, aucun chemin d'ici
    with pytest.raises(UserError, match="compare="):
        models(compare="nulle-part.ckpt")
