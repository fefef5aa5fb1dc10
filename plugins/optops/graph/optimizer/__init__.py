"""The graph optimiser: reads a finished model, rewrites what it knows, proves that the result computes the same."""
