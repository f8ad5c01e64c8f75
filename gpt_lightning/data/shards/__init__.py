"""Les fragments : des corpus déjà en jetons, écrits par d'autres outils ou par `prepare format=bin`."""
