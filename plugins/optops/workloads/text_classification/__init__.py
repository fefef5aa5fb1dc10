"""Workload `text_classification`: texts in, classes and their probabilities out."""
