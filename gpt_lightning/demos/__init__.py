"""Les démonstrations : `python -m gpt_lightning.demos.<nom>`. `compute()` calcule, `render()` montre."""

DEMOS = {
    "strategies": "les stratégies de décodage côte à côte",
    "temperature": "la température en image",
    "top_k": "le top-k pas à pas",
    "nucleus": "les jetons que chaque filtre garde",
    "attention": "où regarde chaque tête d'une couche",
    "cache": "ce que le cache (KV cache) évite de recalculer",
    "windows": "les fenêtres sur la base de jetons",
    "steps": "accumulation, processus et reprise",
    "batching": "le lot continu du serveur",
    "schedule": "le plan du taux d'apprentissage",
    "instruction": "ce qu'un modèle apprend d'une conversation",
    "lora": "ce que LoRA ajoute à une matrice",
}
