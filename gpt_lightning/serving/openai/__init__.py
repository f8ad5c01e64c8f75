"""Le protocole d'OpenAI : lire une demande (request, fields), écrire une réponse (response)."""
