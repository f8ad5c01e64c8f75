"""Chaque paire de réglages du moteur se rencontre dans un entraînement de vingt pas."""

import pytest
import torch

from gpt_lightning.training.loggers.metrics_csv import read_metrics

PRECISIONS = ("32-true", "bf16-mixed", "bf16-true", "16-mixed")
OPTIMS = ("adamw", "original", "muon", "target")
SCHEDULES = ("constant", "linear", "cosine", "wsd")
TIMES_2, TIMES_3 = (
    (0, 2, 3, 1),
    (0, 3, 1, 2),
)  # les produits du corps à quatre éléments, où la somme est le xor


def table() -> list[tuple]:
    """Seize lignes : deux colonnes quelconques y prennent toutes leurs paires de valeurs."""
    rows = []
    for i in range(4):
        for j in range(4):
            fourth, fifth = i ^ TIMES_2[j], i ^ TIMES_3[j]
            rows.append(
                (
                    PRECISIONS[i],
                    OPTIMS[j],
                    SCHEDULES[i ^ j],
                    bool(fourth & 1),
                    1 + (fourth >> 1),
                    1 + (fifth & 1),
                )
            )
    return rows


def test_the_table_holds_every_pair():
    from itertools import combinations, product

    rows = table()
    for a, b in combinations(range(6), 2):
        values = [sorted({row[column] for row in rows}, key=str) for column in (a, b)]
        assert {(row[a], row[b]) for row in rows} == set(product(*values))


@pytest.mark.slow
@pytest.mark.parametrize("precision, optim, schedule, compiled, accumulate, devices", table(), ids=str)
def test_it_trains_twenty_steps_and_reloads(
    precision, optim, schedule, compiled, accumulate, devices, command, text_file, tmp_path
):
    done = command(
        "train.py",
        "model=tiny",
        "data=text",
        f"data.path={text_file}",
        "tokenizer=words_v2",
        "data.max_length=16",
        "data.stride=16",
        "data.batch_size=4",
        f"trainer.precision={precision}",
        f"optim={optim}",
        "optim.lr=1e-2",
        f"optim.schedule={schedule}",
        *(["optim.decay=0.2", "optim.warmup=2"] if schedule == "wsd" else []),
        f"compile={compiled}",
        f"trainer.accumulate_grad_batches={accumulate}",
        f"trainer.devices={devices}",
        "trainer.max_steps=20",
        "trainer.log_every_n_steps=1",
        "eval_every=10",
        "output_dir=execution",
        cwd=tmp_path,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr
    rows = read_metrics(tmp_path / "execution" / "metrics.csv")
    assert max(rows) == 20 and rows[20]["train/loss"] < 0.9 * rows[1]["train/loss"]
    assert rows[20]["tokens"] == 20 * 16 * 4 * accumulate * devices
    written = command(
        "generate.py", "ckpt_path=execution", "max_new_tokens=2", "prompt=Le chat", cwd=tmp_path
    )
    assert written.returncode == 0, written.stderr
    last = torch.load(tmp_path / "execution" / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] == 20 and last["optimizer_states"]
