"""Translation: parallel text in, a model that translates, BLEU as its metric."""
