"""Un modèle dans une page : ce qu'elle refuse, ce qu'elle contient, et qu'elle calcule ce que torch calcule."""

import base64
import json
import random
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

from gpt_lightning import tokenizers
from gpt_lightning.decoding import Strategy, generate
from gpt_lightning.decoding.logprobs import score_text
from gpt_lightning.errors import UserError
from gpt_lightning.model import GPTConfig, GPTModel
from gpt_lightning.serving import inside, one_file, playground
from gpt_lightning.serving.bundle import bundle
from gpt_lightning.serving.openai import fields
from gpt_lightning.serving.openai.request import ServedModel
from gpt_lightning.weights.format import Description
from tests.serving.test_page import HOSTILE, Seen, browser  # noqa: F401

QWEN = {"norm": "rmsnorm", "activation": "swiglu", "positions": "rope", "qk_norm": True, "norm_eps": 1e-6}
QWEN |= {"bias": False, "qkv_bias": False}
CORPUS = "Le chat dort sur le tapis rouge, et l'été revient : « bonjour », dit-il, œuf à l'Îlé 🦄. " * 3
TEXTS = [
    "Le",
    "Le chat",
    "dort",
    "Le chat dort sur",
    "tapis rouge,",
    "l'été",
    "« bonjour »",
    "dit-il",
    "œuf",
    "🦄",
]
TEXTS += [f"{text} revient" for text in TEXTS]
LEARNT = {
    "trained": lambda: tokenizers.TrainedTokenizer(300).fit([CORPUS]),
    "characters": lambda: tokenizers.CharacterTokenizer().fit([CORPUS]),
    "words_v1": lambda: tokenizers.SimpleTokenizerV1().fit([CORPUS, *TEXTS]),
    "words_v2": lambda: tokenizers.SimpleTokenizerV2().fit([CORPUS]),
    "gpt2": tokenizers.gpt2,
    "bytes": tokenizers.ByteTokenizer,
}
SHAPES = {
    "gpt2": {},
    "trained": QWEN | {"n_kv_heads": 2, "head_dim": 16},
    "characters": {"activation": "gelu", "tie_weights": False, "qkv_bias": False},
    "words_v1": QWEN | {"vocab_padding": 64, "rope_base": 5e5},
    "words_v2": {"bias": False, "norm": "rmsnorm", "n_kv_heads": 1},
    "bytes": QWEN | {"tie_weights": False, "norm": "layernorm", "bias": True},
}


def made(kind: str) -> tuple[GPTModel, Description]:
    """Un modèle dont les distributions ne sont pas plates, et son tokenizer."""
    torch.manual_seed(0)
    tokenizer = LEARNT[kind]()
    sizes = {"context_length": 160, "emb_dim": 32, "n_heads": 4, "n_layers": 2} | SHAPES[kind]
    model = GPTModel(GPTConfig(vocab_size=tokenizer.vocab_size, **sizes)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                parameter.mul_(3)
            elif "norm" not in name:
                parameter.normal_(0, 0.3)
        model.final_norm.scale.mul_(5)
    return model, Description(model.config, tokenizer, ("Le chat",), "un corpus, CC BY-SA 4.0")


def held(page: str) -> tuple[dict, dict[str, bytes]]:
    """L'en-tête d'une page, et ses blocs de poids."""
    blocks = dict(re.findall(r'<script type="[a-z/]+" id="([\w-]+)">(.*?)</script>', page, re.DOTALL))
    header = json.loads(blocks.pop("held"))
    return header, {name: base64.b64decode(text) for name, text in blocks.items()}


def rounded(model: GPTModel, page: str) -> GPTModel:
    """Le même modèle, avec les poids que la page contient, en float32."""
    header, blocks = held(page)
    state = model.state_dict()
    for entry in header["tensors"]:
        raw, count = blocks["weights"][entry["at"] :], entry["count"]
        if entry["kind"] == "int8":
            groups = count // entry["group"]
            scales = torch.frombuffer(bytearray(raw[: 4 * groups]), dtype=torch.float32)
            steps = torch.frombuffer(bytearray(raw[4 * groups : 4 * groups + count]), dtype=torch.int8)
            values = steps.float().reshape(groups, -1) * scales[:, None]
        else:
            kind = {"f16": torch.float16, "f32": torch.float32}[entry["kind"]]
            values = torch.frombuffer(bytearray(raw[: count * kind.itemsize]), dtype=kind).float()
        state[entry["name"]].copy_(values.reshape(state[entry["name"]].shape))
    return model


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda one: one._replace(tokenizer=None), "n'a pas de tokenizer"),
        (lambda one: one._replace(tokenizer=tokenizers.ChatTokenizer(one.tokenizer)), "Le tokenizer chatml ne va pas"),
        (lambda one: one._replace(labels=("a", "b")), "classe un texte"),
        (lambda one: one._replace(config=replace(one.config, emb_dim=2048, n_layers=24)), "de paramètres, et une page"),
    ],
)  # fmt: skip
def test_a_model_that_a_page_cannot_hold_is_refused_by_name(change, said, tmp_path):
    model, description = made("bytes")
    with pytest.raises(UserError, match=said):
        one_file.write(tmp_path / "x.html", model.state_dict(), change(description))
    assert not list(tmp_path.iterdir())


def test_the_place_and_the_weights_are_judged(tmp_path):
    model, description = made("bytes")
    (tmp_path / "la.html").write_text("à moi")
    for name, options, said in (
        ("x", {}, r"to=.*x\.html"),
        ("la.html", {}, "existe déjà"),
        ("x.html", {"quant": "q8_0"}, "int8, f16"),
    ):
        with pytest.raises(UserError, match=said):
            one_file.write(tmp_path / name, model.state_dict(), description, **options)
    for value, quant, said in ((float("nan"), "int8", "n'est pas un nombre"), (1e6, "f16", "quant=int8")):
        model.tok_emb.weight.data[3, 3] = value
        with pytest.raises(UserError, match=said):
            one_file.write(tmp_path / "x.html", model.state_dict(), description, quant=quant)
    assert [path.name for path in tmp_path.iterdir()] == ["la.html"]
    assert (tmp_path / "la.html").read_text() == "à moi"


def test_one_script_holds_every_module_once_and_names_no_other_site():
    script = bundle(playground.PAGE / "local" / "start.js", playground.PAGE / "app.js")
    modules = [*playground.PAGE.glob("*.js"), *playground.PAGE.glob("local/*.js")]
    named = re.findall(r"^const (\w+_\w+) = \(\(\) => \{$", script, re.MULTILINE)
    assert sorted(named) == sorted(f"{path.parent.name}_{path.stem}" for path in modules)
    text = one_file.page({}, {}, "x, CC BY-SA 4.0")
    addresses = set(re.findall(r"https?://[^\s\"'`)<]+", text))
    assert addresses <= {one_file.LICENCE, "http://www.w3.org/2000/svg"}
    assert "eval(" not in text and "new Function" not in text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('import { b } from "./b.js";\n', "n'exporte pas"),
        ('export const a = 1;\nimport("./b.js");\n', "ne se réunit pas"),
        ("export let a = 1;\n", "ne se réunit pas"),
        ('import { a } from "./a.js";\nexport const a = 1;\n', "s'importe lui-même"),
        ('const a = "</script>";\n', "fermerait sa balise"),
    ],
)
def test_a_module_that_would_not_join_is_seen(text, said, tmp_path):
    (tmp_path / "a.js").write_text(text)
    (tmp_path / "b.js").write_text("")
    with pytest.raises(AssertionError, match=said):
        bundle(tmp_path / "a.js")


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_corpus_adds_no_element(name):
    """Les éléments de la page sont les mêmes, quoi que disent les documents, le tokenizer et le crédit."""

    def elements(text: str, corpus: str) -> list[str]:
        model, description = made("bytes")
        tokenizer = tokenizers.CharacterTokenizer().fit([text + "abc"])
        described = description._replace(tokenizer=tokenizer, prompts=(text,))
        seen: list[str] = []
        parser = HTMLParser()
        parser.handle_starttag = lambda tag, attributes: seen.append(tag)
        parser.feed(one_file.page(one_file.describe(described, []), {}, corpus))
        return seen

    hostile = HOSTILE[name] + "</script><script>1</script><!--"
    assert elements(hostile, hostile) == elements("abc", "un corpus")


@pytest.fixture
def opened(browser, tmp_path):  # noqa: F811
    """Ouvre la page d'un modèle depuis le disque, sans réseau : la page, et le modèle aux poids arrondis."""
    seen = []

    def open_page(kind: str, quant: str = "int8", **options):
        model, description = made(kind)
        to = tmp_path / f"{kind}.html"
        one_file.write(to, model.state_dict(), description, quant=quant)
        seen.append(Seen(browser, to.as_uri(), offline=True, **options))
        return seen[-1].page, rounded(model, to.read_text(encoding="utf-8")), description.tokenizer

    yield open_page
    for one in seen:
        one.__exit__(None)


ASK = """async ([path, body]) => JSON.parse(JSON.stringify(await page_api.ask(path, body),
    (key, value) => value instanceof Float32Array ? Array.from(value) : value))"""
WRITE = """async (body) => {
    const parts = [];
    for await (const part of page_api.flow('api/continue', body)) parts.push(part);
    return parts;
}"""


@pytest.mark.slow
@pytest.mark.parametrize("quant", ["int8", "f16"])
@pytest.mark.parametrize("kind", SHAPES)
def test_the_page_computes_what_torch_computes(kind, quant, opened):
    page, model, tokenizer = opened(kind, quant)
    texts = [text for text in TEXTS if kind != "words_v2" or tokenizer.encode(text)]
    assert len(texts) == 20
    for text in texts:
        answer = page.evaluate(ASK, ["api/next", {"text": text}])
        ids = [one["id"] for one in answer["tokens"]]
        assert ids == tokenizer.encode(text)
        with torch.inference_mode():
            expected = model(torch.tensor([ids]))[0, -1]
        torch.testing.assert_close(torch.tensor(answer["logits"]), expected, atol=1e-4, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("kind", SHAPES)
def test_the_page_cuts_any_text_as_the_tokenizer_does(kind, opened):
    page, _, tokenizer = opened(kind)
    rng = random.Random(kind)
    pieces = [
        *"      ",
        "   ",
        "\n",
        "\t",
        "undefined",
        "def f():\n    return 1",
        "l'",
        *TEXTS,
        *"é.!a猫が😀\u00a0",
    ]
    for _ in range(300):
        text = "".join(rng.choice(pieces) for _ in range(rng.randrange(1, 12)))
        try:
            ids = list(tokenizer.encode(text))
        except UserError:  # un caractère ou un mot qu'il n'a pas
            continue
        if ids:
            assert [
                one["id"] for one in page.evaluate(ASK, ["api/tokens", {"text": text}])["tokens"]
            ] == ids, text


def test_a_page_draws_no_token_that_its_tokenizer_does_not_name():
    tokenizer = tokenizers.ByteTokenizer()
    config = GPTConfig(vocab_size=300, context_length=16, emb_dim=32, n_heads=4, n_layers=1)
    header = one_file.describe(Description(config, tokenizer), [])
    assert header["config"]["vocab_size"] == header["described"]["vocabulary"] == tokenizer.vocab_size


@pytest.mark.slow
@pytest.mark.parametrize(
    "values",
    [
        {},
        {"temperature": 0},
        {"temperature": 0.8, "top_p": 0.9},
        {"top_k": 20, "repetition_penalty": 1.3},
        {"min_p": 0.02, "typical_p": 0.8},
    ],
)
@pytest.mark.parametrize("kind", SHAPES)
def test_a_seed_gives_the_same_text(kind, values, opened):
    page, model, tokenizer = opened(kind)
    ids = tokenizer.encode("Le chat")
    for seed in (0, 7, 2**31):
        body = {"text": "Le chat", "seed": seed, "max_tokens": 100, **values}
        _, *parts = page.evaluate(WRITE, body)
        written = [one["id"] for part in parts for one in part["tokens"]]
        options = {
            "strategy": Strategy(**values),
            "max_new_tokens": 100,
            "seed": seed,
            "eos_id": tokenizer.eos_id,
        }
        expected = generate(model, [ids], **options)[0][len(ids) :]
        assert written == [one for one in expected if one != tokenizer.eos_id]
        shown = "".join(part["text"] for part in parts)
        assert tokenizer.decode(ids + written).endswith(shown)


def close(got, expected, path: str = "") -> None:
    """`got` est `expected`, à 1e-4 près ; un tableau en base64 s'y lit comme la liste de ses nombres."""
    if isinstance(expected, dict):
        assert set(got) == set(expected), path
        for key in expected:
            close(got[key], expected[key], f"{path}.{key}")
    elif isinstance(expected, str) and isinstance(got, list):
        values = torch.frombuffer(bytearray(base64.b64decode(expected)), dtype=torch.float32)
        assert torch.allclose(torch.tensor(got, dtype=torch.float32), values, atol=1e-4, rtol=1e-4), (
            path,
            got,
            values,
        )
    elif isinstance(expected, list):
        assert len(got) == len(expected), path
        for rank, (one, other) in enumerate(zip(got, expected, strict=True)):
            close(one, other, f"{path}[{rank}]")
    elif isinstance(expected, float):
        assert got == pytest.approx(expected, abs=1e-4), path
    elif path.endswith(".rank") and expected is not None:
        assert abs(got - expected) <= 3, path  # des logits presque égaux
    else:
        assert got == expected, path


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gpt2", "trained", "characters"])
def test_the_page_answers_like_the_server(kind, opened):
    """Les mêmes objets, champ par champ : ce que la page dessine ne dépend pas de qui lui répond."""
    page, model, tokenizer = opened(kind)
    config = model.config
    served = ServedModel("gpt_lightning", tokenizer, config.context_length, 8, None)
    shape = playground.Shape(config.n_layers, config.n_heads, config.vocab_size, 1)
    text = "Le chat dort sur le tapis rouge, et l'été revient"
    ids = playground.text_ids(served, text)
    close(page.evaluate(ASK, ["api/tokens", {"text": text}]), playground.tokens_of(served, ids))
    for many in (ids, ids * (1 + 400 // len(ids))):
        scores = playground.surprises(served, many, score_text(model, many, 5))
        close(page.evaluate(ASK, ["api/score", {"text": many, "candidates": 5}]), scores)
    weights = playground.attention_weights(model, ids, 1, torch.device("cpu"))
    weights |= playground.tokens_of(served, ids)
    close(page.evaluate(ASK, ["api/attention", {"text": text, "layer": 1}]), weights)
    for more in (
        {},
        {"layer": 0, "head": 1, "position": 2},
        {"ablate": [{"layer": 0, "head": 0}, {"position": 1}]},
        {"ablate": [{"layer": 0}], "layer": 0, "lens": 2},
        {"ablate": [{"layer": 1}, {"layer": 0, "head": 3}], "lens": 0},
    ):
        values = fields.read({"text": text, **more}, inside.request_fields(shape))
        steps = inside.begin(served, model, ids, values)
        seen = next(step for step in steps if step is not None)
        expected = inside.reply(served, ids, values, seen)
        close(page.evaluate(ASK, ["api/inside", {"text": text, **more}]), expected)


@pytest.mark.slow
def test_a_fault_is_a_sentence(opened):
    page, *_ = opened("characters")
    page.fill("#text", "∞")
    page.locator("#status.fault", has_text="« ∞ » n'est pas dans le vocabulaire").wait_for()
    page.fill("#text", "Le chat " * 40)
    page.locator("#status.fault", has_text="raccourcissez le texte").wait_for()
    page.fill("#text", "Le chat")
    page.locator("#status:not(.fault)").wait_for()


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1280, "light")])
def test_the_page_is_for_everyone(width, scheme, opened):
    axe = pytest.importorskip("axe_playwright_python")
    rules = (Path(axe.__file__).parent / "axe.min.js").read_text()
    page, *_ = opened("trained", viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.locator("#written .token").first.wait_for()
    for view in ("continue", "next", "score", "attention", "inside"):
        page.locator(f"#tab-{view}").focus()
        page.locator("#main[aria-busy=false]").wait_for()
        if view == "score":
            page.click("#language")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, view
        page.evaluate(rules)
        found = page.evaluate("axe.run({resultTypes: ['violations']})")["violations"]
        assert [one["id"] for one in found if one["impact"] in ("serious", "critical")] == [], view
    assert "trained on" in page.inner_text("footer")


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_corpus_is_inert(name, browser, tmp_path):  # noqa: F811
    text = HOSTILE[name] + "</script><script>document.title='x'</script>"
    model, description = made("bytes")
    described = description._replace(prompts=(text[:60],), corpus=text)
    one_file.write(tmp_path / "x.html", model.state_dict(), described)
    with Seen(browser, (tmp_path / "x.html").as_uri(), offline=True) as page:
        page.locator("#main[aria-busy=false]").wait_for()
        assert page.title() == "gpt_lightning"
        assert page.locator("footer bdi *").count() == 0


@pytest.mark.slow
def test_the_film_is_in_the_page(browser, tmp_path):  # noqa: F811
    model, description = made("bytes")
    early = {name: tensor * 0.5 for name, tensor in model.state_dict().items()}
    to = tmp_path / "x.html"
    one_file.write(to, model.state_dict(), description, film=[(0, early), (9, model.state_dict())])
    with Seen(browser, to.as_uri(), offline=True) as page:
        page.locator("#film").wait_for()
        first, last, now = (
            page.evaluate(ASK, [f"{where}api/next", {"text": "Le"}])["logits"]
            for where in ("film/0/", "film/9/", "")
        )
        assert last == now != first
        page.locator("#step").focus()
        page.keyboard.press("Home")
        page.locator("#step-name", has_text="au pas 0").wait_for()
        page.locator("#main[aria-busy=false]").wait_for()
