"""Ce que l'on demande au harnais se juge sans lui, avant que rien ne soit lu."""

import importlib.util

import pytest

from gpt_lightning.cli.composition import compose
from gpt_lightning.cli.targets import build
from gpt_lightning.commands.evaluate import evaluate
from gpt_lightning.errors import UserError
from gpt_lightning.harness import request

TYPED = [
    ("tasks=[]", "tasks="),
    ("tasks=[3]", "tasks="),
    ("tasks=''", "tasks="),
    ("limit=0", "limit"),
    ("limit=beaucoup", "limit"),
    ("limit=true", "limit"),
    ("num_fewshot=-1", "num_fewshot"),
    ("num_fewshot=null", "num_fewshot"),
    ("num_fewshot=1.5", "num_fewshot"),
]


@pytest.mark.parametrize("typed, named", TYPED)
def test_a_setting_that_means_nothing_is_refused_by_its_name(typed, named):
    """Par la commande, et par le callback : la même phrase, qui dit où le réglage se change."""
    with pytest.raises(UserError, match=rf"^{named}"):
        evaluate(compose("evaluate", "tasks=[h_aspire]", typed))
    settings = compose("train", "callbacks=tasks", f"callbacks.tasks.{typed}")
    with pytest.raises(UserError, match=rf"^callbacks\.tasks\.{named}"):
        build("callbacks", settings["callbacks"]["tasks"])


def test_without_the_library_one_sentence_says_how_to_have_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="evals"):
        evaluate(compose("evaluate", "tasks=[h_aspire]"))
    with pytest.raises(UserError, match=r"^callbacks\.tasks\.tasks= demande lm-eval"):
        settings = compose("train", "callbacks=tasks")
        build("callbacks", settings["callbacks"]["tasks"])


def test_names_are_read_as_they_are_typed(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    assert request.read("a, b,a", None, 0) == request.read(["a", "b"], 5, 2) == ["a", "b"]


def test_a_task_that_reads_a_text_refuses_another_corpus():
    assert request.text_of(["h_aspire"], None) == ""
    with pytest.raises(UserError, match="mot_suivant lit un texte"):
        request.text_of(["mot_suivant"], object())
