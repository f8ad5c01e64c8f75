"""Les noms des tenseurs d'un GGUF, et l'ordre des lignes que le rope de llama.cpp attend."""

from torch import Tensor

from gpt_lightning.model import GPTConfig
from gpt_lightning.weights.huggingface.names import Place

_TOP = {
    "tok_emb": "token_embd",
    "pos_emb": "position_embd",
    "final_norm": "output_norm",
    "out_head": "output",
}
_BLOCK = {
    "norm1": "attn_norm",
    "att.W_query": "attn_q",
    "att.W_key": "attn_k",
    "att.W_value": "attn_v",
    "att.q_norm": "attn_q_norm",
    "att.k_norm": "attn_k_norm",
    "att.out_proj": "attn_output",
    "norm2": "ffn_norm",
    "ff.gate": "ffn_gate",
    "ff.layers.0": "ffn_up",
    "ff.layers.2": "ffn_down",
}
_JOINED = ("att.W_query", "att.W_key", "att.W_value")  # un seul tenseur, dans gpt2
_NORMS = ("norm", "norm1", "norm2")
POSITIONS, EMBEDDINGS = "position_embd.weight", ("token_embd.weight", "output.weight")


def places(config: GPTConfig) -> list[Place]:
    """La table des noms de cette configuration."""
    is_gpt2 = config.positions == "learned"
    modules = [(theirs, (ours,)) for ours, theirs in _TOP.items()]
    for layer in range(config.n_layers):
        block = {theirs: (ours,) for ours, theirs in _BLOCK.items() if not (is_gpt2 and ours in _JOINED)}
        block |= {"attn_qkv": _JOINED} if is_gpt2 else {}
        modules += [
            (f"blk.{layer}.{theirs}", tuple(f"trf_blocks.{layer}.{name}" for name in ours))
            for theirs, ours in block.items()
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
    if module in _TOP:
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
