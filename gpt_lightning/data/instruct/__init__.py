"""Affiner sur des consignes : lire des conversations (formats), en faire des lots (module)."""
