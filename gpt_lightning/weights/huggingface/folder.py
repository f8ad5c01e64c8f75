"""Les fichiers d'un dossier de Hugging Face : config.json, des tenseurs lus un par un, et le hub d'où ils viennent.

Le dossier contient config.json et model.safetensors (ou son index, s'il est en fragments, ou pytorch_model.bin).
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from gpt_lightning.errors import UserError
from gpt_lightning.typing import JsonObject
from gpt_lightning.weights.huggingface.names import BUFFERS
from gpt_lightning.weights.untrusted import read_json, read_torch, reading, regular

CONFIG, WEIGHTS, INDEX, PICKLED = (
    "config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
)
ADAPTERS = ("adapter_config.json", "adapter_model.*")
TEXT_FILES = (
    *("vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json", "*.jinja"),
    *("special_tokens_map.json", "generation_config.json"),
)
_TYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


class Tensors(Mapping[str, Tensor]):
    """Les tenseurs d'un dossier, fragments réunis, chacun lu quand on le demande : jamais deux fois les poids.

    Ils gardent leur type s'ils sont tous en bfloat16 ; sinon, ils sont en float32.
    """

    def __init__(self, shards: list[Path]) -> None:
        from safetensors import safe_open

        self._loaded: dict[str, Tensor] = {}  # ceux d'un .bin, projetés
        self._files: dict[str, Path] = {}
        types: dict[str, torch.dtype | None] = {}
        for shard in shards:
            regular(shard)
            if shard.suffix == ".bin":
                content = read_torch(shard)
                self._loaded |= content
                types |= {name: tensor.dtype for name, tensor in content.items()}
                self._files |= dict.fromkeys(content, shard)
                continue
            with reading(shard), safe_open(shard, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118
                    self._files[name] = shard
                    types[name] = _TYPES.get(file.get_slice(name).get_dtype())
        learned = {name: kind for name, kind in types.items() if not BUFFERS.fullmatch(f".{name}")}
        for name, kind in learned.items():
            if kind not in _TYPES.values():
                raise UserError(f"{self._files[name]} : le tenseur {name} est fait d'entiers, ou quantifié.")
        self.dtype = torch.bfloat16 if set(learned.values()) == {torch.bfloat16} else torch.float32

    def __getitem__(self, name: str) -> Tensor:
        from safetensors import safe_open

        if name in self._loaded:
            return self._loaded[name].to(self.dtype)
        # ouvert pour lui seul : sa projection du fichier, et la mémoire qu'elle compte, s'en va avec lui
        with reading(self._files[name]), safe_open(self._files[name], framework="pt") as file:
            return file.get_tensor(name).to(self.dtype)

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def weights_of(folder: Path) -> str | None:
    """Le fichier des poids, ou leur index s'ils sont en fragments ; les safetensors d'abord."""
    kinds = (INDEX, WEIGHTS, f"{PICKLED}.index.json", PICKLED)
    return next((name for name in kinds if (folder / name).exists()), None)


def read_folder(folder: Path) -> tuple[JsonObject, Tensors]:
    """Lit config.json, et de quoi lire les tenseurs d'un dossier. UserError s'il manque un fichier."""
    values = read_json(folder / CONFIG)
    weights = weights_of(folder)
    if weights is None:
        raise UserError(f"{folder} n'a ni {WEIGHTS}, ni {INDEX}, ni {PICKLED}.")
    shards = [weights]
    if weights.endswith(".json"):
        shards = sorted({str(shard) for shard in read_json(folder / weights)["weight_map"].values()})
        outside = next((shard for shard in shards if Path(shard).name != shard), None)
        if outside is not None:
            raise UserError(f"{folder / weights} nomme {outside}, hors de son dossier.")
    return values, Tensors([folder / shard for shard in shards])


def download(name: str) -> Path:
    """Télécharge le modèle `name` (organisation/modèle) du hub, et renvoie son dossier.

    UserError sans l'extra, ou sans réseau.
    """
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError:
        raise UserError("hf: demande l'extra hf : pip install -c constraints.txt -e '.[hf]'.") from None
    patterns = [CONFIG, "model*.safetensors", INDEX, *ADAPTERS, *TEXT_FILES]
    try:
        folder = Path(snapshot_download(name, allow_patterns=patterns))
        if not any(folder.glob("*model*.safetensors")):  # un vieux dépôt n'a que des .bin
            folder = Path(snapshot_download(name, allow_patterns=[*patterns, "pytorch_model*.bin*"]))
        return folder
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError) as error:
        raise UserError(
            f"hf:{name} ne se télécharge pas ({type(error).__name__}) : vérifiez le nom et le réseau, "
            f"ou donnez un dossier local."
        ) from None
