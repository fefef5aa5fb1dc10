"""Words that YAML reads as something else than text."""

from collections.abc import Iterable
from datetime import date
from typing import Any


def class_list(value: Any) -> Any:
    """Returns a list of classes with whole numbers, as YAML reads a folder called 0, as the text they are in the file.

    Raises:
        ValueError: If one is a word that YAML reads as something else.
    """
    if not isinstance(value, list | tuple):
        return value
    require_words(value)
    return [str(name) if isinstance(name, int) else name for name in value]


def require_words(values: Iterable[object], where: str = "", what: str = "class") -> None:
    """Refuses what YAML did not read as the words they are in the file.

    Args:
        values: The names of the classes, for example, as YAML reads them.
        where: What the message begins with.
        what: What one of them is.

    Raises:
        ValueError: Names the first one.
    """
    for value in values:
        if value is None or isinstance(value, bool):
            raise ValueError(
                f"{where}{what} {value} is no text: YAML reads bare yes, no, on, off, true, false and null as "
                "something else; put them in quotes"
            )
        if isinstance(value, float | date):
            raise ValueError(
                f"{where}{what} {value} is no text: YAML reads bare numbers with a point and bare dates as something "
                "else, and may leave out zeros; put them in quotes"
            )
