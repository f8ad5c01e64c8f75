"""La page dans ce qui l'entoure : le préfixe d'un proxy, un navigateur qui refuse ce qu'il peut refuser."""

import re

import pytest

from gpt_lightning import tokenizers
from gpt_lightning.serving import playground
from tests.serving.live import Live, tiny
from tests.serving.proxy import PREFIX, Proxy
from tests.serving.test_page import CHROMIUM, Seen, ask_the_page, browser, calm, tokens, written

__all__ = ["browser"]  # la fixture
slow = pytest.mark.slow


@pytest.fixture(scope="module")
def live():
    with Live(tokenizers.ByteTokenizer(), model=tiny(257), template="texte", prompt="Le chat") as one:
        yield one


def walk(page) -> None:
    """Tout ce que la page demande au serveur, une fois."""
    written(page, "Le chat", length=4)
    assert len(tokens(page)) == 4
    page.locator("#written .token").first.click()
    page.locator('#candidates .candidate[aria-pressed="false"]').first.click()
    page.locator("#branches li").nth(1).wait_for()
    page.locator("#copy:not([disabled])").wait_for()
    for view, shown in (
        ("next", "#bars .candidate"),
        ("score", "#measured .token"),
        ("attention", "#heads .card"),
        ("inside", "#tower button"),
    ):
        page.click(f"#tab-{view}")
        page.locator(shown).first.wait_for()
    page.click("#tab-chat")
    ask_the_page(page, "Oui ?")
    assert page.text_content("#talk p:last-child").removeprefix("Le modèle : ")
    page.click("#share")
    page.locator("#status", has_text=re.compile("Copié|ne laisse pas copier")).wait_for()


@pytest.mark.browser
@pytest.mark.parametrize(
    "path, how",
    [
        ("/", {"keeps_host": False}),  # nginx : location /gpt/ { proxy_pass http://127.0.0.1:8000/; }
        pytest.param("/", {}, marks=slow),  # JupyterHub, code-server
        pytest.param("", {}, marks=slow),
        pytest.param("", {"redirects": False}, marks=slow),  # Traefik, Caddy : rien ne remet la barre finale
        pytest.param(
            "", {"redirects": False, "doubled": True}, marks=slow
        ),  # location /gpt { proxy_pass .../; }
        pytest.param("#text=Bonjour&view=score", {"redirects": False}, marks=slow),
    ],
    ids=str,
)
def test_under_a_prefix_all_that_the_page_asks_is_under_it(path, how, browser, live):
    with Proxy(live.port, **how) as proxy:
        # Chromium devine d'abord des adresses sans connaître celle que la page se donne
        guessed = (
            [] if path == "/" or proxy.redirects else ["/page/app.js", "/page/style.css", "/page/icon.svg"]
        )
        with Seen(browser, proxy.url + path, allowed="404" if guessed else "rien") as page:
            assert page.locator("#text").input_value() == ("Bonjour" if "Bonjour" in path else "Le chat")
            page.click("#tab-continue")
            walk(page)
            address = page.url
        assert address.startswith(f"{proxy.url}/#text=") and set(proxy.outside) <= set(guessed)
        with Seen(browser, address) as page:  # le lien copié
            assert page.locator("#chat").is_visible()


def test_no_address_of_the_page_starts_at_the_root_of_the_site():
    for path in playground.PAGE.rglob("*.*"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(
            r"""(href|src|action)=["']/|url\(/|["'`]/(api|v1|page|health|metrics)\b""", text
        ), path.name


def refusing(name: str, on: str = "window") -> str:
    """Un navigateur qui refuse de donner cette chose."""
    return f"""Object.defineProperty({on}, {name!r}, {{
        configurable: true, get() {{ throw new DOMException("refusé", "SecurityError"); }} }});"""


def failing(name: str, on: str) -> str:
    """Un navigateur où appeler cette chose est une faute."""
    return f"""{on}.{name} = () => {{ throw new DOMException("refusé", "QuotaExceededError"); }};"""


REFUSALS = {
    "localStorage": refusing("localStorage"),
    "sessionStorage": refusing("sessionStorage"),
    "stockage absent": """for (const name of ["localStorage", "sessionStorage"])
        Object.defineProperty(window, name, { value: null });""",
    "stockage plein": failing("setItem", "Storage.prototype"),
    "presse-papiers": failing("writeText", "Clipboard.prototype"),
    "presse-papiers absent": "Object.defineProperty(navigator, 'clipboard', { value: undefined });",
    "thème": failing("matchMedia", "window"),
    "thème absent": "Object.defineProperty(window, 'matchMedia', { value: undefined });",
    "historique": failing("replaceState", "History.prototype"),
    "dessin": "HTMLCanvasElement.prototype.getContext = () => null;",
    "cookies": refusing("cookie", "Document.prototype"),
    "indexedDB": refusing("indexedDB"),
    "caches": refusing("caches"),
    "notifications": refusing("Notification"),
    "permissions": refusing("permissions", "Navigator.prototype"),
    "service worker": refusing("serviceWorker", "Navigator.prototype"),
}
ALL = "\n".join(script for name, script in REFUSALS.items() if "absent" not in name and "plein" not in name)


class Refusing:
    """Un Chromium où chaque page commence par ce script."""

    def __init__(self, browser, script: str) -> None:
        self.browser, self.script = browser, script

    def new_context(self, **options):
        context = self.browser.new_context(**options)
        context.add_init_script(self.script)
        return context


@pytest.mark.browser
@pytest.mark.parametrize("refused", ["tout", *(pytest.param(name, marks=slow) for name in REFUSALS)])
def test_what_a_browser_refuses_takes_nothing_else_away(refused, browser):
    """Clé demandée et donnée, langue, thème, lien : tout marche, le temps de la page."""
    with (
        Live(tokenizers.ByteTokenizer(), model=tiny(257), template="texte", key="sk-1") as live,
        Seen(Refusing(browser, REFUSALS.get(refused, ALL)), live.url, allowed="401", named=False) as page,
    ):
        for key, sentence in (("clé", "n'est pas celle"), ("sk-2", "n'est pas celle"), ("sk-1", "")):
            page.fill("#key-value", key)
            page.keyboard.press("Enter")
            page.locator("#status", has_text=re.compile(f"{sentence}" or "^$")).wait_for()
        assert page.locator("#key").is_hidden()
        walk(page)
        for button, attribute, values in (
            ("#theme", "data-theme", {"light", "dark"}),
            ("#language", "lang", {"fr", "en"}),
        ):
            before = page.get_attribute("html", attribute)
            page.click(button)
            assert {before, page.get_attribute("html", attribute)} == values


@slow
def test_a_browser_that_blocks_the_data_of_sites(browser, live, tmp_path):
    """Le vrai réglage de Chromium : localStorage et sessionStorage y lèvent une faute."""
    (tmp_path / "Default").mkdir()
    (tmp_path / "Default" / "Preferences").write_text(
        '{"profile": {"default_content_setting_values": {"cookies": 2}}}', encoding="utf-8"
    )
    context = browser.browser_type.launch_persistent_context(
        tmp_path, executable_path=CHROMIUM, args=["--no-sandbox"], locale="fr-FR"
    )
    page = context.new_page()
    page.goto(live.url)
    page.locator("#model", has_text="gpt_lightning").wait_for()
    assert page.evaluate("() => { try { localStorage; return false; } catch { return true; } }")
    walk(page)
    context.close()


@slow
def test_what_is_kept_is_kept_and_named_after_the_place(browser, live):
    """Sur un site que d'autres pages partagent, ni leurs réglages ni une clé d'un autre préfixe ne servent."""
    with Proxy(live.port) as proxy, Seen(browser, proxy.url) as page:
        page.evaluate("localStorage.setItem('theme', 'solarized'); sessionStorage.setItem('key', 'autre')")
        page.click("#language")
        page.reload()
        page.locator("#model", has_text="parameters").wait_for()
        assert page.get_attribute("html", "data-theme") == "light"
        kept = page.evaluate("Object.keys(localStorage)")
        assert f"gpt_lightning{PREFIX}/language" in kept


@slow
@pytest.mark.parametrize("how", ["javascript", "script"])
def test_a_page_without_its_scripts_is_a_sentence(how, browser, live):
    context = browser.new_context(java_script_enabled=how != "javascript")
    page = context.new_page()
    if how == "script":
        page.route("**/page/app.js", lambda route: route.abort())
    page.goto(live.url)
    assert "page/app.js" in page.inner_text("body") and page.locator("#write").is_hidden()
    context.close()


@pytest.mark.browser
def test_what_answers_in_place_of_the_server_is_a_sentence(browser, live):
    """Un proxy arrêté, une page de connexion, un flux coupé, un autre serveur : jamais une page muette."""
    with Proxy(live.port) as proxy, Seen(browser, proxy.url, allowed="Failed to load") as page:
        written(page, "a", length=3)
        before = page.text_content("#written")

        def says(words: str | re.Pattern, click: str = "#write") -> None:
            page.click(click)
            page.locator("#status", has_text=words).wait_for()

        proxy.answer = b"<html>Connectez-vous</html>"
        says(re.compile("proxy.*200|200.*proxy"))
        proxy.answer, port = None, proxy.port
        page.context.set_offline(True)
        says("ne répond plus")
        page.context.set_offline(False)
        with Live(tokenizers.ByteTokenizer(), model=tiny(257, 256)) as other:
            proxy.port = other.port
            says("redémarré")
            page.locator("#model", has_text="256").wait_for()
            page.locator("#branches button").first.click()  # la page a déjà suivi le nouveau modèle
            assert page.text_content("#written") == before  # rien n'est perdu, et rien ne se mêle
            page.locator("#written .token").first.click()
            says("autre modèle", '#candidates .candidate[aria-pressed="false"] >> nth=0')
            written(page, length=5)
            assert len(tokens(page)) == 5
            with Live(tokenizers.ByteTokenizer(), key="sk-9") as locked:
                proxy.port = locked.port
                says("demande sa clé")
                page.fill("#key-value", "sk-9")
                page.keyboard.press("Enter")
                page.locator("#key").wait_for(state="hidden")
                written(page, length=6)
                assert len(tokens(page)) == 6
            proxy.port = port


@slow
def test_a_proxy_that_drops_the_headers_it_does_not_know_takes_nothing_away(browser, live):
    with Proxy(live.port) as proxy:
        proxy.dropped = ("x-gpt-lightning",)
        with Seen(browser, proxy.url) as page:
            walk(page)


@pytest.mark.browser
def test_a_stream_that_stops_before_its_end_is_said(browser, live):
    """Un proxy qui ferme proprement ce que le serveur n'a pas fini."""
    with Seen(browser, live.url) as page:
        _, raw = live.ask("/api/continue", {"text": "a", "max_tokens": 3})
        headers = {"content-type": "text/event-stream", "x-gpt-lightning": live.headers["x-gpt-lightning"]}
        events = [line for line in raw.split("\n\n") if line]
        whole, cut = ": ping\r\n\r\n" + "\r\n\r\n".join(events) + "\r\n\r\n", "\n\n".join(events[:2]) + "\n\n"
        bodies = iter([whole, cut])
        calm(page)  # ce qu'elle demande en s'ouvrant n'est plus à répondre
        page.route("**/api/continue", lambda route: route.fulfill(headers=headers, body=next(bodies)))
        written(page)
        assert len(tokens(page)) == 3 and "3 jetons" in page.text_content("#status")
        page.click("#write")
        page.locator("#status.fault", has_text="ne répond plus").wait_for()
