import pytest
import torch

from gpt_lightning.model import GPTConfig, GPTModel, KVCache


def model(**values) -> GPTModel:
    torch.manual_seed(0)
    small = {"vocab_size": 61, "context_length": 32, "emb_dim": 24, "n_heads": 2, "n_layers": 2}
    return GPTModel(GPTConfig(**{**small, **values})).eval()


@pytest.mark.parametrize("positions", ["learned", "rope"])
@pytest.mark.parametrize("kernels", ["fused", "reference"])
@pytest.mark.parametrize("learning", [True, False])
@pytest.mark.parametrize("parts", [[20], [1] * 20, [7, 1, 1, 11], [13, 7]])
def test_logits_by_parts_are_those_of_the_whole(positions, kernels, learning, parts):
    one, ids = model(positions=positions, kernels=kernels), torch.randint(61, (3, 20))
    one.requires_grad_(learning)
    cache = KVCache.empty(one.config, batch_size=3, capacity=24)
    found = torch.cat([one(part, cache) for part in ids.split(parts, dim=1)], dim=1)
    torch.testing.assert_close(found, one(ids), atol=1e-5, rtol=1e-5)
    assert int(cache.position) == 20


@pytest.mark.parametrize("positions", ["learned", "rope"])
def test_padded_rows_give_what_they_give_alone(positions):
    one = model(positions=positions)
    rows = [torch.randint(61, (1, n)) for n in (9, 4, 1)]
    padded = torch.cat([torch.cat((torch.zeros(1, 9 - r.shape[1], dtype=torch.long), r), 1) for r in rows])
    cache = KVCache.empty(one.config, batch_size=3, capacity=12, pads=torch.tensor([0, 5, 8]))
    logits = one(padded, cache)[:, -1]
    following = torch.randint(61, (3, 1))
    after = one(following, cache)[:, -1]
    for i, row in enumerate(rows):
        torch.testing.assert_close(logits[i], one(row)[0, -1], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(
            after[i], one(torch.cat((row, following[i : i + 1]), 1))[0, -1], atol=1e-5, rtol=1e-5
        )


@pytest.mark.parametrize("pads", [None, [0, 3]])
def test_only_what_is_occupied_is_read(pads):
    """Ce que la suite du tampon contient ne compte pas, et sa taille non plus."""
    one, ids = model(), torch.randint(61, (2, 9))
    given = None if pads is None else torch.tensor(pads)
    tight, wide = (
        KVCache.empty(one.config, batch_size=2, capacity=capacity, pads=given) for capacity in (9, 32)
    )
    for buffer in wide.keys + wide.values:
        buffer.fill_(float("nan"))
    with torch.no_grad():
        for part in ids.split([5, 1, 2, 1], dim=1):
            assert torch.equal(one(part, wide), one(part, tight))


def test_forgetting_tokens():
    one, ids = model(), torch.randint(61, (1, 10))
    cache = KVCache.empty(one.config, batch_size=1, capacity=16)
    one(ids, cache)
    cache.advance(-4)
    torch.testing.assert_close(one(ids[:, 6:], cache), one(ids)[:, 6:], atol=1e-5, rtol=1e-5)


def test_repeated_rows_then_go_their_own_way():
    one, ids = model(), torch.randint(61, (2, 5))
    cache = KVCache.empty(one.config, batch_size=2, capacity=8)
    one(ids, cache)
    many, following = cache.select(torch.arange(2).repeat_interleave(3)), torch.randint(61, (6, 1))
    expected = one(torch.cat((ids.repeat_interleave(3, 0), following), 1))[:, -1]
    torch.testing.assert_close(one(following, many)[:, -1], expected, atol=1e-5, rtol=1e-5)
    assert int(cache.position) == 5


@pytest.mark.parametrize("positions", ["learned", "rope"])
def test_compiled_steps_never_recompile(positions):
    """La position est un tenseur : vingt pas compilés sont un seul graphe, sans rupture."""
    one, ids = model(positions=positions), torch.randint(61, (2, 25))
    cache = KVCache.empty(one.config, batch_size=2, capacity=32, pads=torch.tensor([0, 2]))
    compilations = []

    def backend(graph, inputs):
        compilations.append(graph)
        return graph.forward

    step = torch.compile(one.forward, backend=backend, fullgraph=True, dynamic=False)
    with torch.no_grad():
        one(ids[:, :5], cache)
        found = torch.cat([step(ids[:, i : i + 1], cache) for i in range(5, 25)], 1)
        again = KVCache.empty(one.config, batch_size=2, capacity=32, pads=torch.tensor([0, 2]))
        expected = one(ids, again)[:, 5:]
    assert len(compilations) == 1
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
