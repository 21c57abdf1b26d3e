"""WHO ELSE SEES IT: MLflow, as a mirror of the ledger. Decides nothing."""
