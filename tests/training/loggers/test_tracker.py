"""Un service qui tombe n'arrête rien ; celui qui refuse de commencer le dit ; une exécution garde son numéro."""

import logging

import pytest

from gpt_lightning.errors import UserError
from gpt_lightning.training.loggers.tracker import Tracker


class Service(Tracker):
    """Un service en mémoire, qui tombe quand `broken` le dit."""

    library = "json"
    broken = ""

    def _begin(self, identity, settings, resumes):
        self._check("begin")
        self.opened = (identity, settings, resumes)
        self.said = []

    def _log(self, metrics, step):
        self._check("log")
        self.said.append((step, metrics))

    def _text(self, tag, text, step):
        self._check("text")
        self.said.append((step, text))

    def _finish(self, done):
        self._check("finish")
        self.said.append(done)

    def _check(self, what):
        if what == self.broken:
            raise ConnectionError("plus de réseau")


@pytest.fixture
def service(tmp_path):
    (tmp_path / ".hydra").mkdir()
    return Service(folder=str(tmp_path), name="", project="p")


def use(service):
    service.log_metrics({"a": 1.0}, 2)
    service.log_text("sample", "un texte", 2)
    service.log_hyperparams({"x": 1}, {"val/loss": 3.0})
    service.finalize("success")


def test_it_is_told_everything(service):
    service.begin({"seed": 1})
    use(service)
    assert service.said == [(2, {"a": 1.0}), (2, "un texte"), (2, {"final/val/loss": 3.0}), True]


def test_nothing_is_sent_before_it_is_open(service):
    use(service)
    assert not hasattr(service, "said")


@pytest.mark.parametrize("what", ["log", "text", "finish"])
def test_one_that_falls_stops_nothing_and_it_is_said_once(service, what, caplog):
    service.begin({})
    service.broken = what
    with caplog.at_level(logging.WARNING, "gpt_lightning"):
        use(service)
        use(service)
    assert [r.getMessage().count("continue sans lui") for r in caplog.records] == [1]


def test_one_that_refuses_to_begin_says_so_and_leaves_no_number(service, tmp_path):
    service.broken = "begin"
    with pytest.raises(UserError, match="ne peut pas commencer : plus de réseau"):
        service.begin({})
    assert list((tmp_path / ".hydra").iterdir()) == []


def test_a_folder_keeps_its_number(service, tmp_path):
    service.begin({})
    again = Service(folder=str(tmp_path), name="", project="p")
    again.begin({})
    assert again.opened[0] == service.opened[0] and (service.opened[2], again.opened[2]) == (False, True)
