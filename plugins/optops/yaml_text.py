"""Reads YAML as people write it: a number is one only where it can be written back as it stands in the file.

YAML 1.1 reads `00010` as 8, `1_000` as 1000 and `12:30` as 750: other classes than the folders that are called so. Here
they stay text, of which a key that holds a number makes one.
"""

import re
from typing import Any

import yaml

_INT = "tag:yaml.org,2002:int"


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own
        first: [(tag, pattern) for tag, pattern in resolvers if tag != _INT]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver(_INT, re.compile(r"^(?:0|-?[1-9][0-9]*)$"), list("-0123456789"))


def load_yaml(text: str) -> Any:
    """Returns what a text in YAML holds.

    Raises:
        yaml.YAMLError: If it is no YAML.
        ValueError: If what looks like a date is none, such as 2024-02-30.
    """
    return yaml.load(text, Loader=_Loader)  # noqa: S506 - it is a SafeLoader


def compose_yaml(text: str) -> yaml.Node | None:
    """Returns the nodes of a text in YAML, which know their lines; None if it holds nothing.

    Raises:
        yaml.YAMLError: If it is no YAML.
    """
    node: yaml.Node | None = yaml.compose(text, Loader=_Loader)
    return node
