"""The kinds of model optops knows: one module or folder each behind the contract in `base`."""
