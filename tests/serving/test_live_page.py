"""La page vivante et « Dedans », dans un vrai Chromium : elle suit le texte, s'éteint, se visite, se compare."""

import re

import pytest

from gpt_lightning import tokenizers
from gpt_lightning.model import GPTConfig, GPTModel
from gpt_lightning.model.fast.inference import for_inference
from tests.serving.live import Live, tiny, until
from tests.serving.test_page import CHROMIUM, Seen, browser, calm

__all__ = ["CHROMIUM", "browser"]  # la fixture
pytestmark = pytest.mark.slow
VIEWS = {
    "continue": "#written .token",
    "next": "#bars .candidate",
    "score": "#measured .token",
    "attention": "#heads canvas",
    "inside": "#tower button",
}


@pytest.fixture(scope="module")
def live():
    with Live(tokenizers.ByteTokenizer(), model=tiny(257, 512), prompt="Le chat dort") as one:
        yield one


@pytest.fixture
def page(browser, live):
    with Seen(browser, live.url) as one:
        calm(one)
        yield one


def opened(page, view: str, part: str | None = None) -> None:
    page.click(f"#tab-{view}")
    calm(page)
    if part:
        page.click(f'[data-part="{part}"]')
        calm(page)


@pytest.mark.parametrize("view", VIEWS)
def test_every_tab_shows_something_at_once_and_follows_what_is_typed(view, page):
    page.click(f"#tab-{view}")
    page.locator(VIEWS[view]).first.wait_for()
    calm(page)
    before = page.locator(f"#{view}").inner_html()
    page.locator("#text").press_sequentially(" ici")
    calm(page)
    assert page.locator(VIEWS[view]).count() and page.locator(f"#{view}").inner_html() != before
    assert page.text_content("#status") == ""


def test_what_is_typed_too_soon_is_given_up_down_to_the_worker(browser):
    """Une seule demande vit à la fois : les autres sont annulées, en file comme en cours."""
    with (
        Live(tokenizers.ByteTokenizer(), model=tiny(257, 512), prompt="Le chat") as live,
        Seen(browser, live.url) as page,
    ):
        calm(page)
        live.gate.hold(after=2)
        for text in ("un", "deux", "trois"):
            page.fill("#text", text)
            until(lambda: live.worker.running or live.worker.waiting)
            page.wait_for_timeout(200)
        live.gate.open()
        calm(page)
        assert page.locator("#written .mark").text_content() == "trois"
        until(lambda: live.worker.batch.free == 8 and not live.worker.running)


@pytest.mark.parametrize("part", ["output", "neurons", "tokens"])
def test_a_piece_is_switched_off_and_on_again_before_and_after(part, page, live):
    opened(page, "inside", part)
    lit = page.locator("#inside-answer .candidate").all_text_contents()
    asked = []
    page.on(
        "request", lambda request: asked.append(request.post_data_json) if "inside" in request.url else None
    )
    page.locator("#part > button, #part .ids button").first.click()
    calm(page)
    rows = page.locator("#inside-answer .number").all_text_contents()
    assert all("→" in one for one in rows) and any(one.split(" → ")[0] != one.split(" → ")[1] for one in rows)
    (off,) = asked[-1]["ablate"]
    _, answer = live.ask("/api/inside", {key: value for key, value in asked[-1].items() if key != "page"})
    assert answer["ablate"] == [off]
    page.click("#relight")
    calm(page)
    assert page.locator("#inside-answer .candidate").all_text_contents() == lit


def test_each_step_opens_explained_with_its_formula_and_its_line(page):
    opened(page, "inside")
    parts = [one.get_attribute("data-part") for one in page.locator("#tower button").all()]
    assert len(parts) == 12
    for part in parts:
        page.click(f'[data-part="{part}"]')
        sentences = re.findall(r"[.!?]( |$)", page.text_content("#part .explained").replace("...", ""))
        assert len(sentences) == 2, part
        page.click("#part summary")
        assert "gpt_lightning/" in page.text_content("#part details")
    page.locator("#inside-tokens .token").nth(2).click()
    calm(page)
    assert page.locator('#inside-tokens [aria-current="true"]').text_content() == "␣"


def test_the_tour_is_walked_by_keys_and_each_stop_has_a_link(browser, live, page):
    opened(page, "inside")
    page.click("#tour-start")
    titles = []
    for stop in range(1, 16):
        page.locator("#tour-count", has_text=f"{stop} sur 15").wait_for()
        titles.append(page.text_content("#tour-title"))
        assert "{" not in page.text_content("#tour-text") and "undefined" not in page.text_content(
            "#tour-text"
        )
        if stop == 14:
            assert page.locator("#relight").is_enabled()
        if stop == 9:
            page.click("#share")
            address = page.evaluate("navigator.clipboard.readText()")
            page.locator("#tour-next").focus()
        page.keyboard.press("PageDown" if stop % 2 else "ArrowRight")
    assert len(set(titles)) == 15 and page.locator("#relight").is_disabled()
    page.keyboard.press("ArrowLeft")
    page.locator("#tour-count", has_text="14 sur 15").wait_for()
    page.keyboard.press("Escape")
    assert page.locator("#tour").is_hidden() and page.locator("#relight").is_disabled()
    with Seen(browser, address) as other:
        other.locator("#tour-count", has_text="9 sur 15").wait_for()
        assert other.text_content("#tour-title") == titles[8]
        other.click("#language")
        other.locator("#tour-count", has_text="9 of 15").wait_for()
        assert other.text_content("#tour-title") != titles[8]


def test_two_models_side_by_side_and_a_switch(browser):
    tokenizer, other = (
        tokenizers.ByteTokenizer(),
        {"names": ["petit", "grand"], "same": True, "adapter": False},
    )
    second = Live(tokenizer, model=tiny(257, 256), other=other)
    second.sock.close()
    with (
        Live(tokenizer, model=tiny(257, 512), second=second, other=other, prompt="Le chat") as live,
        Seen(browser, live.url) as page,
    ):
        opened(page, "compare")
        assert page.locator("#both h3").all_text_contents() == ["petit", "grand"]
        assert page.locator("#both-bars .candidate").count() > 1 and re.search(
            r"ont [\d,]+\s% en commun", page.text_content("#differ")
        )
        assert page.locator("#model").text_content().endswith("512 de contexte")
        page.click("#other")
        page.locator("#model", has_text="256 de contexte").wait_for()
        assert page.text_content("#other") == "Modèle\u00a0: grand"


def test_a_slider_asks_for_nothing_and_keeps_up_with_the_screen(page):
    """Des images dessinées pendant que le curseur bouge : chacune coûte moins que l'attente de la suivante."""
    opened(page, "next")
    for value in (0.3, 0.9, 1.4):
        page.fill("#set-temperature", str(value))
    page.wait_for_timeout(200)
    assert float(page.evaluate("document.querySelector('#bars').dataset.ms")) > 0


def test_back_goes_from_tab_to_tab_and_keeps_the_text(page):
    page.fill("#text", "un texte à moi")
    for view in ("score", "inside"):
        opened(page, view)
        assert f"#view={view}" in page.url
    for view in ("score", "continue"):
        page.go_back()
        page.locator(f"#{view}:not([hidden])").wait_for()
        assert page.locator('[role="tabpanel"]:not([hidden])').count() == 1
    page.go_forward()
    page.locator("#score:not([hidden])").wait_for()
    assert page.input_value("#text") == "un texte à moi"


@pytest.mark.parametrize("view", VIEWS)
def test_another_language_says_everything_again(view, page):
    opened(page, view)
    if view == "score":
        assert re.search(r"11 jetons mesurés sur 12.*Le plus surprenant", page.inner_text("#score"), re.S)
    page.click("#language")
    calm(page)
    said = page.locator(f"#{view}").inner_text()
    assert not re.search(r"\b(jetons?|sur|le|la|rang|tête|couche)\b", said.replace("Le chat dort", "")), said


def test_what_is_refused_leaves_nothing_of_the_text_before(browser, live):
    with Seen(browser, live.url, allowed="400 (Bad Request)") as page:
        calm(page)
        page.click("#write")
        page.locator("#copy:not([disabled])").wait_for()
        page.fill("#text", "mot " * 400)
        page.locator("#status.fault").wait_for()
        assert page.locator("#written").inner_text() == ""


@pytest.mark.parametrize(
    ("typed", "shown"), [("0", "1"), ("-3", "1"), ("5000", "1000"), ("2.6", "3"), ("", "40")]
)
def test_how_many_tokens_is_what_the_field_shows(typed, shown, page):
    page.fill("#length", typed)
    page.locator("#seed").focus()
    assert page.input_value("#length") == shown


@pytest.mark.parametrize("count", [0, 1, 2, 1000])
@pytest.mark.parametrize("language", ["fr", "en"])
def test_a_number_and_its_noun_agree(language, count, page):
    said = page.evaluate(
        """async ([language, count]) => {
          const words = await import("./page/words.js");
          words.speak(language);
          return [words.say("tokens_n", { n: words.number(count) }), words.percent(0.5)];
        }""",
        [language, count],
    )
    single = count == 1 or (count == 0 and language == "fr")
    assert said[0].endswith({"fr": "jeton", "en": "token"}[language] + "s" * (not single))
    assert said[1] == {"fr": "50\u00a0%", "en": "50%"}[language]


def test_a_model_shows_its_own_formulas(browser):
    """Places, norme, réseau : ceux de ce modèle, et rien de ceux de GPT-2."""
    config = {"norm": "rmsnorm", "activation": "swiglu", "positions": "rope"}
    sizes = {"vocab_size": 257, "context_length": 64, "emb_dim": 32, "n_heads": 4, "n_layers": 2}
    model = for_inference(GPTModel(GPTConfig(**sizes, **config)))
    with (
        Live(tokenizers.ByteTokenizer(), model=model, prompt="Le chat") as live,
        Seen(browser, live.url) as page,
    ):
        calm(page)
        opened(page, "inside")
        said = {}
        for part in [one.get_attribute("data-part") for one in page.locator("#tower button").all()]:
            page.click(f'[data-part="{part}"]')
            said[part] = page.text_content("#part details")
    assert "pos_emb" not in "".join(said.values()) and "gelu" not in "".join(said.values()).replace(
        "swiglu", ""
    )
    assert "cos" in said["position"] and "self.gate(x)" in said["neurons"]
    assert all("√(moyenne(x²)" in said[part] for part in ("neurons", "added", "lens", "answer"))


def test_a_space_at_the_end_is_said_where_words_carry_theirs(browser):
    for tokenizer, warned in ((tokenizers.gpt2(), True), (tokenizers.ByteTokenizer(), False)):
        with (
            Live(tokenizer, model=tiny(tokenizer.vocab_size), prompt="Le chat") as live,
            Seen(browser, live.url) as page,
        ):
            calm(page)
            assert page.locator("#space").is_hidden()
            page.fill("#text", "Le chat ")
            assert page.locator("#space").is_visible() == warned


def test_the_tour_starts_from_a_whole_model_and_shows_the_panel_by_its_top(browser, live):
    for width, height in ((1280, 800), (360, 740)):
        with Seen(browser, live.url, viewport={"width": width, "height": height}) as page:
            calm(page)
            opened(page, "inside", "output")
            page.locator("#part > button").first.click()
            calm(page)
            page.click("#tour-start")
            page.locator("#status", has_text="rallumé").wait_for()
            assert page.locator("#relight").is_disabled()
            for _ in range(5):
                page.click("#tour-next")
                calm(page)
                top = page.evaluate("document.querySelector('#part h2').getBoundingClientRect().top")
                banner = page.evaluate("document.querySelector('#tour').getBoundingClientRect().top")
                assert 0 <= top < banner - 60
            bottom = "document.querySelector('#part').getBoundingClientRect().bottom"
            page.evaluate("scrollTo(0, document.body.scrollHeight)")
            assert page.evaluate(bottom) <= banner
