"""Des documents dans chaque commande : montrés, appris, repris au pas près, évalués."""

import pytest
import torch

from tests.data.strange import RICH_DOCX, SAID, bad, lines, pdf, zipped

for name in ("defusedxml", "lxml", "pypdf", "zstandard"):
    pytest.importorskip(name)


@pytest.fixture
def library(tmp_path):
    folder = tmp_path / "lot"
    folder.mkdir()
    pages = (
        lines(
            "UN LIVRE",
            f"Le chat numéro {n} dort bien, et le chien exem-",
            f"ple de {n * 7} nuits veille.",
            str(n),
        )
        for n in range(1, 60)
    )
    (folder / "livre.pdf").write_bytes(pdf(*pages))
    (folder / "riche.docx").write_bytes(RICH_DOCX)
    (folder / "tout.zip").write_bytes(zipped({"a.txt": SAID * 90, "i.png": b"0"}))
    return folder


def test_prepare_shows_each_file_and_what_was_removed(command, library, tmp_path):
    options = "prepare", f"data.path={library}", "tokenizer=words_v2", "data.max_length=16"
    done = command("gpt_lightning", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "livre.pdf, 59 pages, " in done.stdout and "début « UN LIVRE »" in done.stdout
    assert ".png × 1" in done.stdout + done.stderr
    (library / "numérisé.pdf").write_bytes(bad("numérisé.pdf"))
    refused = command("gpt_lightning", *options, cwd=tmp_path)
    assert (
        refused.returncode == 1
        and "numérisé ; un OCR" in refused.stderr
        and "Traceback" not in refused.stderr
    )
    clean = "data.errors=skip", "data.join_hyphens=true", "data.drop_running_heads=true"
    done = command("gpt_lightning", *options, *clean, cwd=tmp_path)
    said = done.stdout + done.stderr
    assert "59 mots recollés, 118 lignes de haut ou de bas de page en moins" in said
    assert "1 laissé de côté (data.errors=skip)" in said and "veille. »" in said


@pytest.mark.slow
def test_a_training_on_documents_resumes_at_its_step_and_is_evaluated(command, library, tmp_path):
    options = f"data.path={library}", "data.join_hyphens=true", "model=tiny", "tokenizer=words_v2"
    options = (
        *options,
        "data.max_length=16",
        "data.batch_size=4",
        "optim=original",
        f"data.val_path={library}/tout.zip",
    )

    def train(folder, *more):
        done = command("train.py", *options, f"output_dir={tmp_path / folder}", *more, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return torch.load(tmp_path / folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]

    straight = train("droit", "trainer.max_steps=10")
    train("repris", "trainer.max_steps=5")
    resumed = train("repris", "trainer.max_steps=10", f"ckpt_path={tmp_path}/repris/checkpoints/last.ckpt")
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)
    done = command(
        "gpt_lightning", "evaluate", f"ckpt_path={tmp_path}/repris/checkpoints/last.ckpt", cwd=tmp_path
    )
    assert done.returncode == 0 and "Perplexité" in done.stdout, done.stderr
