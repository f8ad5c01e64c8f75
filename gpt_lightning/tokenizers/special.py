"""Les jetons d'un tokenizer qui ont un rôle, et ce que d'autres outils en lisent."""

from gpt_lightning.tokenizers import ByteLevelTokenizer, HuggingFaceTokenizer, Tokenizer, merges_of
from gpt_lightning.tokenizers.base import END_OF_TEXT
from gpt_lightning.tokenizers.chat import MARKS, ChatTokenizer
from gpt_lightning.typing import JsonObject


def exported_options(tokenizer: Tokenizer) -> JsonObject:
    """Ce que tokenizer_config.json dit de lui : sa classe, ses jetons spéciaux ; vide s'il ne s'exporte pas."""
    base = tokenizer.base if isinstance(tokenizer, ChatTokenizer) else tokenizer
    if isinstance(base, HuggingFaceTokenizer):
        options = base.options()
    elif isinstance(base, ByteLevelTokenizer):
        options = {"tokenizer_class": "PreTrainedTokenizerFast"}
        if base.eos_id is not None:
            options["eos_token"] = base.decode([base.eos_id])
    elif merges_of(base) is not None:
        options = {"tokenizer_class": "GPT2Tokenizer"}
        options |= {f"{role}_token": END_OF_TEXT for role in ("bos", "eos", "unk")}
    else:
        return {}
    if isinstance(tokenizer, ChatTokenizer):
        options |= {"eos_token": MARKS[1], "additional_special_tokens": list(MARKS)}
    return options


def special_tokens(tokenizer: Tokenizer) -> dict[str, str | None]:
    """Le texte du jeton qui commence un texte (`bos_token`) et de celui qui le finit (`eos_token`) ; None sans eux."""
    options, eos = exported_options(tokenizer), tokenizer.eos_id
    return {
        "bos_token": options.get("bos_token"),
        "eos_token": None if eos is None else options.get("eos_token") or tokenizer.decode([eos]),
    }


def prefix_id(tokenizer: Tokenizer) -> int | None:
    """Le jeton devant un texte dont on mesure tout : celui qui commence un texte, sinon celui qui le finit."""
    bos = special_tokens(tokenizer)["bos_token"]
    ids = tokenizer.encode(bos, special=True) if bos is not None else []
    return ids[0] if len(ids) == 1 else tokenizer.eos_id
