"""TensorBoard sur une exécution finie : ce qu'une personne y verrait, lu par sa propre interface HTTP."""

import json
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request

import pytest

from tests.serving.live import until


@pytest.fixture(scope="module")
def board(finished_run):
    cwd, folder, _ = finished_run
    process = subprocess.Popen(
        [sys.executable, "-m", "tensorboard.main", "--logdir", "outputs", "--port", "0", "--load_fast=false"],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        address = None
        for line in process.stdout:
            if "http://" in line:
                address = line.split("http://")[1].split("/")[0].split()[0]
                break
        assert address, "TensorBoard n'a pas démarré"
        one = f"http://{address}", str(folder.relative_to(cwd / "outputs"))
        until(lambda: has_read_all(one))
        yield one
    finally:
        process.kill()


def get(board, path: str, **query):
    url = f"{board[0]}/data/{path}?{urllib.parse.urlencode(query)}"
    with urllib.request.urlopen(url, timeout=30) as answer:
        return json.load(answer)


def has_read_all(board) -> bool:
    """Vrai quand la dernière évaluation se lit ; une courbe qui n'est pas encore lue est une erreur 404."""
    try:
        points = get(board, "plugin/scalars/scalars", run=board[1], tag="val/loss")
    except urllib.error.HTTPError:
        return False
    return bool(points) and points[-1][1] == 12


def test_one_run(board):
    assert get(board, "runs") == [board[1]]


@pytest.mark.parametrize(
    "tag, steps",
    [
        ("train/loss", [2, 4, 6, 8, 10, 12]),
        ("val/loss", [5, 10, 12]),
        ("voir aussi/lr", [2, 4, 6, 8, 10, 12]),
        ("voir aussi/tokens_per_second", [2, 4, 6, 8, 10, 12]),
    ],
)
def test_scalars_at_optimiser_steps(board, tag, steps):
    points = get(board, "plugin/scalars/scalars", run=board[1], tag=tag)
    assert [step for _, step, _ in points] == steps
    assert all(value >= 0 for _, _, value in points)


def test_sample_texts(board):
    texts = get(board, "plugin/text/text", run=board[1], tag="sample/text_summary")
    assert [text["step"] for text in texts] == [5, 10, 12]
    assert texts[-1]["text"].strip()


def test_the_losses_come_first_and_share_a_chart(board):
    tags = get(board, "plugin/scalars/tags")[board[1]]
    groups = sorted({tag.partition("/")[0] for tag in tags}, key=str.lower)
    assert groups == ["train", "val", "voir aussi"]
    layout = get(board, "plugin/custom_scalars/layout")
    (chart,) = layout["category"][0]["chart"]
    assert {"train/loss$", "val/loss$"} <= set(chart["multiline"]["tag"])


def test_hyperparameters_come_with_the_final_loss(board):
    address, run = board
    statuses = ["STATUS_SUCCESS", "STATUS_UNKNOWN", "STATUS_RUNNING"]
    asked = {"allowedStatuses": statuses, "colParams": [], "startIndex": 0, "sliceSize": 9}
    request = urllib.request.Request(
        f"{address}/data/plugin/hparams/session_groups",
        data=json.dumps(asked).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        (group,) = json.load(answer)["sessionGroups"]
    assert group["hparams"]["model.n_layers"] == 2 and len(group["hparams"]) < 24
    assert {"model", "data", "optim.lr"} <= set(group["hparams"])  # les surcharges, et les plus parlants
    loss = get(board, "plugin/scalars/scalars", run=run, tag="val/loss")[-1][2]
    assert group["metricValues"][0]["value"] == pytest.approx(loss)


def test_what_the_is_typed_is_what_hparams_shows(board):
    address, _ = board
    request = urllib.request.Request(
        f"{address}/data/plugin/hparams/experiment", data=b"{}", headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        found = json.load(answer)
    shown = [column["name"] for column in found["hparamInfos"]][:5]
    assert {"model", "data"} <= set(shown)  # les surcharges de la commande
    assert [one["name"]["tag"] for one in found["metricInfos"]] == ["val/loss"]
