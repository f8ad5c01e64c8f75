"""Classer des textes : lire des textes étiquetés (formats), en faire des lots (module)."""
