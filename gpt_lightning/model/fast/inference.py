"""Un modèle prêt à écrire : Q, K et V en un seul produit, et des poids en int8 ou int4 si on le demande.

C'est une autre forme du même modèle, pour l'inférence seule : elle se construit après avoir lu les poids, et ne s'écrit
dans aucun fichier.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from gpt_lightning.errors import UserError
from gpt_lightning.model.cache import COMPILED, KVCache
from gpt_lightning.model.fast.products import PackedLinear, PlainLinear, can_pack
from gpt_lightning.model.fast.quantized import quantize
from gpt_lightning.model.fast.sizes import input_sizes
from gpt_lightning.model.fast.unfolded import Unfolded
from gpt_lightning.model.gpt import GPTModel, MultiHeadAttention
from gpt_lightning.model.init import Linear
from gpt_lightning.model.lora import is_adapter

BITS = {"int8": 8, "int4": 4}


class JoinedAttention(MultiHeadAttention):
    """L'attention `att`, dont Q, K et V sortent, bout à bout, d'un seul produit."""

    def __init__(self, att: MultiHeadAttention) -> None:
        nn.Module.__init__(
            self
        )  # ses poids existent déjà : il n'y a rien à construire d'après une configuration
        self.layer, self.head_width, self.drop_rate = att.layer, att.head_width, att.drop_rate
        parts = att.W_query, att.W_key, att.W_value
        self._widths = [part.out_features for part in parts]
        self.W_qkv: nn.Module = _join(*parts)
        self._attention, self.out_proj, self.rotary = att._attention, att.out_proj, att.rotary
        self.q_norm, self.k_norm = att.q_norm, att.k_norm

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Q, K et V : (B, T, C) -> (B, H, T, D) et deux fois (B, K, T, D)."""
        q, k, v = self.W_qkv(x).split(self._widths, dim=-1)
        return self._heads(q), self._heads(k), self._heads(v)


def _join(*parts: nn.Linear) -> Linear:
    """Une couche linéaire qui calcule, bout à bout, ce que calculent celles-ci."""
    first, width = parts[0], sum(part.out_features for part in parts)
    layer = Linear(first.in_features, width, bias=first.bias is not None)
    layer.weight = nn.Parameter(torch.cat([part.weight.detach() for part in parts]), requires_grad=False)
    if layer.bias is not None:
        layer.bias = nn.Parameter(torch.cat([part.bias.detach() for part in parts]), requires_grad=False)
    return layer


def for_inference(model: GPTModel, dtype: str = "fp32", *, pack: bool = True) -> GPTModel:
    """`model`, changé sur place pour écrire vite ; `dtype` int8 ou int4 quantifie ses couches, et une copie de sa tête.

    Les embeddings, les normes et l'attention gardent leur type ; la tête n'est jamais en int4, où elle perdrait trop.
    `pack=False` laisse les blocs tels quels, et leurs poids s'ils ne sont pas quantifiés : `compile_for_inference`
    range tout cela lui-même. UserError si le modèle a encore ses adaptateurs à part.
    """
    if any(is_adapter(name) for name, _ in model.named_parameters()):
        raise UserError(
            "Ce modèle a des adaptateurs à part : gpt_lightning.load le rend avec eux dans ses poids."
        )
    for block in model.trf_blocks:
        assert isinstance(block.att, MultiHeadAttention)
        block.att = JoinedAttention(block.att)
    model.requires_grad_(False).eval()
    made = _other_linear(model, dtype, pack)
    if made is not None:
        # sans tenir les couches elles-mêmes : chacune s'en va dès que la sienne est faite
        for module in [module for module in model.modules() if not isinstance(module, nn.Linear)]:
            for name, child in list(module.named_children()):
                if isinstance(child, nn.Linear) and name != "class_head":  # quelques lignes, lues une fois
                    setattr(module, name, made(child, name == "out_head"))
    if pack and made is not None and model.config.kernels == "fused":
        model.trf_blocks = Unfolded(model.trf_blocks, model.config)
    return model


def _other_linear(model: GPTModel, dtype: str, pack: bool) -> Callable[[nn.Linear, bool], nn.Module] | None:
    """Ce qui remplace une couche linéaire, ou la tête : quantifiée, ou rangée ; None s'il faut les laisser."""
    if dtype in BITS:
        sizes: Mapping[nn.Module, Tensor] = input_sizes(model) if dtype == "int4" else {}
        return lambda layer, head: quantize(
            layer.weight, layer.bias, 8 if head else BITS[dtype], sizes.get(layer)
        )
    weight = model.tok_emb.weight
    if not pack or weight.device.type != "cpu":
        return None
    kind = PackedLinear if can_pack(weight.dtype) else PlainLinear
    return lambda layer, head: kind(layer.weight, layer.bias)


Step = Callable[[GPTModel, Tensor, KVCache], Tensor]


@torch.inference_mode()
def compile_for_inference(model: GPTModel) -> GPTModel:
    """`model`, dont la passe d'un jeton par ligne devient un seul graphe, compilé ici pour une ligne : voir `step_of`.

    La longueur du cache et le nombre de lignes y sont des inconnues : un texte plus long ne recompile rien, un lot de
    plusieurs lignes une fois. Sur GPU, c'est un graphe CUDA. Lève ce que torch lève s'il ne peut pas compiler.
    """
    weight = model.tok_emb.weight
    if weight.device.type == "cuda":
        step: Step = CudaGraph(GPTModel.next_logits)
    else:
        step = torch.compile(GPTModel.next_logits, fullgraph=True, dynamic=True, options={"freezing": True})
    first = torch.zeros(1, 1, dtype=torch.int64, device=weight.device)
    # torch prend deux dimensions égales pour la même inconnue : la longueur du cache n'est égale à aucune autre
    config = model.config
    others = {config.n_heads, config.kv_heads, config.head_width, config.emb_dim}
    capacity = next(n for n in range(2, 7) if n not in others)
    cache = KVCache.empty(
        model.config, batch_size=1, capacity=capacity, device=weight.device, dtype=weight.dtype
    )
    model.next_logits(first, cache)
    step(model, first, cache)
    COMPILED[model] = step
    return model


class CudaGraph:
    """Une passe enregistrée une fois par cache, puis rejouée : un seul lancement par jeton au lieu d'une centaine.

    Le résultat est lu avant l'appel suivant, qui l'écrase.
    """

    def __init__(self, step: Step) -> None:
        self._step = step
        self._cache: KVCache | None = None
        self._graph: torch.cuda.CUDAGraph
        self._ids: Tensor
        self._logits: Tensor

    def __call__(self, model: GPTModel, ids: Tensor, cache: KVCache) -> Tensor:
        if cache is not self._cache or ids.shape != self._ids.shape:
            self._record(model, ids, cache)
        self._ids.copy_(ids)
        self._graph.replay()
        return self._logits

    def _record(self, model: GPTModel, ids: Tensor, cache: KVCache) -> None:
        self._ids, self._cache = ids.clone(), cache
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # ce que cette passe écrit dans le cache sera récrit, ou masqué
            for _ in range(2):
                self._step(model, self._ids, cache)
                cache.advance(-1)
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._logits = self._step(model, self._ids, cache)


def is_supported(dtype: str) -> bool:
    """Vrai si ce torch sait multiplier des poids de ce type sur ce processeur."""
    try:
        layer = quantize(torch.ones(16, 32), None, BITS[dtype])
        return bool(torch.isfinite(layer(torch.ones(1, 32))).all())
    except (RuntimeError, AttributeError, NotImplementedError):
        return False
