"""L'entraînement : le LightningModule, les optimiseurs, le plan de la course, les callbacks."""
