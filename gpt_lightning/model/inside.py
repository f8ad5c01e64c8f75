"""Le calcul d'un texte, vu de l'intérieur : ce qu'en fait chaque pièce du modèle, et sa réponse sans l'une d'elles.

Le modèle n'en sait rien : des crochets (hooks), posés sur ses pièces le temps d'une couche, notent ce qui passe, et
éteignent ce que l'on veut éteindre. Ce qui est montré est donc ce qui est calculé, poids quantifiés compris.
Légende des formes : T jetons, C emb_dim, H têtes, D largeur d'une tête, F neurones du réseau, L couches, V vocabulaire.
"""

import math
from collections.abc import Generator, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from gpt_lightning.errors import UserError
from gpt_lightning.model import reference
from gpt_lightning.model.config import GPTConfig

STRONGEST = 10  # neurones que l'on montre à chaque position
PUSHED = 5  # jetons vers lesquels un neurone pousse
NEAREST = 8  # voisins d'un plongement
COLUMNS = 16  # positions de la lentille


class Ablation(NamedTuple):
    """Ce que l'on éteint : une tête d'une couche, une couche, ou une position, que les suivantes ne voient plus."""

    layer: int | None = None
    head: int | None = None
    position: int | None = None


class Place(NamedTuple):
    """Où l'on regarde : une couche, une tête, une position, comptées depuis 0."""

    layer: int
    head: int
    position: int


class Trace(NamedTuple):
    """Le passage d'une couche : ce qu'elle lit, ce que chaque pièce y écrit."""

    normed: Tensor  # (T, C) le flux normalisé, que lisent Q, K et V
    context: Tensor  # (T, H D) ce que les têtes rapportent, côte à côte
    attention: Tensor  # (T, C) ce que l'attention ajoute au flux
    neurons: Tensor  # (T, F) les activations du réseau
    network: Tensor  # (T, C) ce que le réseau ajoute au flux
    stream: Tensor  # (T, C) le flux, après la couche


class Head(NamedTuple):
    """Le calcul d'une tête."""

    query: Tensor  # (T, D)
    key: Tensor  # (T, D)
    scores: Tensor  # (T, T) Q Kᵀ / √D, avant le masque
    weights: Tensor  # (T, T) après le masque et le softmax
    values: Tensor  # (T,) longueur de la valeur de chaque jeton
    added: Tensor  # (T,) longueur de ce que la tête ajoute au flux
    rows: Tensor  # (H, T) les poids de toutes les têtes de la couche, à la position regardée
    shares: Tensor  # (H,) longueur de ce que chaque tête ajoute à cette position


class Neurons(NamedTuple):
    """Les neurones les plus forts d'une couche, à chaque position."""

    total: int  # F : ceux de la couche
    ids: Tensor  # (T, STRONGEST)
    values: Tensor  # (T, STRONGEST)
    pushes: Tensor  # (STRONGEST, PUSHED) les jetons vers lesquels poussent ceux de la position regardée


class Lens(NamedTuple):
    """La réponse que donnerait déjà chaque couche, de l'embedding à la dernière."""

    first: int  # la première des positions
    ids: Tensor  # (L + 1, positions, candidats)
    probabilities: Tensor  # (L + 1, positions, candidats)


class Inside(NamedTuple):
    """Tout ce qui se passe dans le modèle pour un texte."""

    token: Tensor  # (T,) longueur du plongement de chaque jeton
    place: (
        Tensor | None
    )  # (T,) longueur de celui de sa position ; None : les positions sont dans l'attention (rope)
    vectors: Tensor  # (L + 1, C) le flux à la position regardée, de l'embedding à la dernière couche
    lengths: Tensor  # (L + 1, T) longueur du flux
    added: Tensor  # (L, 2, T) longueur de ce que l'attention, puis le réseau, y ajoutent
    head: Head
    neurons: Neurons
    nearest: tuple[Tensor, Tensor]  # (NEAREST,) les jetons dont le plongement est proche, et leur cosinus
    lens: Lens | None
    logits: Tensor  # (V,) à la position regardée
    plain: Tensor  # (V,) les mêmes quand rien n'est éteint


def check(ablations: Sequence[Ablation], config: GPTConfig, length: int) -> None:
    """UserError si l'une d'elles n'éteint rien qui existe dans un texte de `length` jetons."""
    ranks = {"layer": config.n_layers, "head": config.n_heads, "position": length}
    for ablation in ablations:
        for name, value in ablation._asdict().items():
            if value is not None and not 0 <= value < ranks[name]:
                raise UserError(f"ablate : {name}={value}, mais il y en a {ranks[name]}, comptés depuis 0.")
        if (ablation.layer is None) == (ablation.position is None) or (
            ablation.layer is None and ablation.head is not None
        ):
            raise UserError("ablate : éteignez {layer}, {layer, head} ou {position}.")


@torch.inference_mode()
def inside(
    model: Any, ids: Sequence[int], place: Place, ablations: Sequence[Ablation] = (), *, lens: int = 0
) -> Iterator[Inside | None]:
    """Le calcul de `ids`, T <= context_length, avec ces ablations ; rend None à chaque étape, pour que d'autres calculs
    passent entre deux, et enfin un `Inside`. `lens` : candidats de chaque case de la lentille ; 0, pas de lentille.
    """
    batch = torch.tensor([ids], device=model.tok_emb.weight.device)
    tokens, places = model.tok_emb(batch)[0], model.pos_emb(torch.arange(len(ids), device=batch.device))
    stream = tokens + places  # (T, C)
    layers = []
    for trace in walk(model, stream, ablations):
        layers.append(trace)
        yield None
    last = layers[-1].stream if layers else stream
    if ablations:
        for trace in walk(model, stream, ()):
            last = trace.stream
            yield None
    streams = torch.stack([stream, *(trace.stream for trace in layers)])  # (L + 1, T, C)
    seen, block = layers[place.layer], list(model.trf_blocks.children())[place.layer]
    head = _head(block.att, seen, place, _mask(ablations, len(ids), batch.device))
    neurons = _neurons(model, block, seen.neurons, place.position)
    yield None
    nearest = _nearest(model, batch[0, place.position])
    yield None
    table = yield from _lens(model, streams, place.position, lens)
    yield Inside(
        _length(tokens),
        _length(places) if places.dim() == 2 else None,
        streams[:, place.position].float(),
        _length(streams),
        torch.stack([_length(torch.stack((trace.attention, trace.network))) for trace in layers]),
        head,
        neurons,
        nearest,
        table,
        answer(model, streams[-1, place.position]),
        answer(model, last[place.position]),
    )


def walk(model: Any, stream: Tensor, ablations: Sequence[Ablation]) -> Iterator[Trace]:
    """Passe `stream`, (T, C), dans chaque couche, une à la fois."""
    positions = torch.arange(len(stream), device=stream.device)
    mask = _mask(ablations, len(stream), stream.device)
    for layer, block in enumerate(model.trf_blocks.children()):
        here = [ablation for ablation in ablations if ablation.layer == layer]
        off = [ablation.head for ablation in here if ablation.head is not None]
        trace = _pass(block, stream, positions, None if mask is None else mask[None, None], off)
        if any(ablation.head is None for ablation in here):  # la couche n'écrit rien
            nothing = torch.zeros_like(stream)
            silent = torch.zeros_like(trace.context)
            trace = trace._replace(context=silent, attention=nothing, network=nothing, stream=stream)
        stream = trace.stream
        yield trace


def answer(model: Any, stream: Tensor) -> Tensor:
    """Les logits que la norme finale et la tête lisent du flux : (..., C) -> (..., V), en float32."""
    return model.out_head(model.final_norm(stream))[..., : model.config.vocab_size].float()


def _pass(block: Any, stream: Tensor, positions: Tensor, mask: Tensor | None, off: Sequence[int]) -> Trace:
    """Une couche, des crochets posés le temps de la traverser ; les têtes `off` ne rapportent rien."""
    notes: dict[str, Tensor] = {}

    def note(name: str, module: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> None:
        notes[name] = output[0]

    def silence(module: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor]:
        context = arguments[0].unflatten(-1, (-1, block.att.head_width)).clone()  # (1, T, H, D)
        context[:, :, list(off)] = 0
        notes["context"] = context[0].flatten(1)
        return (context.flatten(2),)

    def listen(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        notes["neurons"] = arguments[0][0]

    hooks = [
        block.norm1.register_forward_hook(partial(note, "normed")),
        block.att.out_proj.register_forward_pre_hook(silence),
        block.att.register_forward_hook(partial(note, "attention")),
        block.ff.get_submodule("layers.2").register_forward_pre_hook(listen),
        block.ff.register_forward_hook(partial(note, "network")),
    ]
    try:
        after = block(stream[None], positions, None, mask)[0]
    finally:
        for hook in hooks:
            hook.remove()
    return Trace(stream=after, **notes)


def _mask(ablations: Sequence[Ablation], length: int, device: torch.device) -> Tensor | None:
    """Ce que chaque position voit, (T, T) ; None : tout ce qui la précède. Une position cachée se voit elle-même."""
    hidden = [ablation.position for ablation in ablations if ablation.position is not None]
    if not hidden:
        return None
    mask = torch.ones(length, length, dtype=torch.bool, device=device).tril()
    mask[:, hidden] = False
    return mask | torch.eye(length, dtype=torch.bool, device=device)


def _head(att: Any, trace: Trace, place: Place, mask: Tensor | None) -> Head:
    length, heads = len(trace.normed), trace.context.shape[1] // att.head_width
    positions = torch.arange(length, device=trace.normed.device)
    q, k, v = att.project(trace.normed[None])
    q, k = att.rotary(att.q_norm(q), positions), att.rotary(att.k_norm(k), positions)
    k, v = reference.share(k, heads), reference.share(v, heads)  # (1, H, T, D)
    weights = reference.attention_weights(q, k, mask)[0]  # (H, T, T)
    query, key = q[0, place.head].float(), k[0, place.head].float()
    # la projection est une somme sur les têtes : celle d'une tête seule, sans le biais, est sa part
    nothing = att.out_proj(torch.zeros_like(trace.context[:1]))
    only = torch.eye(heads, device=q.device, dtype=q.dtype).repeat_interleave(att.head_width, 1)  # (H, H D)
    added = att.out_proj(trace.context * only[place.head]) - nothing
    shares = att.out_proj(trace.context[place.position] * only) - nothing
    return Head(
        query,
        key,
        query @ key.T / math.sqrt(att.head_width),
        weights[place.head].float(),
        _length(v[0, place.head]),
        _length(added),
        weights[:, place.position].float(),
        _length(shares),
    )


def _neurons(model: Any, block: Any, activations: Tensor, position: int) -> Neurons:
    count = min(STRONGEST, activations.shape[1])
    ids = activations.abs().topk(count).indices  # (T, n)
    values = activations.gather(1, ids)
    down = block.ff.get_submodule("layers.2")
    lone = torch.zeros(count, activations.shape[1], device=ids.device, dtype=activations.dtype)
    lone = lone.scatter(1, ids[position, :, None], values[position, :, None])
    written = down(lone) - down(torch.zeros_like(lone[:1]))  # (n, C) ce que chacun ajoute au flux
    logits = answer(model, written)
    return Neurons(
        activations.shape[1], ids, values.float(), logits.topk(min(PUSHED, logits.shape[-1])).indices
    )


def _nearest(model: Any, token: Tensor) -> tuple[Tensor, Tensor]:
    table = model.tok_emb.weight[: model.config.vocab_size].float()
    lengths = _length(table).clamp(min=1e-12)
    cosines = (table @ table[token]) / (lengths * lengths[token])
    cosines[token] = -2  # lui-même n'est pas un voisin
    best = cosines.topk(min(NEAREST, len(cosines) - 1))
    return best.indices, best.values


def _lens(model: Any, streams: Tensor, position: int, count: int) -> Generator[None, None, Lens | None]:
    """Lit chaque couche à son tour."""
    if not count:
        return None
    first = min(max(0, streams.shape[1] - COLUMNS), position)
    rows = []
    for stream in streams[:, first : first + COLUMNS]:
        rows.append(answer(model, stream).softmax(-1).topk(min(count, model.config.vocab_size)))
        yield None
    return Lens(first, torch.stack([row.indices for row in rows]), torch.stack([row.values for row in rows]))


def _length(vectors: Tensor) -> Tensor:
    """La longueur (norme) de chaque vecteur : (..., C) -> (...)."""
    return cast(Tensor, vectors.float().norm(dim=-1))
