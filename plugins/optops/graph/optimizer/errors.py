"""What the optimiser refuses."""


class OptimizerError(RuntimeError):
    """A model that can not be optimised at all; the message says why, and what would help."""


class SignatureError(OptimizerError):
    """One signature can not be used as it was rewritten; others may.

    Args:
        signature: Its name.
        reason: For people.
    """

    def __init__(self, signature: str, reason: str) -> None:
        super().__init__(f"signature {signature!r} {reason}")
        self.signature = signature
