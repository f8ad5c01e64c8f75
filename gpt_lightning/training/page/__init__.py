"""La page d'une exécution, ou d'un balayage : un fichier HTML seul, sans script ni réseau, qui se lit et s'imprime."""
