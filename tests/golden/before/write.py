"""Écrit la référence d'avant la refonte : quatre exécutions minuscules, leurs pertes, les textes qu'elles écrivent.

Lancé une fois, sur le code de 8f7b7f6 (« python tests/golden/before/write.py ») ; tests/test_before.py relance les
mêmes commandes et compare. Les pertes ne sont égales au dernier chiffre que sur la machine qui les a écrites.
"""

import csv
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
OUTPUTS = ("checkpoints/last.ckpt", "config.yaml", ".hydra", "metrics.csv")
COMMON = (
    "model=tiny",
    "tokenizer=bytes",
    "optim=adamw",
    "optim.lr=2e-3",
    "trainer.accelerator=cpu",
    "trainer.precision=32-true",
    "trainer.log_every_n_steps=1",
    "compile=false",
    "data.max_length=128",
    "data.batch_size=4",
    "logger.tensorboard=null",
    "callbacks.plot=null",
    "callbacks.best=null",
)
TASKS = {
    "text": ("data=text", "data.path=texte.txt", "eval_every=25"),
    "instruct": ("experiment=instruct", "data.path=dialogues.jsonl", "eval_every=25"),
    "classify": ("experiment=classify", "data.path=avis.csv", "eval_every=25"),
    "lora": ("experiment=instruct", "data.path=dialogues.jsonl", "lora=default", "eval_every=25"),
}
PROMPTS = {
    "text": ("generate", 'prompt="Il était"'),
    "instruct": ("generate", 'prompt="Que fait le chat ?"'),
    "lora": ("generate", 'prompt="Que fait le chat ?"'),
    "classify": ("classify", 'prompt="Le chat dort bien."'),
}


def corpora(folder: Path) -> None:
    """Les trois petits corpus, toujours les mêmes."""
    nouns, verbs = ("chat", "chien", "merle", "loup", "renard"), ("dort", "veille", "chante", "court")
    pairs = [(noun, verb, n) for n in range(12) for noun in nouns for verb in verbs]
    text = " ".join(f"Il était {n} fois un {noun} qui {verb}." for noun, verb, n in pairs)
    (folder / "texte.txt").write_text(text * 3, encoding="utf-8")
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"Que fait le {noun} {n} ?"},
                {"role": "assistant", "content": f"Il {verb}."},
            ]
        }
        for noun, verb, n in pairs
    ]
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (folder / "dialogues.jsonl").write_text(lines, encoding="utf-8")
    labelled = [
        f"Le {noun} {n} {verb} bien.,{'calme' if verb in ('dort', 'veille') else 'vif'}"
        for noun, verb, n in pairs
    ]
    (folder / "avis.csv").write_text("text,label\n" + "\n".join(labelled) + "\n", encoding="utf-8")


def command(cwd: Path, name: str, *arguments: str) -> subprocess.CompletedProcess:
    """Une commande du projet, telle qu'on la tape."""
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "XDG_CACHE_HOME": str(cwd / "cache"),
        "OMP_NUM_THREADS": "1",
    }
    run = ("-m", "gpt_lightning", name)
    done = subprocess.run(
        [sys.executable, *run, *arguments], cwd=cwd, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done


def losses(run: Path) -> dict[str, list[str]]:
    """Les pertes d'une exécution, dans l'ordre des pas, chacune avec tous ses chiffres."""
    with (run / "metrics.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {key: [row[key] for row in rows if row.get(key)] for key in ("train/loss", "val/loss")}


def machine() -> str:
    """Ce dont le dernier chiffre d'une perte dépend."""
    import torch

    lines = Path("/proc/cpuinfo").read_text().splitlines()
    said = dict(line.replace("\t", "").partition(":")[::2] for line in lines if ":" in line)
    flags = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_tile") if flag in said["flags"].split()]
    numbers = (torch.__version__, torch.backends.cpu.get_cpu_capability())
    return " ".join([platform.machine(), said["model name"].strip(), *flags, "torch", *numbers])


def arguments(name: str, output: str, *more: str) -> tuple[str, ...]:
    """Ce qui suit train.py pour entraîner une tâche ; les poids de départ disent eux-mêmes leur architecture."""
    common = [one for one in COMMON if name == "text" or not one.startswith(("model=", "tokenizer="))]
    return (*TASKS[name], *common, f"output_dir={output}", "seed=123", *more)


def entry(program: str) -> tuple[str, ...]:
    """Le programme, pour la fixture `command`."""
    return ("generate.py",) if program == "generate" else ("gpt_lightning", program)


def train(cwd: Path, name: str, output: str, *more: str) -> Path:
    """L'entraînement d'une tâche ; les autres partent de l'exécution de texte."""
    start = () if name == "text" else ("init_from=text",)
    command(cwd, "train", *arguments(name, output, *start, *more))
    return cwd / output


def greedy(cwd: Path, name: str, run: Path, *more: str) -> str:
    """Ce que la commande de la tâche écrit, sans hasard."""
    program, prompt = PROMPTS[name]
    how = () if program == "classify" else ("decoding=greedy", "max_new_tokens=40")
    return command(cwd, program, f"ckpt_path={run.name}", prompt, "device=cpu", *how, *more).stdout


def main() -> None:
    """Tout, dans l'ordre : le texte d'abord, dont les autres partent."""
    expected: dict = {"machine": machine(), "losses": {}, "greedy": {}, "quantised": {}}
    with tempfile.TemporaryDirectory() as scratch:
        cwd = Path(scratch)
        corpora(cwd)
        for name in TASKS:
            run = train(cwd, name, name, "trainer.max_steps=50")
            for part in OUTPUTS:
                source, target = run / part, HERE / name / part
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copytree(source, target, dirs_exist_ok=True) if source.is_dir() else shutil.copy(
                    source, target
                )
            record = HERE / name / ".hydra" / "hydra.yaml"
            places = (
                record.read_text(encoding="utf-8").replace(str(cwd), "/ici").replace(str(ROOT), "/projet")
            )
            record.write_text(places, encoding="utf-8")  # la machine n'y est pas
            expected["losses"][f"{name} 50"] = losses(run)
            expected["greedy"][name] = greedy(cwd, name, run, "dtype=fp32")
            expected["quantised"][name] = {
                kind: greedy(cwd, name, run, f"dtype={kind}") for kind in ("bf16", "int8")
            }
            for processes in (1, 2):
                more = ("trainer.max_steps=10", "model.drop_rate=0.1", f"trainer.devices={processes}")
                run = train(cwd, name, f"{name}-{processes}", *more)
                expected["losses"][f"{name} 10 dropout 0.1 processus {processes}"] = losses(run)
            run = train(cwd, name, f"{name}-deux", "trainer.max_steps=10", "trainer.devices=2")
            expected["losses"][f"{name} 10 dropout 0 processus 2"] = losses(run)
    (HERE / "expected.json").write_text(json.dumps(expected, ensure_ascii=False, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
