"""Répondre à « Dedans » : lire la demande, et écrire en JSON ce qui se passe dans le modèle."""

import base64
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from torch import Tensor

from gpt_lightning.decoding.strategy import check_numbers
from gpt_lightning.errors import UserError, whole
from gpt_lightning.model.inside import Ablation, Inside, Lens, Neurons, Place, check, inside
from gpt_lightning.serving import playground
from gpt_lightning.serving.openai import fields
from gpt_lightning.serving.openai.fields import Field, Refused
from gpt_lightning.serving.openai.request import ServedModel
from gpt_lightning.typing import JsonObject

LONGEST = 256  # jetons que l'on regarde ensemble : la fin du texte
ABLATIONS = 64
ANSWERS = 20  # candidats à la position regardée
STREAM = 128  # nombres du flux que l'on dessine


def ablations(name: str, value: object) -> tuple[Ablation, ...]:
    """Une liste de {layer}, {layer, head} ou {position}."""
    if not isinstance(value, list) or len(value) > ABLATIONS:
        raise UserError(f"{name} : il faut une liste de {ABLATIONS} ablations au plus.")
    asked = []
    for ablation in value:
        if not isinstance(ablation, dict) or not set(ablation) <= set(Ablation._fields):
            raise UserError(f"{name} : une ablation est {{layer}}, {{layer, head}} ou {{position}}.")
        ranks = {
            key: whole(f"{name}.{key}", fields.exact(rank), 0)
            for key, rank in ablation.items()
            if rank is not None
        }
        asked.append(Ablation(**ranks))
    return tuple(dict.fromkeys(asked))


def request_fields(shape: playground.Shape) -> dict[str, Field]:
    """Les champs d'une demande ; `page` : de deux demandes d'une même page, seule la dernière aboutit."""
    return playground.TEXT | {
        "layer": Field(fields.integer(0, shape.layers - 1), shape.layers - 1),
        "head": Field(fields.integer(0, shape.heads - 1), 0),
        "position": Field(fields.integer(0, LONGEST - 1)),
        "ablate": Field(ablations, ()),
        "lens": Field(fields.integer(0, 10), 3),
        "page": Field(fields.text, ""),
    }


def begin(model: ServedModel, network: Any, ids: list[int], values: JsonObject) -> Iterator[Inside | None]:
    """Les étapes du calcul des derniers jetons de `ids`. Refused si la demande nomme ce qui n'est pas là."""
    window = ids[-min(LONGEST, model.context) :]
    position = len(window) - 1 if values["position"] is None else values["position"]
    if position >= len(window):
        sentence = f"La position {position} n'existe pas : il y en a {len(window)}, comptées depuis 0."
        raise Refused(sentence, param="position", code="invalid_value")
    try:
        check(values["ablate"], network.config, len(window))
    except UserError as error:
        raise Refused(str(error), param="ablate", code="invalid_value") from None
    place = Place(values["layer"], values["head"], position)
    return _steps(network, window, place, values)


def _steps(network: Any, window: list[int], place: Place, values: JsonObject) -> Iterator[Inside | None]:
    """Ces étapes. UserError si un logit n'est pas un nombre."""
    for seen in inside(network, window, place, values["ablate"], lens=values["lens"]):
        if seen is not None:
            check_numbers(seen.logits[None])
        yield seen


class Turns:
    """Le tour de chaque page : de deux demandes d'une même page, seule la dernière va jusqu'au bout."""

    def __init__(self) -> None:
        self._asked: dict[str, object] = {}

    async def take(self, page: str, step: Callable[[], Awaitable[Inside | None]]) -> Inside:
        """Répète `step` jusqu'à la fin. Entre deux étapes, le fil du modèle écrit les textes des autres clients.

        Refused dès que cette page demande autre chose ; la page « » n'est celle de personne.
        """
        mine = object()
        self._asked[page] = mine
        try:
            while page == "" or self._asked.get(page) is mine:
                if (seen := await step()) is not None:
                    return seen
            raise Refused("Cette page a déjà demandé autre chose.", status=409, code="replaced")
        finally:
            if self._asked.get(page) is mine:
                del self._asked[page]


def reply(model: ServedModel, ids: list[int], values: JsonObject, seen: Inside) -> JsonObject:
    """La réponse de POST /api/inside. Chaque tableau est en base64 : des float32 petit-boutistes, ligne par ligne.

    T jetons lus (les 256 derniers), H têtes, D largeur d'une tête, L couches, F neurones, n = 10 au plus.

        tokens, text, faithful, unread   comme /api/attention : les T jetons, et combien du début ne sont pas lus
        length, layers, heads, head_width, width, hidden     T, L, H, D, C, F
        layer, head, position            où l'on regarde, comptés depuis 0
        ablate                           les ablations faites, [{layer} | {layer, head} | {position}]
        embedding   {token (T), position (T) ou null}        longueur (norme) des plongements ; null : rope
                    nearest              [{id, token, bytes, cosine}] : les voisins du jeton regardé
        stream      {lengths (L+1, T), shown, vectors (L+1, shown)}     le flux, de l'embedding à la dernière couche :
                                         sa longueur, et ses `shown` premiers nombres à la position regardée
        added       (L, 2, T)            longueur de ce que l'attention, puis le réseau, ajoutent au flux
        attention   de la couche et de la tête : {query (T, D), key (T, D), scores (T, T) = Q Kᵀ / √D avant le masque,
                    weights (T, T) après le softmax, values (T) longueur de V, added (T) longueur de ce que la tête
                    ajoute, rows (H, T) les poids de chaque tête à la position, shares (H) ce que chacune y ajoute}
        neurons     {shown: n, ids [T][n] (JSON), values (T, n), pushes [n][5 jetons]}     les plus forts de la couche ;
                                         `pushes`, ceux de la position : les jetons vers lesquels ils poussent
        lens        null si `lens` vaut 0, sinon {first, columns, top, ids [L+1][columns][top] (JSON),
                    probabilities (L+1, columns, top), names [jeton]}     la réponse qu'aurait déjà chaque couche, lue
                                         par la norme finale et la tête, aux positions first..first+columns-1
        candidates  [{id, token, bytes, logit, logprob, plain}]  à la position regardée, ablations faites ; `plain` :
                                         la log-probabilité si rien n'est éteint. Les 20 premiers des deux, réunis
    """
    shown = min(STREAM, seen.vectors.shape[1])
    neighbours = zip(*(part.tolist() for part in seen.nearest), strict=True)
    return _frame(model, ids, values, seen) | {
        "embedding": {
            "token": pack(seen.token),
            "position": None if seen.place is None else pack(seen.place),
            "nearest": [playground.token(model, index) | {"cosine": cosine} for index, cosine in neighbours],
        },
        "stream": {"lengths": pack(seen.lengths), "shown": shown, "vectors": pack(seen.vectors[:, :shown])},
        "added": pack(seen.added),
        "attention": {name: pack(tensor) for name, tensor in seen.head._asdict().items()},
        "neurons": _neurons(model, seen.neurons),
        "lens": None if seen.lens is None else _lens(model, seen.lens),
        "candidates": _candidates(model, seen),
    }


def _frame(model: ServedModel, ids: list[int], values: JsonObject, seen: Inside) -> JsonObject:
    """Le texte lu, les tailles, et où l'on regarde."""
    window = ids[-min(LONGEST, model.context) :]
    ablate = [
        {key: rank for key, rank in off._asdict().items() if rank is not None} for off in values["ablate"]
    ]
    return playground.tokens_of(model, window) | {
        "unread": len(ids) - len(window),
        "length": len(window),
        "layers": len(seen.added),
        "heads": len(seen.head.shares),
        "head_width": seen.head.query.shape[1],
        "width": seen.vectors.shape[1],
        "hidden": seen.neurons.total,
        "layer": values["layer"],
        "head": values["head"],
        "position": len(window) - 1 if values["position"] is None else values["position"],
        "ablate": ablate,
    }


def pack(tensor: Tensor) -> str:
    """Les nombres d'un tableau, ligne par ligne, en float32 et en base64."""
    return base64.b64encode(tensor.float().cpu().contiguous().numpy().astype("<f4").tobytes()).decode()


def _neurons(model: ServedModel, neurons: Neurons) -> JsonObject:
    return {
        "shown": neurons.ids.shape[1],
        "ids": neurons.ids.tolist(),
        "values": pack(neurons.values),
        "pushes": [[playground.token(model, index) for index in row] for row in neurons.pushes.tolist()],
    }


def _lens(model: ServedModel, lens: Lens) -> JsonObject:
    ids = lens.ids.tolist()
    names = sorted({index for row in ids for cell in row for index in cell})
    return {
        "first": lens.first,
        "columns": lens.ids.shape[1],
        "top": lens.ids.shape[2],
        "ids": ids,
        "probabilities": pack(lens.probabilities),
        "names": [playground.token(model, index) for index in names],
    }


def _candidates(model: ServedModel, seen: Inside) -> list[JsonObject]:
    """Les premiers avec les ablations, puis ceux que l'on avait sans elles."""
    after, before = seen.logits.log_softmax(-1), seen.plain.log_softmax(-1)
    count = min(ANSWERS, len(after))
    ids = dict.fromkeys([*after.topk(count).indices.tolist(), *before.topk(count).indices.tolist()])
    return [
        playground.token(model, index)
        | {
            "logit": float(seen.logits[index]),
            "logprob": float(after[index]),
            "plain": float(before[index]),
        }
        for index in ids
    ]
