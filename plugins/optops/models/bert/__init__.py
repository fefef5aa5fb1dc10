"""BERT and ALBERT as text classifiers: encoder, configuration, smaller models cut out of larger ones."""
