"""Les noms des tenseurs d'un GGUF, et l'ordre des lignes que le rope de llama.cpp attend."""

from torch import Tensor

from gpt_lightning.model import GPTConfig
from gpt_lightning.weights.huggingface.names import Place

_TOP = {
    "token_embd": "tok_emb",
    "position_embd": "pos_emb",
    "output_norm": "final_norm",
    "output": "out_head",
}
_QKV = ("att.W_query", "att.W_key", "att.W_value")
_BLOCK: dict[str, tuple[str, ...]] = {
    "attn_norm": ("norm1",),
    "attn_output": ("att.out_proj",),
    "ffn_norm": ("norm2",),
    "ffn_up": ("ff.layers.0",),
    "ffn_down": ("ff.layers.2",),
}
_GPT2 = {**_BLOCK, "attn_qkv": _QKV}
_LLAMA = {
    **_BLOCK,
    **{theirs: (ours,) for theirs, ours in zip(("attn_q", "attn_k", "attn_v"), _QKV, strict=True)},
    "attn_q_norm": ("att.q_norm",),
    "attn_k_norm": ("att.k_norm",),
    "ffn_gate": ("ff.gate",),
}
_NORMS = ("norm", "norm1", "norm2")
POSITIONS, EMBEDDINGS = "position_embd.weight", ("token_embd.weight", "output.weight")


def places(config: GPTConfig) -> list[Place]:
    """La table des noms de cette configuration."""
    is_gpt2 = config.positions == "learned"
    modules: list[tuple[str, tuple[str, ...]]] = [(theirs, (ours,)) for theirs, ours in _TOP.items()]
    modules += [
        (f"blk.{layer}.{theirs}", tuple(f"trf_blocks.{layer}.{name}" for name in ours))
        for layer in range(config.n_layers)
        for theirs, ours in (_GPT2 if is_gpt2 else _LLAMA).items()
    ]
    return [
        Place(f"{theirs}.{theirs_end}", tuple(f"{name}.{our_end}" for name in ours))
        for theirs, ours in modules
        for theirs_end, our_end in _ends(ours[0], is_gpt2)
    ]


def _ends(module: str, is_gpt2: bool) -> list[tuple[str, str]]:
    """Ce que ce module a : son poids, et son biais s'il peut en avoir un."""
    if module.endswith(_NORMS):
        return [("weight", "scale"), *([("bias", "shift")] if is_gpt2 else [])]
    if module in _TOP.values():
        return [("weight", "weight")]
    return [("weight", "weight"), ("bias", "bias")]


def interleave(
    tensor: Tensor, name: str, architecture: str, config: GPTConfig, *, undo: bool = False
) -> Tensor:
    """Les lignes de Q et de K dans l'ordre du rope de l'architecture llama : le sien tourne les nombres deux à deux,
    le nôtre une moitié de tête avec l'autre ; `undo` revient au nôtre."""
    module = name.split(".")[-2]
    if architecture != "llama" or module not in ("attn_q", "attn_k"):
        return tensor
    half = config.head_width // 2
    halves = (half, 2) if undo else (2, half)
    heads = tensor.reshape(-1, *halves, *tensor.shape[1:])
    return heads.transpose(1, 2).reshape(tensor.shape)
