"""La page, dans un vrai Chromium : ce qu'elle montre est ce que le modèle dit, et rien ne la casse."""

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from gpt_lightning import tokenizers
from gpt_lightning.decoding import Strategy
from gpt_lightning.serving import playground
from tests.conftest import ROOT
from tests.serving.live import SOME, Live, tiny, until
from tests.serving.test_command import Served

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SETTINGS = [
    {},
    {"temperature": 0},
    {"temperature": 0.7},
    {"temperature": 1.5, "top_k": 7},
    {"temperature": 0.8, "top_p": 0.9},
    {"min_p": 0.03},
    {"typical_p": 0.6},
    {"repetition_penalty": 1.4, "temperature": 0.9},
    {"repetition_penalty": 1.2, "top_k": 40, "top_p": 0.95, "min_p": 0.01, "typical_p": 0.9},
]


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("chromium n'est pas installé (apt install chromium)")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        one = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield one
        one.close()


@pytest.fixture(scope="module")
def live():
    model = tiny(50_257)
    with Live(
        tokenizers.gpt2(), model=model, template="texte", prompt="Le chat", command="python generate.py"
    ) as one:
        yield one


@pytest.fixture(scope="module")
def served(finished_run, cache):
    with Served(finished_run[0], cache=cache) as one:
        yield one


class Seen:
    """Une page ouverte, et ce qu'elle a dit à la console."""

    def __init__(
        self, browser, address: str, *, allowed: str = "rien", named: bool = True, **options
    ) -> None:
        self.allowed = allowed  # ce dont la console peut se plaindre
        self.context = browser.new_context(
            **{"viewport": {"width": 1200, "height": 900}, "locale": "fr-FR", **options}
        )
        self.context.grant_permissions(["clipboard-read", "clipboard-write"])
        self.page, self.faults = self.context.new_page(), []
        self.page.set_default_timeout(30_000)
        self.page.on(
            "console", lambda one: self.faults.append(one.text) if one.type in ("error", "warning") else None
        )
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.goto(address)
        if named:  # sinon, il faut encore donner la clé
            self.page.locator("#model", has_text="gpt_lightning").wait_for()

    def __enter__(self):
        return self.page

    def __exit__(self, kind, *_):
        self.context.close()
        if kind is None:
            assert [one for one in self.faults if self.allowed not in one] == []


@pytest.fixture
def page(browser, live):
    with Seen(browser, live.url) as one:
        yield one


def written(page, text: str | None = None, **values: int) -> None:
    """Continue un texte, jusqu'au bout."""
    if text is not None:
        page.fill("#text", text)
    for name, value in values.items():
        page.fill(f"#{name}", str(value))
    page.click("#write")
    page.locator("#copy:not([disabled])").wait_for()


def calm(page) -> None:
    """Attend que la vue montre le texte tel qu'il est."""
    page.locator('#main[aria-busy="false"]').wait_for()


def tokens(page) -> list[str]:
    return page.locator("#written .token").all_text_contents()


def slide(page, **values: float) -> None:
    for name in ("repetition_penalty", "temperature", "top_k", "top_p", "min_p", "typical_p"):
        neutral = {
            "repetition_penalty": 1,
            "temperature": 1,
            "top_k": 0,
            "top_p": 1,
            "min_p": 0,
            "typical_p": 1,
        }[name]
        page.fill(f"#set-{name}", str(values.get(name, neutral)))


def test_it_opens_writes_and_its_sliders_say_what_python_says(page, live):
    """L'essai rapide : tout le chemin, une fois."""
    assert page.input_value("#text") == "Le chat"
    written(page, "Le chat dort. Le chat", length=8, seed=3)
    assert len(tokens(page)) == 8
    page.locator("#written .token").nth(2).click()
    assert page.locator("#candidates .candidate").count() in (10, 11)
    page.click("#tab-next")
    calm(page)
    page.locator("#bars .candidate").first.wait_for()
    how = {"temperature": 0.8, "top_p": 0.9}
    slide(page, **how)
    assert_bars(page, live, "Le chat dort. Le chat", how)


def assert_bars(page, live, text: str, how: dict) -> None:
    """Les barres sont, au millième de pour cent près, celles des filtres de Python."""
    ids = torch.tensor([live.tokenizer.encode(text)])
    logits = live.model.next_logits(ids)
    expected = Strategy(**how)(logits, ids)[0].softmax(-1)
    page.evaluate("() => new Promise(requestAnimationFrame)")  # après celle où la page redessine
    shown = page.evaluate(
        """() => [...document.querySelectorAll('#bars .candidate')].map(
            (one) => [Number(one.dataset.id), parseFloat(one.querySelector('.after').style.width)])"""
    )
    assert len(shown) == 20
    for index, width in shown:
        assert width / 100 == pytest.approx(float(expected[index]), abs=1e-5)
    best = expected.topk(min(20, int((expected > 0).sum()))).indices.tolist()
    assert [index for index, _ in shown][: len(best)] == best


@pytest.mark.slow
@pytest.mark.parametrize("how", SETTINGS, ids=str)
def test_the_filters_of_the_page_are_those_of_python(how, page, live):
    text = "Le chat dort. Le chat"
    ids = torch.tensor([live.tokenizer.encode(text)])
    logits = live.model.next_logits(ids)
    found = page.evaluate(
        """async ([logits, settings, ids]) => {
            const filters = await import('/page/filters.js');
            return [...filters.filtered(Float32Array.from(logits), {...filters.DEFAULTS, ...settings}, ids)];
        }""",
        [logits[0].tolist(), how, ids[0].tolist()],
    )
    expected = Strategy(**how)(logits, ids)[0].softmax(-1)
    torch.testing.assert_close(torch.tensor(found, dtype=torch.float32), expected, atol=1e-5, rtol=0)
    page.fill("#text", text)
    page.click("#tab-next")
    calm(page)
    page.locator("#bars .candidate").first.wait_for()
    slide(page, **how)
    assert_bars(page, live, text, how)
    if len(how) > 1:
        assert page.locator("#masses li").count() == len(how)


@pytest.mark.slow
def test_moving_a_slider_asks_the_server_for_nothing(page):
    page.click("#tab-next")
    calm(page)
    page.locator("#bars .candidate").first.wait_for()
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    for value in (0.3, 0.9, 1.4):
        page.fill("#set-temperature", str(value))
        page.wait_for_timeout(150)
    assert [one for one in asked if "/api/tokens" not in one] == []
    assert float(page.evaluate("document.querySelector('#bars').dataset.ms")) > 0


@pytest.mark.slow
def test_another_candidate_opens_a_branch_that_one_walks_back(page):
    written(page, "Il était", length=6, seed=1)
    first = tokens(page)
    page.locator("#written .token").nth(2).click()
    others = page.locator('#candidates .candidate[aria-pressed="false"]')
    chosen = int(others.nth(1).get_attribute("data-id"))
    others.nth(1).click()
    page.locator("#branches li").nth(1).wait_for()
    page.locator("#copy:not([disabled])").wait_for()
    second = tokens(page)
    assert second[:2] == first[:2] and second[2] != first[2] and len(second) == 3 + 6
    page.locator("#written .token").nth(2).click()
    assert f"id {chosen}" in page.locator("#candidates h3").text_content()
    page.click("#back")
    assert tokens(page) == first and page.locator("#back").is_disabled()
    page.locator("#branches button").nth(1).click()
    assert tokens(page) == second


@pytest.mark.slow
def test_four_strategies_from_one_click(page, live):
    page.fill("#text", "Le chat")
    page.click("#tab-next")
    page.click("#strategies")
    page.locator("#strategies:not([disabled])").wait_for()
    cards = page.locator("#compared .card")
    assert cards.count() == 4
    assert cards.locator("h3").all_text_contents() == ["greedy", "temperature 0.8", "top-k 40", "nucleus 0.9"]
    ids = torch.tensor([live.tokenizer.encode("Le chat")])
    greedy = live.tokenizer.decode([int(live.model.next_logits(ids).argmax())])
    assert cards.nth(0).locator(".said").text_content().startswith(greedy)
    assert all(len(one) > 5 for one in cards.locator(".said").all_text_contents())


@pytest.mark.slow
def test_a_score_is_the_server_s(page, live):
    text = "Déjà l'été, près de 3 h 🦄"
    page.fill("#text", text)
    page.click("#tab-score")
    calm(page)
    page.locator("#measured .token").first.wait_for()
    _, answer = live.ask("/api/score", {"text": text})
    seen = page.locator("#measured .token").all_text_contents()
    assert len(seen) == len(answer["tokens"])
    for shown, one in zip(seen, answer["tokens"], strict=True):
        if one["token"].startswith("bytes:"):
            assert shown == "".join(f"⟨{byte:02x}⟩" for byte in one["bytes"])
        else:
            assert shown.replace("␣", " ") == one["token"]
    page.locator("#measured .token").nth(3).click()
    bits = -answer["tokens"][3]["logprob"] / torch.tensor(2.0).log().item()
    assert f"{bits:.1f}".removesuffix(".0").replace(".", ",") in page.locator("#surprise h3").text_content()
    page.fill("#text", "a")
    calm(page)
    page.locator("#total", has_text="rien ne le précède").wait_for()


@pytest.mark.slow
def test_attention_is_the_model_s(page, live):
    page.fill("#text", "Le chat dort")
    page.click("#tab-attention")
    page.select_option("#layer", index=1)
    calm(page)
    page.locator("canvas").nth(3).wait_for()
    ids = torch.tensor([live.tokenizer.encode("Le chat dort")])
    weights = live.model.attention(ids, 1)[0]
    assert page.locator("canvas").count() == 4 and page.locator("#seen button").count() == ids.shape[1]
    said = page.locator("#heads .number").all_text_contents()
    for head, sentence in enumerate(said):
        best = float(weights[head, -1].max())
        assert f"{100 * best:.1f}".rstrip("0").rstrip(".").replace(".", ",") in sentence
    page.locator("#seen button").nth(0).click()
    assert all("100" in one for one in page.locator("#heads .number").all_text_contents())


@pytest.mark.slow
def test_a_conversation(page):
    page.click("#tab-chat")
    page.fill("#question", "Bonjour <b>toi</b>")
    page.keyboard.press("Enter")
    page.locator("#talk p").nth(1).wait_for()
    page.locator("#status", has_text=re.compile("^$")).wait_for()
    lines = [one.replace("\u00a0", " ") for one in page.locator("#talk p").all_text_contents()]
    assert lines[0] == "Vous : Bonjour <b>toi</b>" and len(lines[1]) > len("Le modèle : ")
    page.click("#forget")
    assert page.locator("#talk p").count() == 0


@pytest.mark.slow
def test_a_base_model_has_no_conversation(browser):
    with Live(tokenizers.ByteTokenizer()) as live, Seen(browser, live.url) as page:
        assert page.locator("#tab-chat").is_hidden()
        written(page, "é", length=40, seed=1)
        assert any(one.startswith("⟨") for one in tokens(page))  # des morceaux de caractère


@pytest.mark.slow
def test_a_link_opens_the_same_page_and_is_never_sent(browser, live):
    with Seen(browser, live.url) as page:
        page.fill("#text", "Le chat & l'été # 100 %")
        page.fill("#seed", "7")
        slide(page, temperature=0.5, top_k=12)
        page.click("#tab-next")
        page.click("#share")
        address = page.evaluate("navigator.clipboard.readText()")
    sent = []
    with Seen(browser, live.url) as page:
        page.on("request", lambda request: sent.append(request.url))
        page.goto(address)
        page.reload()
        page.locator("#model", has_text="gpt_lightning").wait_for()
        assert page.input_value("#text") == "Le chat & l'été # 100 %" and page.input_value("#seed") == "7"
        assert page.input_value("#set-temperature") == "0.5" and page.input_value("#set-top_k") == "12"
        assert page.input_value("#set-top_p") == "1" and page.locator("#next").is_visible()
    assert sent and not any(
        "C3%A9t" in one.partition("#")[0] or "seed" in one.partition("#")[0] for one in sent
    )


@pytest.mark.slow
def test_the_keyboard_is_enough(page):
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.locator("#tab-continue").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#next").is_visible() and page.evaluate("document.activeElement.id") == "tab-next"
    page.keyboard.press("Home")
    page.locator("#write").focus()
    page.fill("#length", "5")
    page.locator("#write").press("Enter")
    page.locator("#copy:not([disabled])").wait_for()
    page.locator("#written .token").first.focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#candidates h3").is_visible()
    page.keyboard.press("End")
    assert page.evaluate("document.activeElement === document.querySelector('#written').lastElementChild")
    other = page.locator('#candidates .candidate[aria-pressed="false"]').first
    other.focus()
    page.keyboard.press("Enter")
    page.locator("#branches li").nth(1).wait_for()
    page.locator("#set-temperature").focus()
    before = page.input_value("#set-temperature")
    page.keyboard.press("ArrowLeft")
    assert page.input_value("#set-temperature") != before
    page.locator("#copy:not([disabled])").wait_for()


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 360])
def test_it_is_readable_everywhere(scheme, width, browser, live):
    """Ni défilement de côté, ni faute d'accessibilité sérieuse (axe-core), dans chaque vue et chaque langue."""
    axe = pytest.importorskip("axe_playwright_python")
    rules = (Path(axe.__file__).parent / "axe.min.js").read_text()
    size = {"width": width, "height": 800}
    with Seen(browser, live.url, viewport=size, color_scheme=scheme) as page:
        assert page.evaluate("document.documentElement.dataset.theme") == scheme
        written(page, "Le chat " * 10, length=12)
        page.locator("#written .token").nth(1).click()
        for view in ("continue", "next", "score", "attention", "inside", "chat"):
            page.click(f"#tab-{view}")
            calm(page)
            if view == "score":
                page.click("#language")
            if view == "inside":  # la visite ouverte, une tête éteinte
                page.click("#tour-start")
                page.evaluate("location.hash = '#text=Le chat dort&view=inside&part=lens&tour=14'")
                page.locator("#tour-count", has_text="14").wait_for()
                calm(page)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, view
            page.evaluate(rules)
            found = page.evaluate("axe.run({resultTypes: ['violations']})")["violations"]
            serious = [
                (one["id"], [node["html"] for node in one["nodes"]])
                for one in found
                if one["impact"] in ("serious", "critical")
            ]
            assert serious == [], view
        assert page.evaluate("document.documentElement.lang") == "en"


HOSTILE = {
    "html": '<script>document.title="x"</script><img src=x onerror=document.title="x"><b>gras</b>',
    "liens": "javascript:alert(1) \" ' ` ${1} {{1}} </textarea><svg onload=alert(1)>",
    "émojis": "👩‍👩‍👧‍👦🏳️‍🌈🦄é́́́" * 3,
    "droite à gauche": "\u202eשלום עולם مرحبا\u202c fin",
    "blancs": " \n\t\u00a0\u200b\u2028 ",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_a_text_is_text_and_never_html(name, page):
    written(page, HOSTILE[name], length=6)
    assert page.locator("#written .mark").text_content() == HOSTILE[name]
    for view in ("next", "score", "attention", "inside"):
        page.click(f"#tab-{view}")
        calm(page)
    assert page.title() == "gpt_lightning"
    assert page.locator("main script, main img, main svg, main b >> text=gras").count() == 0


@pytest.mark.slow
def test_a_hundred_thousand_characters_get_a_sentence(browser, live):
    with Seen(browser, live.url, allowed="400 (Bad Request)") as page:
        _hundred_thousand(page)


def _hundred_thousand(page) -> None:
    page.fill("#text", "mot " * 25_000)
    for view in ("continue", "score"):
        page.click(f"#tab-{view}")
        page.locator("#status.fault").wait_for()
        assert re.search(r"\d+ jetons", page.locator("#status").text_content())
        calm(page)
    page.click("#tab-next")  # le modèle n'en lit que la fin
    calm(page)
    page.locator("#bars .candidate").first.wait_for()
    page.fill("#text", "Le chat")
    page.click("#tab-continue")
    written(page, length=3)
    assert len(tokens(page)) == 3


@pytest.mark.slow
def test_a_server_that_stops_is_a_sentence(browser):
    with Live(tokenizers.ByteTokenizer(), grace=0.2) as live:
        one = Seen(browser, live.url)
        page = one.page
        page.fill("#length", "100")
        page.fill("#text", "a")
        calm(page)  # ce qu'elle écrit d'elle-même
        live.gate.hold(after=SOME)
        page.click("#write")
        page.locator("#written .token").nth(5).wait_for()
        live.server.config.timeout_graceful_shutdown = None  # uvicorn ne coupe rien avant nous
        live.server.should_exit = True
        until(lambda: live.worker._closing is not None and time.monotonic() > live.worker._closing)
        live.gate.let(1)
        page.locator("#status.fault").wait_for()
        assert "arrête" in page.locator("#status").text_content()
        count = len(tokens(page))
        assert count > 5  # ce qui est écrit reste
    page.click("#write")
    page.locator("#status", has_text="ne répond plus").wait_for()
    assert len(tokens(page)) == count
    one.context.close()


@pytest.mark.slow
def test_a_text_that_is_stopped_stays(browser):
    with (
        Live(tokenizers.ByteTokenizer(), rows=1) as live,
        Seen(browser, live.url) as page,
    ):
        page.fill("#length", "100")
        page.fill("#text", "a")
        calm(page)
        live.gate.hold(after=SOME)
        page.click("#write")
        page.locator("#written .token").nth(5).wait_for()
        (job,) = live.worker.running
        page.click("#stop")
        page.locator("#copy:not([disabled])").wait_for()
        assert len(tokens(page)) > 5
        until(lambda: job.cancelled)
        live.gate.open()
        until(lambda: live.worker.batch.free == 1)


@pytest.mark.slow
def test_writing_again_at_once_shows_the_last(browser):
    with Live(tokenizers.ByteTokenizer(), model=tiny(257, 4096)) as live, Seen(browser, live.url) as page:
        page.fill("#length", "30")
        page.fill("#text", "a")
        page.evaluate("() => { for (let i = 0; i < 3; i++) document.querySelector('#write').click(); }")
        page.locator("#copy:not([disabled])").wait_for()
        assert len(tokens(page)) == 30


@pytest.mark.slow
def test_a_new_conversation_knows_nothing_of_the_old_one(browser):
    tokenizer = tokenizers.ByteTokenizer()
    with Live(tokenizer, model=tiny(257, 2048), template="texte") as live, Seen(browser, live.url) as page:
        asked = []
        page.on("request", lambda one: asked.append(json.loads(one.post_data)) if "chat" in one.url else None)
        page.click("#tab-chat")
        for question in ("Un ?", "Deux ?"):
            page.fill("#question", question)
            page.keyboard.press("Enter")
            page.locator("#talk p").nth(1).wait_for()
            page.wait_for_timeout(150)
            page.click("#forget")
        page.wait_for_timeout(300)
        assert [one["messages"] for one in asked] == [
            [{"role": "user", "content": text}] for text in ("Un ?", "Deux ?")
        ]


def chat_bodies(page) -> list[dict]:
    """Les demandes de conversation que cette page envoie, à mesure."""
    asked: list[dict] = []
    page.on("request", lambda one: asked.append(json.loads(one.post_data)) if "chat" in one.url else None)
    return asked


def ask_the_page(page, question: str) -> None:
    """Pose une question, et attend la fin de la réponse, ou son refus."""
    page.fill("#question", question)
    page.keyboard.press("Enter")
    page.locator("#status", has_text=re.compile("^(?!Le modèle écrit|.*présente)")).wait_for()


@pytest.mark.browser
def test_when_the_context_is_full_the_oldest_turns_are_forgotten_and_it_is_said(browser):
    """Chaque question reçoit sa réponse, et le modèle lit toujours les tours les plus récents."""
    with (
        Live(tokenizers.ByteTokenizer(), model=tiny(257, 256), template="texte") as live,
        Seen(browser, live.url, allowed="400 (Bad Request)") as page,
    ):
        asked = chat_bodies(page)
        page.click("#tab-chat")
        for rank in range(6):
            ask_the_page(page, f"Question {rank} ?")
            assert page.input_value("#question") == "" and page.locator("#talk p").count() == 2 * rank + 2
            last = asked[-1]["messages"]
            assert last[-1] == {"role": "user", "content": f"Question {rank} ?"} and last[0]["role"] == "user"
        assert "oubliés" in page.text_content("#status")
        assert 1 <= len(last) < 11


@pytest.mark.browser
def test_a_question_that_is_refused_stays_in_its_field_and_nothing_is_forgotten(browser):
    with (
        Live(tokenizers.ByteTokenizer(), model=tiny(257, 512), template="texte") as live,
        Seen(browser, live.url, allowed="400 (Bad Request)") as page,
    ):
        asked = chat_bodies(page)
        page.click("#tab-chat")
        ask_the_page(page, "Un ?")
        before = page.locator("#talk p").count()
        long = "x" * 600
        ask_the_page(page, long)
        assert page.input_value("#question") == long and page.locator("#talk p").count() == before
        assert "raccourcissez" in page.text_content("#status")
        ask_the_page(page, "Deux ?")
        assert [one["content"] for one in asked[-1]["messages"]][::2] in (["Un ?", "Deux ?"], ["Deux ?"])
        assert any(len(one["messages"]) == 3 and one["messages"][2]["content"] == "Deux ?" for one in asked)


@pytest.mark.slow
def test_skipping_to_the_content_keeps_the_text(page):
    page.fill("#text", "Mon texte")
    page.locator(".skip").focus()
    page.keyboard.press("Enter")
    assert page.url.endswith("#main") and page.input_value("#text") == "Mon texte"


@pytest.mark.slow
def test_a_key_is_asked_for_and_kept(browser):
    with Live(tokenizers.ByteTokenizer(), key="sk-1") as live:
        context = browser.new_context()
        page = context.new_page()
        page.goto(live.url)
        page.locator("#key").wait_for()
        page.fill("#key-value", "sk-1")
        page.keyboard.press("Enter")
        page.locator("#model", has_text="gpt_lightning").wait_for()
        written(page, "a", length=4)
        assert len(tokens(page)) == 4
        context.close()


@pytest.mark.slow
def test_two_languages(page):
    page.click("#language")
    assert page.locator("#write").text_content() == "Continue the text"
    page.reload()
    page.locator("#model", has_text="parameters").wait_for()
    page.click("#language")
    assert page.locator("#write").text_content() == "Continuer le texte"


def test_both_languages_say_everything():
    for name in ("words", "words_inside"):
        source = (playground.PAGE / f"{name}.js").read_text(encoding="utf-8")
        halves = source.split("\n  en: {")
        keys = [set(re.findall(r"(?:^|[{,] )\s*(\w+): [\"`]", half, flags=re.M)) for half in halves]
        assert keys[0] - {"fr"} == keys[1] and len(keys[1]) > 60
        blanks = [dict(re.findall(r"(\w+): \"((?:[^\"\\\\]|\\\\.)*)\"", half)) for half in halves]
        for key in keys[1]:  # une phrase garde, dans l'autre langue, tout ce que l'on y remplace
            said = [set(re.findall(r"\{(\w+)\}", half[key])) for half in blanks]
            assert said[0] == said[1], key


def test_the_page_holds_no_inline_script_nor_style_nor_address_of_elsewhere():
    for path in playground.PAGE.rglob("*.*"):
        text = path.read_text(encoding="utf-8")
        assert "innerHTML" not in text and "eval(" not in text and "document.write" not in text
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text), path.name
        if path.suffix == ".html":
            assert not re.search(r"<style| style=| on\w+=", text)


def test_the_page_is_served_with_its_policy(live):
    for path, kind in (
        ("/", "text/html"),
        ("/page/app.js", "text/javascript"),
        ("/page/style.css", "text/css"),
    ):
        status, content = live.ask(path, method="GET")
        assert status == 200 and live.headers["content-type"].startswith(kind)
        policy = live.headers["content-security-policy"]
        assert "script-src 'self'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
        assert live.headers["x-content-type-options"] == "nosniff"
        inside = re.findall(r"<script>(.*?)</script>", content)  # permis par leur empreinte, et eux seuls
        digests = [base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in inside]
        assert re.findall(r"'sha256-(.*?)'", policy) == digests and len(inside) == (path == "/")
    assert live.ask("/page/rien.js", method="GET")[0] == 404


@pytest.mark.slow
@pytest.mark.parametrize(
    "text, how",
    [
        ("Le chat", {}),
        ("Le chat dort", {"temperature": 0}),
        ("Le chat", {"temperature": 1.3, "top_k": 5, "repetition_penalty": 1.2}),
        ("'Le chat'", {"min_p": 0.02}),
        ('"Le chat"', {"typical_p": 0.9}),
        ("Le chat, l'été : 100 % $HOME `ls` \\n ${x} = 'oui'", {"top_p": 0.8}),
        ("1984", {}),
        ("", {}),
        ("Le chat\ndort", {}),
    ],
    ids=str,
)
def test_the_command_that_is_copied_writes_the_text_of_the_page(
    text, how, browser, served, finished_run, cache
):
    cwd, *_ = finished_run
    with Seen(browser, f"http://127.0.0.1:{served.port}/") as page:
        slide(page, **how)
        written(page, text, length=9, seed=5)
        shown = page.locator("#written").text_content()
        page.click("#copy")
        command = page.evaluate("navigator.clipboard.readText()")
        assert same_text(command, cwd, cache) == shown
        if text == "Le chat" and not how:  # et d'une branche
            page.locator("#written .token").nth(1).click()
            page.locator('#candidates .candidate[aria-pressed="false"]').first.click()
            page.locator("#branches li").nth(1).wait_for()
            page.locator("#copy:not([disabled])").wait_for()
            shown = page.locator("#written").text_content()
            page.click("#copy")
            assert same_text(page.evaluate("navigator.clipboard.readText()"), cwd, cache) == shown


def same_text(command: str, cwd, cache) -> str:
    """Ce que la commande écrit, tapée dans un shell."""
    command = command.replace("python generate.py", f"{sys.executable} {ROOT / 'generate.py'}", 1)
    env = {**os.environ, "XDG_CACHE_HOME": str(cache), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-c", command], cwd=cwd, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.removesuffix("\n")


def test_what_a_stream_of_the_page_says(live):
    """Les candidats, avant et après les filtres, sont ceux du modèle ; les textes des jetons font le texte."""
    how = {"temperature": 0.7, "top_p": 0.8}
    status, raw = live.ask("/api/continue", {"text": "Le chat dort", "max_tokens": 6, "seed": 2, **how})
    assert status == 200
    opened, *parts = [json.loads(line.removeprefix("data: ")) for line in raw.split("\n\n") if line]
    assert [one["text"] for one in opened["tokens"]] == ["Le", " chat", " d", "ort"] and opened["faithful"]
    ids = [one["id"] for one in opened["tokens"]]
    for part in parts:
        assert "".join(one["text"] for one in part["tokens"]) == part["text"]
        for one in part["tokens"]:
            logits = live.model.next_logits(torch.tensor([ids]))
            after = Strategy(**how)(logits)[0].softmax(-1)
            traces = logits[0].log_softmax(-1)
            assert [other["id"] for other in one["candidates"]] == traces.topk(10).indices.tolist()
            for other in one["candidates"]:
                assert other["filtered"] == pytest.approx(float(after[other["id"]]), abs=1e-4)
                assert other["logprob"] == pytest.approx(float(traces[other["id"]]), abs=1e-3)
            ids.append(one["id"])
    assert parts[-1]["finish_reason"] == "length" and len(ids) == 4 + 6
