"""WHERE IT IS KEPT: Optuna's storage, its lock, what was registered, and what is recorded of a plan. Trains nothing."""
