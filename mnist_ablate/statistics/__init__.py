"""WHAT IT MEANS: rows and claims in, intervals and verdicts out. Reads and writes nothing."""
