"""`evaluate tasks=` telle qu'on la tape : ses refus, son fichier, ses courbes."""

import json
import shutil

import pytest

pytest.importorskip("lm_eval", reason="make test-evals : lm-eval a son environnement")
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.conftest import ROOT, sentences

KEYS = {"results", "group_subtasks", "configs", "versions", "n-shot", "higher_is_better", "n-samples"}
EVALUATE = ("gpt_lightning", "evaluate")


def test_the_measures_are_written_under_the_names_of_the_harness(command, finished_run, tmp_path):
    """Le fichier a les clés de lm-eval ; les courbes sont au pas du checkpoint, qu'il soit le dernier ou non."""
    cwd, folder, _ = finished_run
    run = shutil.copytree(folder, tmp_path / "execution")
    seen = {}
    for name, step in (("last.ckpt", 12), ("step_0000008.ckpt", 8)):
        typed = f"ckpt_path={run / 'checkpoints' / name}"
        done = command(*EVALUATE, typed, "tasks=[h_aspire,mot_suivant]", "limit=6", cwd=cwd)
        assert done.returncode == 0, done.stderr
        (path,) = {*run.glob("evaluations/*.json")} - {*seen}
        seen[path] = step
        results = json.loads(path.read_text(encoding="utf-8"))
        assert results.keys() >= KEYS and "text" not in json.dumps(
            results["configs"]["mot_suivant"]["metadata"]
        )
        assert results["results"]["h_aspire"].keys() >= {"acc,none", "acc_stderr,none"}
        assert results["n-samples"]["mot_suivant"]["effective"] == 6 and results["n-shot"]["h_aspire"] == 0
        assert results["lm_eval_version"] and str(ROOT) not in path.read_text(encoding="utf-8")
        assert f"{results['results']['h_aspire']['acc,none']:.4f}".replace(".", ",") in done.stdout
        assert "(6)" in done.stdout and path.name in done.stdout
        assert "bootstrapping" not in done.stdout + done.stderr and "fatal" not in done.stderr
    board = EventAccumulator(str(run)).Reload()
    for tag in ("evaluations/h_aspire/acc", "evaluations/mot_suivant/perplexity"):
        assert sorted(event.step for event in board.Scalars(tag)) == [8, 12]


REFUSED = [
    (("tasks=[glose_mots]",), "glose_mot"),
    (("tasks=[h_aspire,inconnue]",), "inconnue"),
    (("tasks=[h_aspire]", "limit=0"), "limit=0"),
    (("tasks=[h_aspire]", "num_fewshot=-1"), "num_fewshot=-1"),
    (("tasks=[h_aspire]", "split=train"), "mot_suivant"),
    (("limit=3",), "tasks="),
    (("tasks=[h_aspire]", f"ckpt_path={ROOT}/tests/golden/before/classify"), "classer"),
    (("tasks=[hellaswag]", "limit=1"), "HF_HUB_OFFLINE"),
]


@pytest.mark.parametrize("typed, named", REFUSED)
def test_what_cannot_be_measured_is_refused_in_one_sentence(command, finished_run, typed, named):
    cwd, folder, _ = finished_run
    offline = {"HF_HUB_OFFLINE": "1"} if "hellaswag" in typed[0] else {}
    done = command(*EVALUATE, *typed, cwd=cwd, **offline)
    said = sentences(done.stdout + done.stderr)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert len(said) == 1 and named in said[0], said
    assert not (folder / "evaluations").exists()
