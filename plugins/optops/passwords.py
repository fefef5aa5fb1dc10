"""Keeps passwords out of what is shown or kept; light, as every command may have to say what went wrong."""

import re

SERVED_DATABASES = ("postgresql", "postgres", "mysql", "mssql")

# A database's password may hold a slash or an @ as it is.
_USER_AND_PASSWORD = re.compile(rf"((?:{'|'.join(SERVED_DATABASES)})[+\w]*://)\S*@|(?<=//)[^/\s]*@")


def without_password(text: str) -> str:
    """Returns a text with the user and password of every URI in it left out, to be shown or kept."""
    return _USER_AND_PASSWORD.sub(r"\1", text)
