"""Structured pruning: the heads and feed-forward units that matter least are cut out, and the model is smaller."""
