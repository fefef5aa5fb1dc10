"""Channel pruning of any functional Keras model: which channels go together, which matter least, a smaller model."""
