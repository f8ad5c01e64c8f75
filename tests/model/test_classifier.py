"""Le modèle qui classe : la dernière position réelle, les mesures de la confusion, et GPT2ForSequenceClassification."""

import pytest
import torch

from gpt_lightning import tokenizers, weights
from gpt_lightning.decoding.classify import classify
from gpt_lightning.errors import UserError
from gpt_lightning.model import GPTConfig
from gpt_lightning.model.classifier import GPTClassifier, labels_loss
from gpt_lightning.model.confusion import ClassReport, confusion, most_frequent
from gpt_lightning.model.trainable import learn_only
from gpt_lightning.tokenizers import ByteTokenizer
from gpt_lightning.weights.exporting import export
from gpt_lightning.weights.format import Description

SHAPE = {"context_length": 32, "emb_dim": 24, "n_heads": 2, "n_layers": 2}
TEXTS = ["a", "un chat", "le chien aboie", "une phrase assez longue"]


def model(vocab_size: int = 257, n_labels: int = 3, **options) -> GPTClassifier:
    torch.manual_seed(0)
    return GPTClassifier(GPTConfig(vocab_size=vocab_size, **SHAPE, **options), n_labels).eval()


@pytest.mark.parametrize("batch_size", [1, 2, 4])
def test_company_and_padding_change_nothing(batch_size):
    one, tokenizer = model(), ByteTokenizer()
    together = classify(one, tokenizer, TEXTS, batch_size=batch_size)
    for text, shares in zip(TEXTS, together, strict=True):
        torch.testing.assert_close(shares, classify(one, tokenizer, [text])[0], atol=1e-6, rtol=1e-5)
        assert shares.sum().item() == pytest.approx(1, abs=1e-6)


def test_what_follows_the_last_token_is_not_seen():
    one = model()
    ids = torch.randint(257, (1, 20))
    before = one.classify(ids, torch.tensor([9]))
    ids[:, 10:] = 7
    torch.testing.assert_close(one.classify(ids, torch.tensor([9])), before)
    ids[:, 9] = (ids[:, 9] + 1) % 257
    assert (one.classify(ids, torch.tensor([9])) - before).abs().max() > 1e-4


def test_a_text_longer_than_the_context_is_cut_at_its_end():
    cut = []
    long = "x" * 32 + "la fin n'est pas lue"
    found = classify(model(), ByteTokenizer(), ["court", long], cut=cut.append)
    assert cut == [1]
    torch.testing.assert_close(found[1], classify(model(), ByteTokenizer(), ["x" * 32])[0])


@pytest.mark.parametrize("options", [{}, {"tie_weights": False}, {"qkv_bias": False}], ids=str)
def test_it_is_the_classifier_of_transformers(options, tmp_path):
    transformers = pytest.importorskip("transformers")
    one, tokenizer, labels = model(50257, **options), tokenizers.gpt2(), ("non", "oui", "peut-être")
    known = Description(one.config, tokenizer, task="classify", labels=labels)
    export(one, tokenizer, tmp_path / "hf", "hf", known)
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(str(tmp_path / "hf")).eval()
    assert theirs.config.id2label == dict(enumerate(labels))
    reader = transformers.AutoTokenizer.from_pretrained(str(tmp_path / "hf"))
    rows = reader(TEXTS, return_tensors="pt", padding=True)
    with torch.no_grad():
        expected = theirs(**rows).logits
    ids = [tokenizer.encode(text) for text in TEXTS]
    found = torch.cat([one.classify(torch.tensor([row]), torch.tensor([len(row) - 1])) for row in ids])
    assert (found - expected).abs().max() <= 1e-4
    again = weights.loading.load_and_describe(str(tmp_path / "hf"))
    assert again.description.labels == labels and again.description.task == "classify"
    for name, tensor in again.model.state_dict().items():
        assert torch.equal(tensor, one.state_dict()[name]), name


@pytest.mark.parametrize("names", [("non", "oui", "peut-être"), None], ids=["nommées", "sans nom"])
def test_someone_else_s_classifier_is_read_with_its_labels(names, tmp_path):
    transformers = pytest.importorskip("transformers")
    sizes = {"vocab_size": 257, "n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 2}
    labels = {"num_labels": 3} if names is None else {"id2label": dict(enumerate(names))}
    config = transformers.GPT2Config(**sizes, **labels)
    theirs = transformers.GPT2ForSequenceClassification(config).eval()
    theirs.save_pretrained(tmp_path / "leur")
    model, known, *_ = weights.loading.load_and_describe(str(tmp_path / "leur"))
    assert known.task == "classify" and known.labels == (names or ("LABEL_0", "LABEL_1", "LABEL_2"))
    ids = torch.randint(257, (1, 20))
    with torch.no_grad():
        found = model.classify(ids, torch.tensor([19]))
        assert (found - theirs(ids).logits).abs().max() <= 1e-4


def test_a_note_alone_is_no_classification(tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(n_embd=32, n_layer=1, n_head=2, vocab_size=257, num_labels=1)
    transformers.GPT2ForSequenceClassification(config).save_pretrained(tmp_path / "leur")
    with pytest.raises(UserError, match="n'est pas classer"):
        weights.load(str(tmp_path / "leur"))


def test_a_text_is_cut_where_training_cut_it():
    row, text = ByteTokenizer(), "le début, puis tout le reste"
    found = classify(model(), row, [text], max_length=9)[0]  # en octets
    torch.testing.assert_close(found, classify(model(), row, ["le début"])[0], atol=0, rtol=0)


def test_the_weights_of_a_loss_multiply_each_text():
    scores, wanted = torch.randn(5, 3), torch.tensor([0, 1, 2, 1, 0])
    each = torch.nn.functional.cross_entropy(scores, wanted, reduction="none")
    torch.testing.assert_close(labels_loss(scores, wanted), each.mean())
    by = torch.tensor([1.0, 2.0, 0.0, 2.0, 1.0])
    torch.testing.assert_close(labels_loss(scores, wanted, by), (each * by).mean())


@pytest.mark.parametrize("what", ["all", "last_block", "head"])
@pytest.mark.parametrize("options", [{}, {"tie_weights": False}], ids=str)
def test_every_learned_parameter_gets_a_gradient(what, options):
    """DDP attendrait les autres sans fin."""
    one = learn_only(model(**options), what)
    ids = torch.randint(257, (2, 32))
    labels_loss(one.classify(ids, torch.tensor([31, 63])), torch.tensor([0, 1])).backward()
    for name, parameter in one.named_parameters():
        assert parameter.requires_grad == (parameter.grad is not None), name
    assert one.class_head.weight.requires_grad


def test_the_measures_of_a_confusion_matrix():
    wanted, given = torch.tensor([0, 0, 0, 1, 1, 2]), torch.tensor([0, 0, 1, 1, 0, 1])
    report = ClassReport(confusion(wanted, given, 4))
    assert report.counts.tolist() == [[2, 1, 0, 0], [1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]
    assert report.accuracy == pytest.approx(3 / 6)
    assert report.f1.tolist() == pytest.approx([2 / 3, 2 / 5, 0, 0])
    assert report.macro_f1 == pytest.approx((2 / 3 + 2 / 5) / 3)  # la quatrième n'a pas de texte
    usual = most_frequent(torch.tensor([1, 5, 2, 0]), report.counts)
    assert usual.accuracy == pytest.approx(2 / 6)


@pytest.mark.slow  # scikit-learn est dans l'environnement oracles
def test_the_measures_are_those_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    draw = torch.Generator().manual_seed(2)
    wanted, given = (torch.randint(5, (300,), generator=draw) for _ in range(2))
    report = ClassReport(confusion(wanted, given, 5))
    assert report.counts.tolist() == metrics.confusion_matrix(wanted, given).tolist()
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(wanted, given)
    for ours, theirs in ((report.precision, precision), (report.recall, recall), (report.f1, f1)):
        assert ours.tolist() == pytest.approx(theirs.tolist(), abs=1e-6)
    assert report.macro_f1 == pytest.approx(metrics.f1_score(wanted, given, average="macro"), abs=1e-6)
