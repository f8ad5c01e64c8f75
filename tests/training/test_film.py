"""Le film d'un entraînement : quand il prend ses images, ce qu'elles sont, ce qui l'arrête, et comment il se sert."""

import asyncio
import errno
import logging
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from gpt_lightning.errors import UserError
from gpt_lightning.layout import film_images
from gpt_lightning.model import GPTConfig, GPTModel
from gpt_lightning.serving.film import OPEN
from gpt_lightning.serving.film import Film as ServedFilm
from gpt_lightning.training.callbacks import Film
from gpt_lightning.training.callbacks.film import (
    describe,
    image_bytes,
    image_count,
    spaced_steps,
    superfluous,
)
from gpt_lightning.weights import load
from gpt_lightning.weights.film import film_of
from gpt_lightning.weights.format import Description
from gpt_lightning.weights.untrusted import read_torch
from tests.serving.live import tiny


@pytest.mark.parametrize("total", [1, 2, 7, 60, 934, 100_000])
@pytest.mark.parametrize("count", [2, 3, 15, 20])
def test_the_steps_go_from_the_draw_to_the_end_ever_further_apart(total, count):
    steps = sorted(spaced_steps(total, count))
    assert steps[0] == 0 and steps[-1] == total and len(steps) <= count
    gaps = [after - before for before, after in zip(steps, steps[1:], strict=False)]
    assert all(later >= earlier - 1 for earlier, later in zip(gaps[1:], gaps[2:], strict=False))


def test_the_most_crowded_image_goes_and_never_the_ends():
    steps = list(range(0, 40, 2))
    while len(steps) > 5:
        steps.remove(superfluous(steps))
        assert steps[0] == 0 and steps[-1] == 38
    assert steps == sorted(steps) and steps[1] < 8  # le début apprend le plus


@pytest.mark.parametrize("most", [0.05, 1, 40])
def test_the_film_stays_under_its_size(most):
    model = tiny(257)
    count = image_count(20, most, model)
    assert count != 1 and count <= 20 and count * image_bytes(model) <= most * 1e6
    said = describe({"images": 20, "max_mb": most}, model, labelled=False)
    assert said is not None and (f"{count} images" in said if count else "aucun" in said)
    assert describe(None, model, labelled=False) is None


@pytest.mark.parametrize("options", [{"images": 1}, {"images": "x"}, {"max_mb": 0}, {"max_mb": None}])
def test_an_impossible_film_is_refused_when_it_is_read(options, tmp_path):
    with pytest.raises(UserError, match="callbacks.film"):
        Film(folder=str(tmp_path), **options)


def filming(tmp_path, model):
    """Un entraînement de trois pas, et son film."""
    module = SimpleNamespace(
        model=model, labels=(), adapted=None, plan=SimpleNamespace(total_steps=3),
        describe=lambda: Description(model.config, None), pause=lambda name, seconds, left: None,
    )  # fmt: skip
    state = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    trainer = SimpleNamespace(
        fast_dev_run=False, global_step=0, is_global_zero=True, accumulate_grad_batches=1,
        strategy=SimpleNamespace(lightning_module_state_dict=lambda: state, broadcast=lambda one: one),
    )  # fmt: skip
    film = Film(folder=str(tmp_path / "film"))

    def run(first: int = 0) -> None:
        trainer.global_step = first
        film.on_train_start(trainer, module)
        for step in range(first, 3):
            trainer.global_step = step
            film.on_train_batch_start(trainer, module, None, step)
        trainer.global_step = 3
        film.on_train_end(trainer, module)

    return run


def test_an_image_is_a_model_and_a_resumed_run_forgets_its_future(tmp_path):
    model = GPTModel(GPTConfig(vocab_size=50, context_length=8, emb_dim=8, n_heads=2, n_layers=2))
    run = filming(tmp_path, model)
    run()
    images = film_images(tmp_path / "film")
    assert list(images) == [0, 1, 2, 3]
    loaded, _ = load(str(images[2]))
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name].float(), tensor.half().float())
    before = {step: path.read_bytes() for step, path in images.items()}
    shutil.copy(images[3], tmp_path / "film" / "step_0000009.safetensors")  # un futur qui n'est plus le sien
    run(first=1)
    assert {step: path.read_bytes() for step, path in film_images(tmp_path / "film").items()} == before


def test_an_image_that_cannot_be_removed_stops_the_film_alone(tmp_path, monkeypatch, caplog):
    """Sous Windows, un fichier que play lit ne s'efface pas."""
    run = filming(tmp_path, tiny(257))
    run()

    def refuse(path, missing_ok=False):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refuse)
    monkeypatch.setattr("gpt_lightning.training.callbacks.film.image_count", lambda *_: 2)
    shutil.copy(film_images(tmp_path / "film")[3], tmp_path / "film" / "step_0000009.safetensors")
    with caplog.at_level(logging.INFO, "gpt_lightning"):
        run(first=1)
    assert "abandonné au pas 3, l'entraînement continue" in caplog.text and "Permission" not in caplog.text


@pytest.mark.parametrize("why", ["plein", "presque plein"])
def test_a_full_disk_drops_the_film_with_a_sentence(why, tmp_path, monkeypatch, caplog):
    run = filming(tmp_path, tiny(257))
    if why == "plein":

        def refuse(*arguments, **options):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("safetensors.torch.save_file", refuse)
    else:
        monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=100_000))
    with caplog.at_level(logging.INFO, "gpt_lightning"):
        run()
    assert [record.message.partition(" :")[0].split()[:2] for record in caplog.records] == [
        ["Film", ":"]
    ] or (len(caplog.records) == 1 and "abandonné au pas 0" in caplog.text)
    assert not film_images(tmp_path / "film")


def test_a_run_leaves_its_film_and_the_last_image_is_its_end(finished_run):
    folder = finished_run[1]
    images = film_of(str(folder / "checkpoints" / "best.ckpt"))
    assert list(images) == sorted(spaced_steps(12, 20)) and "Film       : 20 images" in finished_run[2].stdout
    last = read_torch(folder / "checkpoints" / "last.ckpt")["state_dict"]
    loaded, tokenizer = load(str(images[12]))
    assert tokenizer is not None
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor.float(), last[f"model.{name}"].half().float())


def test_without_a_film_the_checkpoints_stand_in(finished_run, tmp_path):
    run = tmp_path / "x"
    shutil.copytree(finished_run[1] / "checkpoints", run / "checkpoints")
    steps = film_of(str(run / "checkpoints" / "best.ckpt"))
    assert {8, 12} <= set(steps) and all(path.suffix == ".ckpt" for path in steps.values())
    (run / "checkpoints" / "step_0000008.ckpt").rename(run / "checkpoints" / "step_0000011.ckpt")
    assert 11 in film_of(str(run / "checkpoints" / "best.ckpt"))  # une exécution en cours en ajoute
    assert film_of("hf:un/modele") == {} and film_of(str(tmp_path)) == {}


def test_each_step_is_served_and_few_are_open():
    opened, closed = [], []

    def serve(path: Path):
        step = int(path.name)

        async def answer(request):
            from starlette.responses import JSONResponse

            return JSONResponse({"step": step})

        from starlette.routing import Route

        opened.append(step)
        worker = SimpleNamespace(start=lambda: None, close=lambda grace: closed.append(step))
        return SimpleNamespace(worker=worker, routes=lambda: [Route("/api/next", answer, methods=["POST"])])

    film = ServedFilm(lambda: {step: Path(str(step)) for step in range(9)}, serve)
    with TestClient(Starlette(routes=film.routes())) as client:
        assert client.get("/api/film").json() == {"steps": list(range(9))}
        for step in (0, 1, 2, 0, 3):
            assert client.post(f"/film/{step}/api/next").json() == {"step": step}
        for nowhere in ("99", "x", "-1", "٣", "9" * 5000):
            assert client.post(f"/film/{nowhere}/api/next").status_code == 404
    assert opened == [0, 1, 2, 3] and closed == [1] and len(film._open) == OPEN
    film.close()
    assert sorted(closed) == [0, 1, 2, 3]


def test_an_image_that_answers_is_not_closed():
    closed, inside = [], asyncio.Event()

    def serve(path: Path):
        step = int(path.name)

        async def answer(scope, receive, send):
            if step == 0:
                await inside.wait()

        worker = SimpleNamespace(start=lambda: None, close=lambda grace: closed.append(step))
        return SimpleNamespace(worker=worker, routes=lambda: [Mount("/", app=answer)])

    film = ServedFilm(lambda: {step: Path(str(step)) for step in range(9)}, serve)

    def ask(step: int):
        scope = {"type": "http", "path": "/", "path_params": {"step": str(step)}, "headers": []}
        return film.answer(scope, None, None)

    async def look() -> None:
        long = asyncio.ensure_future(ask(0))
        await asyncio.sleep(0)
        for step in (1, 2, 3, 4):
            await ask(step)
        assert 0 not in closed and closed == [1, 2]
        inside.set()
        await long
        await ask(5)
        assert closed == [1, 2, 0]

    asyncio.run(look())


def test_a_film_may_be_empty():
    assert asyncio.run(ServedFilm().list_steps(None)).body == b'{"steps":[]}'
