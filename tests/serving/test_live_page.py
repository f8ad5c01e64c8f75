"""La page vivante et « Dedans », dans un vrai Chromium : elle suit le texte, s'éteint, se visite, se compare."""

import re

import pytest

from gpt_lightning import tokenizers
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
            r"ont [\d,]+ % en commun", page.text_content("#differ")
        )
        assert page.locator("#model").text_content().endswith("512 de contexte")
        page.click("#other")
        page.locator("#model", has_text="256 de contexte").wait_for()
        assert page.text_content("#other") == "Modèle : grand"


def test_a_slider_asks_for_nothing_and_keeps_up_with_the_screen(page):
    """Des images dessinées pendant que le curseur bouge : chacune coûte moins que l'attente de la suivante."""
    opened(page, "next")
    for value in (0.3, 0.9, 1.4):
        page.fill("#set-temperature", str(value))
    page.wait_for_timeout(200)
    assert float(page.evaluate("document.querySelector('#bars').dataset.ms")) > 0
