"""What the optimiser refuses."""


class OptimizerError(RuntimeError):
    """A model that can not be optimised at all; the message says why, and what would help."""
