"""report.html : un fichier seul, qui dit ce que le dossier contient, et que rien de ce qu'il contient ne casse."""

import re
from html.parser import HTMLParser

import pytest

from gpt_lightning.training.page import drawing, run, sweep

HOSTILE = '<script>alert(1)</script><img src="http://x/y"> & "deux" \x00'
VOID = ("meta", "img", "br", "link", "rect", "path", "line")


class Balanced(HTMLParser):
    """Une page dont chaque balise se ferme, et la liste des balises et des attributs."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], set(), {}, []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {(tag, name): value for name, value in attrs}
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)

    def handle_data(self, data):
        self.text.append(data)


def stands_alone(text: str) -> Balanced:
    page = Balanced(text)
    assert not page.tags & {"script", "img", "link", "iframe", "object", "form"}
    assert not any(name.startswith("on") or name == "src" for _, name in page.attributes)
    assert "url(" not in text and "@import" not in text
    return page


def folder_of(tmp_path, text=HOSTILE):
    folder = tmp_path / "d<e>x"
    (folder / "samples").mkdir(parents=True)
    (folder / "plots").mkdir()
    for step in (5, 10, 15, 20, 25):
        path = folder / "samples" / f"step_{step:07d}.txt"
        path.write_text(f"{text} {step}\n---\ndeuxième {step}\n", encoding="utf-8")
    (folder / "plots" / "confusion.csv").write_text('vraie,"a<b",c\n"a<b",3,1\nc,0,0\n', encoding="utf-8")
    rows = "".join(f"{step},{5 - step / 10},0.001,{step * 64}\n" for step in range(1, 26))
    (folder / "metrics.csv").write_text("step,train/loss,lr,tokens\n" + rows, encoding="utf-8")
    return folder


def test_the_page_stands_alone_and_tells_the_folder(tmp_path):
    told = run.Told(
        plan=["Modèle     : 3 paramètres\n             et leur suite", "Plan       : 25 pas"],
        environment={"command": ["python", "train.py", "a b", HOSTILE], "packages": {"torch": "2.13"}},
        results=[("perte", HOSTILE)],
        following=[f"python generate.py {HOSTILE}"],
        words=[HOSTILE, "b"],
        heads=[[[1.0, 0.0], [0.5, 0.5]]],
        finished=True,
    )
    text = run.write(folder_of(tmp_path), told).read_text(encoding="utf-8")
    page = stands_alone(text)
    said = "".join(page.text)
    for word in (
        "3 paramètres\net leur suite",
        "pas 5",
        "pas 25",
        "75,0 %",
        "python train.py 'a b'",
        "2.13",
        "tête 0",
    ):
        assert word in said, word
    assert said.count("<script>alert(1)</script>") >= 6  # écrit, jamais lu


@pytest.mark.parametrize("told", [run.Told(), run.Told(plan=["sans colonne"], results=[("a", "b")])])
def test_an_empty_folder_has_a_page(tmp_path, told):
    text = run.write(tmp_path, told).read_text(encoding="utf-8")
    stands_alone(text)
    assert "Entraînement en cours" in text and "None" not in text


def test_a_sweep_shows_its_best_and_its_failures(tmp_path):
    jobs = [
        sweep.Job(n, tmp_path / str(n), [f"{n}e-3", HOSTILE], loss) for n, loss in enumerate((4.0, 3.5, None))
    ]
    jobs.append(sweep.Job(3, None, ["0", "x"], float("nan")))
    for job in jobs[:2]:
        job.folder.mkdir()
        (job.folder / "metrics.csv").write_text("step,val/loss\n5,5.0\n10,4.0\n", encoding="utf-8")
        (job.folder / "report.html").touch()
    path = sweep.write(tmp_path, ["optim.lr", "prompt"], jobs, ["python generate.py"])
    page = stands_alone(path.read_text(encoding="utf-8"))
    said = "".join(page.text)
    assert "La meilleure : tâche 1" in said and "échec" in said and "lr 1e-3" in said
    assert path.read_text(encoding="utf-8").count('<path class="c0') == 2  # la meilleure, et sa légende
    assert page.attributes["a", "href"] == "1/report.html"
    alone = sweep.write(tmp_path, [], [sweep.Job(0, None, [], None)], [])
    stands_alone(alone.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "low, high", [(0.0, 1.0), (2.97, 3.02), (0, 1e-5), (-3, 40_000), (1e9, 1e9 + 1), (5, 5)]
)
def test_ticks_are_round_and_inside(low, high):
    left, right = drawing._span([low, high])
    ticks = drawing._ticks(left, right)
    assert 2 <= len(ticks) <= 8 and all(left <= tick <= right for tick in ticks)


@pytest.mark.parametrize("points", [[], [(1, float("nan"))], [(1, 2.0)], [(x, 1.0) for x in range(5000)]])
def test_any_points_are_drawn_or_left_out(points):
    text = drawing.chart("t", [drawing.Curve("c", points, 0)], "pas")
    assert "nan" not in text and len(text) < 40_000
    assert bool(text) == (len(points) > 0 and points[0][1] == points[0][1])


def test_a_run_says_where_its_page_is(finished_run):
    _, folder, done = finished_run
    (path,) = re.findall(r"Page +: (.*report\.html)", done.stdout)
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert path.endswith(str(folder.relative_to(folder.parents[2])) + "/report.html")
    for word in ("Entraînement fini.", "pas 5", "pas 12", "model=tiny", "tensorboard --logdir", "tête 1"):
        assert word in text, word
    stands_alone(text)
