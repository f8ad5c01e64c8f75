"""Les dossiers de Hugging Face : GPT-2, Llama, Mistral, Qwen2 et Qwen3, lus et écrits.

`families` traduit config.json, `names` les tenseurs, `folder` lit les fichiers ; `unsupported` nomme ce qu'un autre
modèle a, et que celui d'ici n'a pas.
"""

from gpt_lightning.weights.huggingface.families import config_from, config_to, family_of, labels_of
from gpt_lightning.weights.huggingface.folder import CONFIG, WEIGHTS, download, read_folder, weights_of
from gpt_lightning.weights.huggingface.names import matrices, state_from, state_to, with_prefix

__all__ = [
    "CONFIG",
    "WEIGHTS",
    "config_from",
    "config_to",
    "download",
    "family_of",
    "labels_of",
    "matrices",
    "read_folder",
    "state_from",
    "state_to",
    "weights_of",
    "with_prefix",
]
