"""Les poids du projet d'origine : gpt-model.pt, dont les noms sont les nôtres."""

from pathlib import Path

from torch import Tensor

from gpt_lightning.errors import UserError
from gpt_lightning.model import GPTConfig


def is_original(content: object) -> bool:
    """Vrai pour {"model_state_dict": ...} ou un dictionnaire de tenseurs nu, aux noms du projet d'origine."""
    state = state_of(content)
    return "tok_emb.weight" in state and "pos_emb.weight" in state


def state_of(content: object) -> dict[str, Tensor]:
    """Les tenseurs, sans les masques d'attention, que notre modèle n'a pas ; aucun si `content` n'en a pas."""
    state = content.get("model_state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, dict):
        return {}
    return {name: tensor for name, tensor in state.items() if not name.endswith("att.mask")}


def config_from(state: dict[str, Tensor], path: Path, n_heads: int | None) -> GPTConfig:
    """La configuration, déduite des formes. Le nombre de têtes ne s'y lit pas : C / 64, ou `n_heads`."""
    vocab_size, emb_dim = state["tok_emb.weight"].shape
    if n_heads is None:
        if emb_dim % 64:
            raise UserError(
                f"{path} ne dit pas son nombre de têtes, et emb_dim={emb_dim} n'est pas un multiple de 64 : "
                f"donnez n_heads=."
            )
        n_heads = emb_dim // 64
    layers = {name.split(".")[1] for name in state if name.startswith("trf_blocks.")}
    return GPTConfig(
        vocab_size=vocab_size,
        context_length=state["pos_emb.weight"].shape[0],
        emb_dim=emb_dim,
        n_heads=n_heads,
        n_layers=len(layers),
        drop_rate=0.1,
        qkv_bias="trf_blocks.0.att.W_query.bias" in state,
        tie_weights=False,
    )
