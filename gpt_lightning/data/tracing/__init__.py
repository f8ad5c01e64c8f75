"""Retrouver un texte dans un corpus : ses mots, leur index de suffixes, les passages qui y sont mot pour mot."""
