"""The encoder-decoder Transformer: configuration, model, and slicing into smaller ones."""
