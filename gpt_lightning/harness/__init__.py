"""Mesurer un modèle comme les autres le font : le harnais d'évaluation d'EleutherAI (lm-eval)."""
