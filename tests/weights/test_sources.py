"""Les autres sources : safetensors, le projet d'origine, et ce qui n'en est pas une."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from gpt_lightning import Strategy, generate, tokenizers, weights
from gpt_lightning.model import GPTConfig, GPTModel, cost
from gpt_lightning.weights.exporting import export

GOLDEN = Path(__file__).parents[1] / "golden"


def model(**values) -> GPTModel:
    torch.manual_seed(0)
    small = {"vocab_size": 41, "context_length": 16, "emb_dim": 16, "n_heads": 2, "n_layers": 2}
    return GPTModel(GPTConfig(**{**small, **values})).eval()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tie_weights": False},
        {"norm": "rmsnorm", "activation": "swiglu", "positions": "rope"},
        {"vocab_padding": 64},
        {"bias": False, "qkv_bias": False},
    ],
    ids=str,
)
@pytest.mark.parametrize("as_folder", [True, False])
def test_safetensors_come_back_identical(options, as_folder, tmp_path):
    our, words = model(**options), tokenizers.SimpleTokenizerV2().fit(["un chat et un chien"])
    export(our, words, tmp_path / "sortie", "safetensors")
    again, tokenizer = weights.load(
        str(tmp_path / "sortie" if as_folder else tmp_path / "sortie" / "model.safetensors")
    )
    before, after = our.state_dict(), again.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert again.config == our.config and tokenizer.state() == words.state()
    ids = torch.randint(41, (2, 16))
    torch.testing.assert_close(again(ids), our(ids))


def test_export_overwrites_nothing(tmp_path):
    export(model(), None, tmp_path, "safetensors")
    with pytest.raises(ValueError, match="contient déjà"):
        export(model(), None, tmp_path, "safetensors")
    for name in ("model.safetensors.index.json", "pytorch_model.bin"):
        (tmp_path / name).mkdir()
        (
            tmp_path / name / name
        ).touch()  # un modèle d'ailleurs, en fragments, qui se lirait à la place du nôtre
        with pytest.raises(ValueError, match="contient déjà"):
            export(model(), None, tmp_path / name, "hf")
    with pytest.raises(ValueError, match="hf, safetensors"):
        export(model(), None, tmp_path / "x", "onnx")


@pytest.mark.parametrize("name", ["original_tiny", "original_tiny_qkv_bias"])
@pytest.mark.parametrize("bare", [True, False])
def test_the_original_checkpoints(name, bare, golden, tmp_path):
    expected = golden[name]
    path = GOLDEN / expected["file"]
    if bare:
        content = torch.load(path, weights_only=True)["model_state_dict"]
        path = tmp_path / "gpt-model.pt"
        torch.save(content, path)
    one, _ = weights.load(str(path), n_heads=4)
    assert cost.n_parameters(one.config) == expected["n_params"] and one.config.drop_rate == 0.1
    ids, targets = torch.tensor(expected["input_ids"]), torch.tensor(expected["target_ids"])
    logits = one(ids)
    assert logits.abs().sum().item() == pytest.approx(expected["logits_sum_abs"], rel=1e-5)
    torch.testing.assert_close(logits[0, 0], torch.tensor(expected["logits_first_row"]), atol=1e-5, rtol=0)
    assert one.loss(ids, targets).item() == pytest.approx(expected["loss"], abs=1e-5)
    text = generate(one, [expected["greedy_prompt"]], strategy=Strategy(temperature=0), max_new_tokens=24)
    assert text == [expected["greedy_24_tokens"]]


def test_unknown_number_of_heads_is_asked_for():
    with pytest.raises(ValueError, match="n_heads="):
        weights.load(str(GOLDEN / "original_tiny.pt"))


def test_guessed_number_of_heads_is_said(tmp_path, caplog):
    original = GPTModel(
        GPTConfig(vocab_size=11, context_length=8, emb_dim=128, n_heads=2, n_layers=1, tie_weights=False)
    )
    torch.save(original.state_dict(), tmp_path / "gpt-model.pt")
    assert weights.load(str(tmp_path / "gpt-model.pt"))[0].config.n_heads == 2
    assert "2 (emb_dim / 64)" in caplog.text


def test_something_else_is_refused(tmp_path):
    torch.save({"fc1.weight": torch.ones(2)}, tmp_path / "autre.pt")
    with pytest.raises(ValueError, match="autre.pt.*fc1.weight"):
        weights.load(str(tmp_path / "autre.pt"))
    save_file({"x": torch.ones(2)}, tmp_path / "autre.safetensors")
    with pytest.raises(ValueError, match="config.json"):
        weights.load(str(tmp_path / "autre.safetensors"))
    shutil.copy(__file__, tmp_path / "faux.safetensors")
    with pytest.raises(ValueError, match="faux.safetensors"):
        weights.load(str(tmp_path / "faux.safetensors"))
    (tmp_path / "faux.pt").write_text("pas des poids")
    with pytest.raises(ValueError, match="faux.pt"):
        weights.load(str(tmp_path / "faux.pt"))
