"""Tells errors that speak to people from those that only a traceback explains."""

from optops.registry import RegistryError
from optops.stages.base import StageError
from optops.tracking import DigestMismatchError


def is_expected(error: Exception) -> bool:
    """Returns whether an error speaks to people by itself, so that a traceback would only hide it."""
    if isinstance(error, StageError | RegistryError | DigestMismatchError | FileNotFoundError):
        return True
    # What we derive from ValueError is written for people; what others do (UnicodeDecodeError, pydantic's) is not.
    ours = type(error).__module__.partition(".")[0] == "optops"
    return type(error) is ValueError or (ours and isinstance(error, ValueError))
