"""Les pages sont écrites pour être lues, et vraies : phrases courtes, commandes, fichiers, clés, images, mesures."""

import re
import tomllib
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpt_lightning.cli.composition import choices, compose
from gpt_lightning.commands import COMMANDS
from tests.test_floors import INSIDE, TOP
from tests.test_readme import composes

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
LONGEST, AVERAGE = 40, 19


def paragraphs(text: str) -> list[str]:
    """Le texte d'une page, un paragraphe, un titre ou un élément de liste à la fois ; sans code ni tableau."""
    text = re.sub(r"^```.*?^```$|<!--.*?-->", "\n", text, flags=re.S | re.M)
    text = re.sub(r"^ {4}\S.*$|^\|.*$", "", text, flags=re.M)  # une formule, une ligne de tableau
    text = re.sub(r"!\[[^]]*\]\([^)]*\)", "", text)  # une image
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text)  # un lien : ce qui s'en lit
    text = re.sub(r"`[^`]+`", "code", text)
    text = re.sub(r"^(#+ .*)$", r"\n\1\n", text, flags=re.M)
    return re.split(r"\n\s*\n|\n(?=\s*(?:[*-]|\d+\.) )", text)


def sentences(text: str) -> list[str]:
    """Les phrases d'une page ; une phrase finit à « . », « ! », « ? », ou avec son paragraphe."""
    whole = [re.sub(r"\s+", " ", one).strip() for one in paragraphs(text)]
    parts = [part for one in whole for part in re.split(r"(?<![. ]\.)(?<=[.!?])[*»)]* (?=\S)", one)]
    return [part for part in parts if words(part)]


def words(sentence: str) -> list[str]:
    return [word for word in sentence.split() if re.search(r"\w", word)]


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_a_sentence_is_read_in_one_breath(path):
    said = sentences(path.read_text(encoding="utf-8"))
    assert [one for one in said if len(words(one)) > LONGEST] == []
    assert sum(len(words(one)) for one in said) / len(said) <= AVERAGE


def test_sentences_are_counted_as_they_are_read():
    text = "# Un titre\nUne phrase `a b c` longue. Deux ! Trois ?\n\n* un\n* deux\n  suite\n\n| a |\n\n```\nx\n```\n"
    assert sentences(text) == [
        "# Un titre",
        "Une phrase code longue.",
        "Deux !",
        "Trois ?",
        "* un",
        "* deux suite",
    ]


TEXTS = {named(path): path.read_text(encoding="utf-8") for path in PAGES}
ENGLISH = (ROOT / "README.en.md").read_text(encoding="utf-8")
RUN_FILES = {"config.yaml", "environment.yaml", "multirun.yaml"}  # ce qu'une exécution écrit
FILES = {str(path.relative_to(ROOT)) for path in ROOT.rglob("*") if ".venv" not in path.parts}
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def codes(page: str) -> Iterator[str]:
    """Ce qu'une page dit entre accents graves, hors des blocs, et hors des fichiers qu'une recette crée."""
    text = re.sub(r"^```.*?^```$", "", TEXTS[page], flags=re.S | re.M)
    made = re.findall(r"^Créez `([^`]+)`", text, flags=re.M)
    for code in re.findall(r"`([^`]+)`", text):
        if code not in made:
            yield " ".join(code.split())


@pytest.mark.parametrize("page", TEXTS)
def test_no_word_is_a_calque(page):
    calques = r"tuyau|mandataire|\btubes?\b|classement|(est|sont) une phrase|l'ont été est dit"
    assert re.findall(calques, TEXTS[page]) == []


@pytest.mark.parametrize("page", TEXTS)
def test_a_command_in_a_sentence_composes(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for code in codes(page):
        if re.match(r"python (train\.py|generate\.py|-m gpt_lightning( |$))", code) and not re.search(
            r"\.\.\.| --", code
        ):
            # « python train.py -m » ou « <commande> » : le début d'une commande
            assert "<" in code or code.endswith(" -m") or composes(code), code


@pytest.mark.parametrize("page", [*TEXTS, "README.en.md"])
def test_a_make_target_exists(page):
    text = TEXTS.get(page, ENGLISH)
    for target in re.findall(r"(?:^|`)make ([a-z-]+)", text, flags=re.M):
        assert re.search(rf"^{target}:", MAKEFILE, flags=re.M), target


@pytest.mark.parametrize("page", TEXTS)
def test_a_file_that_a_page_names_exists(page):
    """Par son chemin, ou par sa fin : « filters.py », « data/corpus.py »."""
    for code in codes(page):
        if re.fullmatch(r"[\w./-]+\.(py|yaml|md|js|toml|txt)|(gpt_lightning|conf|docs|tests)/[\w/.-]+", code):
            name = code.rstrip("/")
            known = name in FILES or any(one.endswith(f"/{name}") for one in FILES)
            assert known or name in RUN_FILES or name.startswith("mon_"), code


@pytest.mark.parametrize("page", [*TEXTS, "README.en.md"])
def test_what_a_page_installs_or_runs_exists(page):
    text = TEXTS.get(page, ENGLISH)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "optional-dependencies"
    ]
    assert {*re.findall(r"-e '\.\[(\w+)\]'", text), *re.findall(r"l'extra\s`(\w+)`", text)} <= {*extras}
    scripts = re.findall(r"python ((?:benchmarks|docs|tests)/[\w/]+\.py)", text)
    assert [one for one in scripts if one not in FILES] == []


GROUPS = ("model", "data", "optim", "decoding", "trainer", "callbacks", "logger", "tokenizer", "lora")


def flat(values: dict, prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")


@pytest.fixture(scope="module")
def keys() -> set[str]:
    """Toutes les clés de conf/, avec des points."""
    found = {key for name in COMMANDS for key in flat(compose(name))}
    for group in (*GROUPS, "experiment"):
        for choice in choices(group):
            found |= {*flat(compose("train", f"{group}={choice}"))}
    return found


@pytest.mark.parametrize("page", TEXTS)
def test_a_key_that_a_page_names_exists(page, keys):
    for code in codes(page):
        named_key = re.fullmatch(rf"((?:{'|'.join(GROUPS)})\.[a-z_]\w*(?:\.\w+)*)(=.*)?", code)
        if named_key and not code.endswith((".json", ".md", ".py", ".yaml")):
            assert named_key[1] in keys, code


def test_every_image_is_shown_once_at_least_and_every_image_shown_exists():
    shown = {
        str((ROOT / page).parent.joinpath(link).resolve().relative_to(ROOT))
        for page, text in {**TEXTS, "README.en.md": ENGLISH}.items()
        for link in re.findall(r"!\[[^]]*\]\(([^)]+)\)", text)
    }
    assert shown == {one for one in FILES if one.startswith("docs/images/") and one.endswith(".png")}


@pytest.mark.parametrize("page", [page for page in TEXTS if page.startswith("README")])
def test_the_readme_links_exist(page):
    for link in re.findall(r"\]\(([^)#]+)\)", TEXTS[page]):
        assert link.startswith("http") or (ROOT / link).exists(), link


@pytest.mark.parametrize("page", [*TEXTS, "README.en.md"])
def test_a_block_of_code_opens_with_its_language_and_closes(page):
    fences = [line for line in TEXTS.get(page, ENGLISH).splitlines() if line.lstrip().startswith("```")]
    assert all(re.fullmatch(r"```[a-z]+", one) for one in fences[::2]) and set(fences[1::2]) <= {"```"}
    assert len(fences) % 2 == 0


def anchors(text: str) -> set[str]:
    """Les ancres des titres d'une page, comme GitHub les écrit."""
    titles = re.findall(r"^#+ (.*)$", text, flags=re.M)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", TEXTS)
def test_a_link_to_a_title_finds_it(page):
    for target, anchor in re.findall(r"\]\(([\w./-]*)#([^)]+)\)", TEXTS[page]):
        path = (ROOT / page).parent / target if target else ROOT / page
        assert anchor in anchors(path.read_text(encoding="utf-8")), (target, anchor)


MEASURED = re.compile(
    r"(?<![\w,])(\d+(?: \d{3})*(?:,\d+)?) ?(?:%|x(?= |\)|,|\.)|m?s\b(?!')|jetons/s|nats? par jeton|Go\b|fois\b)"
)
NUMBER = r"(?<![\w,])\d+(?: \d{3})*(?:,\d+)?"
RESULTS = {*re.findall(NUMBER, (ROOT / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8"))}
SAID = {  # ce que dit un article ou le projet d'origine, et ce qu'une mesure de RESULTS.md a donné avec le reste
    "docs/affinage.md": {
        "1,3",
        "0,6",
        "95,00",
        "98,33",
        "0,760",
        "0,748",
        "0,752",
        "0,793",
        "0,403",
        "0,381",
    },
    "docs/entrainement.md": {"39", "9,787", "1,314", "9,949", "6,220", "6,019", "6,4"},
    "docs/instructions.md": {"2,396", "2,399"},
}


@pytest.mark.parametrize("page", [page for page in TEXTS if page != "docs/configuration.md"])
def test_a_measure_is_one_of_the_benchmarks_and_its_section_says_so(page):
    text = re.sub(r"^```.*?^```$", "", TEXTS[page], flags=re.S | re.M)
    for section in re.split(r"^##? ", text, flags=re.M):
        figures = set(MEASURED.findall(section))
        if "benchmarks/" in section:
            rows = "\n".join(re.findall(r"^\|.*$", section, flags=re.M))
            figures |= {one for one in re.findall(NUMBER, rows) if "," in one}
        figures -= SAID.get(page, set())
        assert not figures or "benchmarks/" in section, (section.partition("\n")[0], figures)
        assert figures - RESULTS == set()


def test_the_tree_has_each_file_once_in_order():
    tree = re.search(r"^## L'arbre$.*?^```text\n(.*?)^```$", TEXTS["docs/contribuer.md"], flags=re.S | re.M)
    assert tree is not None
    rooms = ["__init__", "__main__", *(room for room in INSIDE), *sorted(TOP)]
    package = ROOT / "gpt_lightning"
    files = {path.relative_to(package).as_posix() for path in package.rglob("*.py")}

    def place(name: str) -> tuple[int, str]:
        return rooms.index(name.partition("/")[0].removesuffix(".py")), name

    assert [line.split()[0] for line in tree[1].splitlines()] == sorted(files, key=place)
    assert all(len(line.split()) > 1 for line in tree[1].splitlines())  # et ce qu'il fait


def test_the_glossary_is_sorted():
    words_of = re.findall(
        r"^\| ([^|]+?) \| [^|]+ \| [^|]+\. \| [^|]+ \|$", TEXTS["docs/glossaire.md"], flags=re.M
    )
    plain = [unicodedata.normalize("NFKD", one.lower()).encode("ascii", "ignore") for one in words_of]
    assert len(plain) > 50 and plain == sorted(set(plain))
    assert len(plain) == len(re.findall(r"^\| ", TEXTS["docs/glossaire.md"], flags=re.M)) - 1  # le titre


def test_the_hour_is_an_hour():
    minutes = re.findall(r"^\| (\d+) \|", TEXTS["docs/lire-le-code.md"], flags=re.M)
    assert sum(map(int, minutes)) == 60


@pytest.mark.parametrize("page", ["docs/lire-le-code.md", "README.md"])
def test_what_a_row_names_is_in_its_file(page):
    """« | fichier | `Classe.méthode` ... | » : chaque nom est dans le fichier."""
    for row in re.findall(r"^\|.*$", TEXTS[page], flags=re.M):
        found = re.findall(r"`([^` ]+)`", row)
        paths = [one for one in found if one in FILES and one.endswith((".py", ".yaml"))]
        for name in found if paths else ():
            if name not in paths:
                text = (ROOT / paths[0]).read_text(encoding="utf-8")
                assert all(re.search(rf"\b{part}\b", text) for part in name.split(".")), (paths[0], name)


def test_the_stages_of_the_data_are_files():
    """Ceux que docs/donnees.md et le README donnent dans l'ordre."""
    (stages,) = re.findall(r"sept étapes.*?```text\n(.*?)```", TEXTS["docs/donnees.md"], flags=re.S)
    (row,) = re.findall(r"`gpt_lightning/data/` : (.*) \|", TEXTS["README.md"])
    names = [line.split()[0] for line in stages.splitlines()]
    assert len(names) == 7
    assert {f"gpt_lightning/data/{name}.py" for name in (*names, *re.findall(r"`(\w+)`", row))} <= FILES


def test_both_readmes_have_the_same_shape():
    def shape(text: str) -> list[str]:
        return re.findall(r"^(#+|```\w*|\||!|\d\. |\* )", text, flags=re.M)

    assert shape(TEXTS["README.md"]) == shape(ENGLISH)
    assert len(TEXTS["README.md"].splitlines()) <= 290
