"""Ce que l'on peut lancer : `python -m gpt_lightning <commande>`. Chaque commande tient en un écran, sur sa pièce."""

COMMANDS = {
    "train": "entraîner un modèle (train.py)",
    "generate": "continuer un texte (generate.py)",
    "chat": "converser avec un modèle qui a appris à répondre",
    "classify": "donner une étiquette à un texte",
    "serve": "servir un modèle : le protocole d'OpenAI, plusieurs clients à la fois",
    "play": "voir un modèle penser : sa page, dans le navigateur",
    "evaluate": "mesurer un modèle sur un corpus : perte, perplexité, bits par octet",
    "trace": "retrouver dans le corpus ce qu'un texte en copie",
    "prepare": "encoder un corpus d'avance, et montrer ce qu'il contient",
    "cache": "montrer les corpus encodés, et les effacer",
    "export": "écrire les poids pour ailleurs : Hugging Face, safetensors",
}
