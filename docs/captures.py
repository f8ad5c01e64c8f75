"""Redessine les images de la page, d'un serveur qui tourne : `python docs/captures.py http://127.0.0.1:8000`."""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

IMAGES = Path(__file__).with_name("images")
TEXT = "licorne :"


def continued(page: Page) -> None:
    page.fill("#text", TEXT)
    page.fill("#seed", "4")
    page.click("#write")
    page.locator("#copy:not([disabled])").wait_for()
    page.locator("#written .token").nth(4).click()


def distribution(page: Page) -> None:
    page.fill("#text", TEXT)
    page.click("#tab-next")
    page.click("#strategies")
    page.locator("#strategies:not([disabled])").wait_for()


def surprise(page: Page) -> None:
    page.fill("#text", "Habitant de Nîmes, commune française située dans le département du Gard.")
    page.click("#tab-score")
    page.locator('#main[aria-busy="false"]').wait_for()
    page.locator("#measured .token").nth(3).click()


def within(page: Page) -> None:
    page.fill("#text", "Le chat dort sur le tapis du salon, et le chien")
    page.click("#tab-inside")
    page.fill("#inside-layer", "1")
    page.locator('#main[aria-busy="false"]').wait_for()
    page.click('[data-part="softmax"]')
    page.locator('#main[aria-busy="false"]').wait_for()


VIEWS = {
    "page": (continued, "light", {"width": 1280, "height": 800}),
    "page-dedans": (within, "light", {"width": 1280, "height": 800}),
    "page-jeton": (distribution, "dark", {"width": 1280, "height": 1100}),
    "page-surprise": (surprise, "light", {"width": 1100, "height": 640}),
    "page-telephone": (continued, "light", {"width": 380, "height": 760}),
}


def main() -> None:
    browser_path = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        for name, (view, scheme, size) in VIEWS.items():
            context = browser.new_context(viewport=size, color_scheme=scheme, locale="fr-FR")
            page = context.new_page()
            page.goto(sys.argv[1])
            page.locator("#model", has_text="gpt_lightning").wait_for()
            view(page)
            page.mouse.move(0, 0)
            page.evaluate("scrollTo(0, 0)")
            page.screenshot(path=IMAGES / f"{name}.png")
            context.close()
        browser.close()


if __name__ == "__main__":
    main()
