"""Words that YAML reads as something else than text."""

from collections.abc import Iterable


def require_words(values: Iterable[object], where: str = "") -> None:
    """Refuses classes that YAML did not read as the words they are in the file.

    Args:
        values: The names of the classes, as YAML reads them.
        where: What the message begins with.

    Raises:
        ValueError: Names the first one.
    """
    for value in values:
        if value is None or isinstance(value, bool):
            raise ValueError(
                f"{where}class {value} is no text: YAML reads bare yes, no, on, off, true, false and null as something "
                "else; put them in quotes"
            )
