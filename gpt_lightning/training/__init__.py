"""L'entraînement : le LightningModule, les optimiseurs, le plan, les callbacks."""
