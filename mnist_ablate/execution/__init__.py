"""HOW IT RUNS: the driver, Dask's workers, search and progress. Knows no metric and no model."""
