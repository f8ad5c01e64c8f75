"""Le service HTTP : le protocole d'OpenAI sur un modèle, et la page qui le montre.

`openai/request` lit les demandes, `openai/response` écrit les réponses, `worker` tient le modèle et son lot continu,
`guard` refuse qui n'a rien à faire là, `app` les relie, `server` écoute.
Rien ici ne lit un chemin qui vienne d'une demande.
"""
