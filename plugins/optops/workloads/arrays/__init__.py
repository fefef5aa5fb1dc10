"""Workload `arrays`: a finished model of any kind, on examples that are rows of NumPy arrays."""
