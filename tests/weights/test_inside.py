"""L'intérieur du modèle, face aux états et aux crochets de transformers : flux, attention, lentille, ablations."""

import pytest
import torch

from gpt_lightning import weights
from gpt_lightning.model.fast.inference import for_inference
from gpt_lightning.model.inside import Ablation, Place, inside

pytest.importorskip("transformers")
from tests.weights.test_families import GPT2, PLAIN, theirs  # noqa: E402

NEAR = 1e-4
CASES = {
    "gpt2": ("GPT2", GPT2 | {"n_layer": 3}),
    "llama": ("Llama", PLAIN),
    "qwen3": ("Qwen3", PLAIN | {"num_hidden_layers": 4}),
}


@pytest.fixture(scope="module", params=CASES)
def pair(request, tmp_path_factory):
    """Le modèle de transformers, et le nôtre, prêt à écrire, lu dans le dossier qu'il a écrit."""
    model, folder = theirs(*CASES[request.param]), tmp_path_factory.mktemp("hf")
    model.save_pretrained(folder)
    return model, for_inference(weights.load(str(folder))[0])


def blocks(their):
    return their.transformer.h if hasattr(their, "transformer") else their.model.layers


def norm(their):
    return their.transformer.ln_f if hasattr(their, "transformer") else their.model.norm


def last(steps):
    *_, seen = steps
    return seen


def read(their, ids, **options):
    """Leurs flux, avant et après chaque couche, et leur réponse."""
    streams = []
    hooks = [
        block.register_forward_pre_hook(
            lambda _, given, named: streams.append(given[0] if given else named["hidden_states"]),
            with_kwargs=True,
        )
        for block in blocks(their)
    ]
    hooks.append(norm(their).register_forward_pre_hook(lambda _, given: streams.append(given[0])))
    with torch.no_grad():
        answer = their(
            ids,
            output_attentions=True,
            position_ids=torch.arange(ids.shape[1])[None],
            use_cache=False,
            **options,
        )
    for hook in hooks:
        hook.remove()
    return torch.cat(streams), answer


@pytest.mark.slow
def test_streams_attention_and_lens_are_those_of_transformers(pair):
    their, our = pair
    torch.manual_seed(1)
    ids = torch.randint(their.config.vocab_size, (1, 40))
    streams, answer = read(their, ids)
    for layer in range(our.config.n_layers):
        for head in range(our.config.n_heads):
            seen = last(inside(our, ids[0].tolist(), Place(layer, head, 30 + layer), lens=5))
            near = {"atol": NEAR, "rtol": NEAR}
            torch.testing.assert_close(seen.head.weights, answer.attentions[layer][0, head], **near)
            torch.testing.assert_close(seen.vectors, streams[:, 30 + layer], **near)
            torch.testing.assert_close(seen.lengths, streams.norm(dim=-1), **near)
    with torch.no_grad():
        table = their.lm_head(norm(their)(streams[:, 24:])).softmax(-1)
    torch.testing.assert_close(seen.lens.probabilities, table.topk(5).values, atol=NEAR, rtol=0)
    torch.testing.assert_close(table.gather(-1, seen.lens.ids), seen.lens.probabilities, atol=NEAR, rtol=0)
    torch.testing.assert_close(seen.logits, answer.logits[0, 30 + layer], atol=NEAR, rtol=NEAR)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["fp32", "int8"])
def test_ablations_are_those_of_their_hooks(pair, dtype, tmp_path):
    their, our = pair
    torch.manual_seed(2)
    ids, width = torch.randint(their.config.vocab_size, (1, 40)), our.config.head_width
    if dtype == "int8":  # ce que les poids quantifiés calculent, à leur arrondi près
        their.save_pretrained(tmp_path)
        our = for_inference(weights.load(str(tmp_path))[0], "int8")
    for layer, block in enumerate(blocks(their)):
        att = block.attn.c_proj if hasattr(block, "attn") else block.self_attn.o_proj
        for off in (Ablation(layer=layer), Ablation(layer=layer, head=1), Ablation(position=7)):
            options, hook = {}, None
            if off.position is not None:
                options["attention_mask"] = torch.ones_like(ids).index_fill(1, torch.tensor([7]), 0)
            elif off.head is None:
                hook = block.register_forward_hook(
                    lambda _, given, named, out: (
                        (given[0] if given else named["hidden_states"],) + out[1:]
                        if isinstance(out, tuple)
                        else (given[0] if given else named["hidden_states"])
                    ),
                    with_kwargs=True,
                )
            else:

                def silence(_, given):
                    context = given[0].clone()
                    context[..., width : 2 * width] = 0
                    return (context,)

                hook = att.register_forward_pre_hook(silence)
            expected = read(their, ids, **options)[1].logits[0, 39]
            if hook is not None:
                hook.remove()
            seen = last(inside(our, ids[0].tolist(), Place(layer, 0, 39), [off]))
            near = NEAR if dtype == "fp32" else 0.06
            assert (seen.logits - expected).abs().max() <= near * max(1.0, float(expected.abs().max())), off
            assert (seen.logits - seen.plain).abs().max() > 1e-3
