"""Tells a server that is gone from everything else that a store may answer: the one may come back, the other not."""

import re

UNREACHABLE = frozenset(
    {
        "ChunkedEncodingError",  # requests, an answer that breaks off
        "ConnectionError",  # Python, requests, botocore
        "HTTPClientError",  # botocore, its timeouts among them
        "OperationalError",  # SQLAlchemy
        "ServiceRequestError",  # azure.core
        "ServiceResponseError",  # azure.core
        "ServiceUnavailable",  # google.api_core
        "Timeout",  # requests
        "TimeoutError",  # Python
        "TransportError",  # google.auth
    }
)
"""Names of the exceptions, or of what they derive from, with which the clients of the stores say that nobody answers.

By name, for only those of the store in use are installed.
"""

MLFLOW_SAYS = re.compile(
    "failed with exception|while downloading.*(connection (broken|aborted|reset|refused|(was )?closed)|new connection"
    "|could not connect|max retries exceeded|time(d )?out|incompleteread|bytes expected|5.. server error)",
    re.IGNORECASE | re.DOTALL,
)
"""How MLflow says it. Of an error in a downloading thread it keeps the words alone; a missing file has others."""


def is_unreachable(error: BaseException | None) -> bool:
    """Returns whether an error means that a server was gone, so that a retry may help."""
    from mlflow import MlflowException

    while error is not None:
        if UNREACHABLE.intersection(kind.__name__ for kind in type(error).__mro__):
            return True
        if isinstance(error, MlflowException) and MLFLOW_SAYS.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def is_no_fault_of_a_model(error: BaseException) -> bool:
    """Returns whether an error that came up at work with a model speaks of the store or of this machine.

    A file that is missing is the model's fault: all that it needs came with it.
    """
    ours = isinstance(error, OSError | MemoryError) and not isinstance(error, FileNotFoundError)
    return ours or is_unreachable(error)
