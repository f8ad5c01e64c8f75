"""Soixante fautes de frappe, de valeur et de fichier : une phrase, le code 1, avant que rien ne soit construit."""

import re

import pytest

from tests.conftest import ROOT, sentences
from tests.resilience.faults import Zygote

FILES = {
    "binaire.txt": b"abc\0def",
    "vide.txt": b"",
    "latin.txt": "été".encode("latin-1") * 100,
    "court.txt": b"un deux",
    "ligne.jsonl": b'{"text": "un"}\n{"texte": "deux"}\n',
    "faux.jsonl": b"{\n",
    "faux.pt": b"pas des poids",
    "faux.safetensors": b"{}",
    "faux.yaml": b"{[",
}
TRAIN = [
    "optim.lr=0",
    "optim.lr=-1",
    "optim.lr=beaucoup",
    "optim.weight_decay=-1",
    "optim.betas=[0.9,1.5]",
    "optim.betas=0.9",
    "optim.schedule=zigzag",
    "optim.warmup=-0.1",
    "optim.decay=-1 optim.schedule=wsd",
    "optim=adamm",
    "optim._target_=os.system",
    "optim._target_=torch.optim.absent",
    "optim.nesterov=true",
    "model=gpt5",
    "model.n_heads=3",
    "model.n_layers=0",
    "model.n_layers=100000000",
    "model.emb_dim=trois",
    "model.drop_rate=1",
    "model.activation=relu",
    "model.vocab_size=10",
    "data=shakespear",
    "data=text data.path=absent.txt",
    "data=text data.path=binaire.txt",
    "data=text data.path=vide.txt",
    "data=text data.path=latin.txt",
    "data=text data.path=court.txt data.max_length=128",
    "data=text data.path=ligne.jsonl",
    "data=text data.path=faux.jsonl",
    "data=text data.path=/dev/null",
    "data=text",
    "data.max_length=0",
    "data.max_length=100000",
    "data.stride=1000",
    "data.batch_size=0",
    "data.train_split=1.5",
    "data.limit=beaucoup",
    "data.split=hasard",
    "tokenizer=bpe2",
    "tokenizer.size=10",
    "decoding=magie",
    "decoding.top_k=-2",
    "decoding.top_p=3",
    "decoding.temperature=-1",
    "trainer.precision=bf17",
    "trainer.accelerator=tpu",
    "trainer.devices=0",
    "trainer.max_steps=0",
    "trainer.strategy=magie",
    "trainer.gradient_clip_val=-1",
    "callbacks.best.mode=moyen",
    "callbacks.sample.max_new_tokens=-1",
    "seed=-1",
    "seed=trois",
    "eval_every=0",
    "save_every=0",
    "nan_policy=prier",
    "max_tokens=0",
    "compile=peut-être",
    "ckpt_path=absent",
    "ckpt_path=faux.pt",
    "init_from=faux.pt",
    "init_from=faux.safetensors",
    "init_from=absent",
    "output_dir=vide.txt",
    "lr=1",
    "modle=tiny",
    "model.tiny",
    "+invente=3",
    "global_batch_tokens=7",
]


@pytest.fixture(scope="module")
def start(forks, tmp_path_factory):
    return Zygote(forks, tmp_path_factory.mktemp("cache"))


@pytest.mark.parametrize("typed", TRAIN)
def test_a_mistake_is_one_sentence(typed, start, tmp_path):
    cwd = tmp_path / "ici"
    cwd.mkdir()
    for name, content in FILES.items():
        (cwd / name).write_bytes(content)
    short = () if typed.startswith(("model=", "modle", "init_from")) else ("model=tiny",)
    done = start("commands.train", *short, *typed.split(" "), cwd=cwd)
    said = sentences(done["said"])
    assert done["rc"] == 1, done
    assert "Traceback" not in done["said"] and not re.search(r"Error:", said[-1]) and len(said) == 1, done[
        "said"
    ]
    assert said[-1][-1] in ".?)" and len(said[-1]) < 400, said
    assert not (cwd / "outputs").exists() and sorted(path.name for path in cwd.iterdir()) == sorted(FILES)


GENERATE = [
    "ckpt_path=absent",
    "ckpt_path=faux.pt",
    "ckpt_path=vide.txt",
    "device=tpu",
    "dtype=fp7",
    "decoding.top_p=3",
    "max_new_tokens=beaucoup",
    "num_samples=0",
    "prompt_file=absent.txt",
    "prompt_file=binaire.txt",
    "prompts_file=vide.txt",
    "output=x.jsonl",
    "seed=-1",
]


@pytest.mark.parametrize("typed", GENERATE)
def test_a_mistake_in_generate_is_one_sentence(typed, start, tmp_path):
    cwd = tmp_path / "ici"
    cwd.mkdir()
    for name, content in FILES.items():
        (cwd / name).write_bytes(content)
    release = ROOT / "tests" / "golden" / "releases" / "0.1.0"
    source = () if typed.startswith("ckpt_path") else (f"ckpt_path={release}",)
    done = start("commands.generate", *source, typed, cwd=cwd)
    said = sentences(done["said"])
    assert done["rc"] == 1 and len(said) == 1 and "Traceback" not in said[0], done
    assert sorted(path.name for path in cwd.iterdir()) == sorted(FILES)
