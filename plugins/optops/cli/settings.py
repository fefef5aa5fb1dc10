"""`--set KEY=VALUE`, which several commands have."""

from collections.abc import Iterable
from typing import Any

from optops.cli.console import CommandError


def read_settings(settings: Iterable[str]) -> dict[str, Any]:
    """Returns dotted keys and values of `KEY=VALUE` texts; values are YAML.

    Raises:
        CommandError: If one is not of that form.
    """
    import yaml

    from optops.yaml_text import load_yaml

    read = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key.strip():
            raise CommandError(f"--set {setting!r} is not KEY=VALUE; write for example --set gate.tolerance=0.01")
        try:
            read[key.strip()] = load_yaml(value)
        except (yaml.YAMLError, ValueError) as error:
            raise CommandError(f"--set {key}: {value!r} is not valid YAML: {error}") from None
    return read
