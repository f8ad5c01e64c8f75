"""« Dedans », par sa route : ce qu'elle répond, ce qu'elle refuse, et qu'elle ne dérange personne."""

import base64
import contextlib
import gzip
import http.client
import json
import re
import threading

import pytest
import torch

from gpt_lightning import tokenizers
from gpt_lightning.model.inside import Ablation, Place, inside
from gpt_lightning.serving import playground
from tests.conftest import ROOT
from tests.serving.live import SOME, Live, tiny, until

TEXT = "Le chat dort."


@pytest.fixture(scope="module")
def live():
    with Live(tokenizers.ByteTokenizer(), model=tiny(257, 512)) as one:
        yield one


def floats(raw: str, *shape: int) -> torch.Tensor:
    return torch.frombuffer(bytearray(base64.b64decode(raw)), dtype=torch.float32).view(shape)


def seen(live, **body):
    status, answer = live.ask("/api/inside", {"text": TEXT, **body})
    assert status == 200, answer
    return answer


def test_the_answer_is_what_the_model_computes(live):
    off = [{"layer": 0, "head": 3}, {"position": 2}]
    answer = seen(live, layer=1, head=2, position=9, ablate=off, lens=4)
    ids = live.tokenizer.encode(TEXT)
    *_, expected = inside(live.model, ids, Place(1, 2, 9), [Ablation(**one) for one in off], lens=4)
    assert [one["id"] for one in answer["tokens"]] == ids and answer["ablate"] == off
    length, layers, heads, width = (answer[name] for name in ("length", "layers", "heads", "width"))
    assert (length, layers, heads, width, answer["head_width"], answer["hidden"]) == (13, 2, 4, 32, 8, 128)
    attention = answer["attention"]
    pairs = {
        "added": (answer["added"], (layers, 2, length), expected.added),
        "flux": (answer["stream"]["vectors"], (layers + 1, answer["stream"]["shown"]), expected.vectors),
        "longueurs": (answer["stream"]["lengths"], (layers + 1, length), expected.lengths),
        "lentille": (answer["lens"]["probabilities"], (layers + 1, 13, 4), expected.lens.probabilities),
        "neurones": (answer["neurons"]["values"], (length, 10), expected.neurons.values),
        **{
            name: (attention[name], tuple(tensor.shape), tensor)
            for name, tensor in expected.head._asdict().items()
        },
    }
    for name, (raw, shape, tensor) in pairs.items():
        torch.testing.assert_close(floats(raw, *shape), tensor, msg=name)
    before, after = (logits.log_softmax(-1) for logits in (expected.plain, expected.logits))
    for one in answer["candidates"]:
        assert one["logprob"] == pytest.approx(float(after[one["id"]]), abs=1e-5)
        assert one["plain"] == pytest.approx(float(before[one["id"]]), abs=1e-5)
    assert {one["id"] for one in answer["lens"]["names"]} == set(expected.lens.ids.flatten().tolist())


@pytest.mark.parametrize(
    "body, param",
    [
        ({"layer": 2}, "layer"),
        ({"head": 4}, "head"),
        ({"position": 13}, "position"),
        ({"lens": 11}, "lens"),
        ({"ablate": {}}, "ablate"),
        ({"ablate": [{}]}, "ablate"),
        ({"ablate": [{"neuron": 3}]}, "ablate"),
        ({"ablate": [{"layer": 2}]}, "ablate"),
        ({"ablate": [{"head": 1}]}, "ablate"),
        ({"ablate": [{"position": 13}]}, "ablate"),
        ({"ablate": [{"layer": 0, "position": 1}]}, "ablate"),
        ({"ablate": [{"layer": "0"}]}, "ablate"),
        ({"ablate": [{"layer": 0}] * 65}, "ablate"),
        ({"text": 3}, "text"),
        ({"page": 3}, "page"),
        ({"couche": 1}, "couche"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused_by_name(body, param, live):
    status, answer = live.ask("/api/inside", {"text": TEXT, **body})
    assert status == 400 and answer["error"]["param"] == param, answer


def test_a_long_text_is_read_by_its_end_and_the_answer_stays_small(live):
    answer = seen(live, text="le chat " * 60, lens=10)
    assert (answer["length"], answer["unread"], answer["position"]) == (256, 224, 255)
    assert len(json.dumps(answer)) < 2_000_000


def test_the_widest_answer_is_under_two_megabytes():
    """Un grand modèle à 256 jetons : ce qui grandit avec T² (deux cartes), T D (deux listes) et L (flux, lentille)."""
    length, width, layers, heads = 256, 128, 48, 64
    numbers = 2 * length**2 + 2 * length * width + layers * (128 + 3 * length + 16 * 10) + heads * length
    assert numbers * 4 * 4 / 3 < 1_800_000


def test_a_newer_request_of_the_same_page_replaces_the_older(live):
    """L'ancienne s'arrête entre deux étapes ; celles d'une autre page, ou sans page, aboutissent."""
    turns, answers = live.service._turns, {}
    first = threading.Event()
    step, count = turns.take, []

    async def take(page, work):
        async def slow():
            count.append(page)
            if page == "lente" and len(count) == 1:
                first.set()
                turns._asked["lente"] = object()  # la demande suivante est arrivée
            return await work()

        return await step(page, slow)

    turns.take = take
    try:
        answers["lente"] = live.ask("/api/inside", {"text": TEXT, "page": "lente"})
        answers["autre"] = live.ask("/api/inside", {"text": TEXT, "page": "autre"})
        answers["sans"] = live.ask("/api/inside", {"text": TEXT})
    finally:
        turns.take = step
    assert [status for status, _ in answers.values()] == [409, 200, 200] and first.is_set()
    assert count.count("lente") == 1 and answers["lente"][1]["error"]["code"] == "replaced"


def test_a_text_that_is_being_written_is_not_disturbed():
    """Le même texte, que l'on regarde dedans ou non pendant qu'il s'écrit, ablations comprises."""
    body = {"prompt": "Le chat", "max_tokens": 60, "seed": 3, "temperature": 0.9}
    with Live(tokenizers.ByteTokenizer(), model=tiny(257, 512)) as live:
        alone = live.completed(**body)["text"]
        live.gate.hold(after=2)
        told: list[str] = []
        writer = threading.Thread(target=lambda: told.append(live.completed(**body, n=1)["text"]))
        writer.start()
        until(lambda: live.worker.running)
        for off in ([], [{"layer": 0}], [{"layer": 1, "head": 0}], [{"position": 1}]):
            live.gate.let(SOME)
            seen(live, ablate=off)
        live.gate.open()
        writer.join(60)
        assert told == [alone]


def test_two_models_answer_on_one_page():
    tokenizer = tokenizers.ByteTokenizer()
    other = {"names": ["A", "B"], "same": True, "adapter": False}
    second = Live(tokenizer, model=tiny(257, 64), other=other)
    second.sock.close()
    with Live(tokenizer, model=tiny(257, 512), second=second, other=other) as live:
        first, twin = (live.ask(f"{path}/api/model", method="GET")[1] for path in ("", "/other"))
        assert (first["context"], twin["context"]) == (512, 64) and first["other"] == twin["other"] == other
        assert live.ask("/other/api/inside", {"text": TEXT})[0] == 200
        assert live.ask("/other/api/next", {"text": TEXT, "candidates": 1})[1]["candidates"]
        assert (
            live.ask("/other/api/next", {"text": TEXT}, headers={"Origin": "http://evil.example"})[0] == 403
        )
        assert live.ask("/other/metrics", method="GET")[0] == 404


def test_every_step_shows_a_line_that_is_in_the_code():
    source = (playground.PAGE / "parts.js").read_text(encoding="utf-8")
    files = dict(re.findall(r'^const (\w+) = "(gpt_lightning/.*?)";', source, re.MULTILINE))
    lines = re.findall(
        r"^  \w+: \[\"[^\n]*?\", (\w+|\"gpt_lightning/[^\"]*\"), (\"[^\"]*\"|'[^']*'),$", source, re.MULTILINE
    )
    assert len(lines) == 12
    for file, line in lines:
        path = files.get(file, file.strip('"'))
        assert line[1:-1] in (ROOT / path).read_text(encoding="utf-8"), line


def test_the_first_load_is_small(live):
    """Ce qui arrive au navigateur : tous les fichiers de la page, et ce sont bien eux."""
    size = 0
    for name, content, _ in playground.page_files():
        path = "/" if name == "index.html" else f"/page/{name}"
        connection = http.client.HTTPConnection("127.0.0.1", live.port, timeout=60)
        with contextlib.closing(connection):
            connection.request("GET", path, headers={"Accept-Encoding": "gzip, br"})
            raw = connection.getresponse().read()
        assert gzip.decompress(raw) == content
        size += 0 if name.endswith(".md") else len(raw)  # la page du décodage ne s'ouvre que d'un clic
    assert size < 60_000, f"{size} octets"
