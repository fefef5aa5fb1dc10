"""Functional and sequential Keras models of any shape: kept without code, followed call by call, folded."""
