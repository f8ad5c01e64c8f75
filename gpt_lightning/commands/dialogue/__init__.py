"""Parler au modèle dans un terminal : generate, interactif (un texte de départ, plusieurs essais), et chat."""
