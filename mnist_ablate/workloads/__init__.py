"""WHAT IS TRAINED: the seam `Workload`, and the workloads behind it. Judges nothing, records nothing."""
