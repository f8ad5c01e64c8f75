"""Chaque paire de réglages du moteur se rencontre dans un entraînement de vingt pas."""

import json

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


SHAPES = {
    "llama": ("n_kv_heads=1", "hidden_dim=40"),
    "qwen2": ("n_kv_heads=2", "qkv_bias=true", "norm_eps=1e-6"),
    "qwen3": ("n_kv_heads=2", "head_dim=10", "qk_norm=true", "rope_base=1e6", "vocab_padding=16"),
}


@pytest.mark.slow
@pytest.mark.parametrize("family", SHAPES)
def test_a_model_of_today_goes_through_every_command(family, command, text_file, tmp_path):
    """À deux processus avec Muon, puis compilé ; repris, mesuré, quantifié, montré, adapté, servi, exporté, relu."""

    def run(*typed: str) -> str:
        done = command(*typed, cwd=tmp_path, timeout=400)
        assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
        return done.stdout

    shape = ("norm=rmsnorm", "activation=swiglu", "positions=rope", "qkv_bias=false", "bias=false")
    typed = ["model=tiny", f"data.path={text_file}", "tokenizer=words_v2", "data.max_length=16"]
    typed += ["data.batch_size=4", "optim=muon", "trainer.devices=2", "trainer.max_steps=6", "output_dir=a"]
    run("train.py", *typed, *(f"model.{one}" for one in (*shape, *SHAPES[family])))
    run("train.py", "ckpt_path=a", "trainer.max_steps=9", "compile=true")
    run("gpt_lightning", "evaluate", "ckpt_path=a")
    texts = {
        dtype: run(
            "generate.py",
            "ckpt_path=a",
            f"dtype={dtype}",
            "decoding=greedy",
            "prompt=Le chat",
            "max_new_tokens=20",
        )
        for dtype in ("fp32", "bf16", "int8", "int4")
    }
    assert all("Le chat" in text for text in texts.values())
    run("gpt_lightning.demos.attention", "ckpt_path=a", "prompt=Le chat dort")
    tuned = [
        "init_from=a",
        "lora=default",
        "lora.modules=all",
        f"data.path={text_file}",
        "data.max_length=16",
    ]
    run("train.py", *tuned, "trainer.max_steps=3", "output_dir=b")
    for name in ("a", "b"):
        run("gpt_lightning", "export", f"ckpt_path={name}", "format=hf", f"to={name}-hf")
        read = json.loads((tmp_path / f"{name}-hf" / "config.json").read_text(encoding="utf-8"))
        assert read["model_type"] == family
    run("gpt_lightning", "export", "ckpt_path=a", "format=safetensors", "to=a-st")
    again = run(
        "generate.py",
        "ckpt_path=a-st",
        "dtype=fp32",
        "decoding=greedy",
        "prompt=Le chat",
        "max_new_tokens=20",
    )
    assert again == texts["fp32"]
