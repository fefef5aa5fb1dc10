"""The registered model in MLflow: its versions, the aliases `challenger` and `champion`, and the way back."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlflow import MlflowClient, MlflowException, get_registry_uri

from optops.candidate import Artifact
from optops.home import file_lock

CHALLENGER, CHAMPION = "challenger", "champion"
HISTORY_LENGTH = 50
HISTORY_TAG = "optops.champions"
CANDIDATE_TAG = "optops.candidate"
ARTIFACT_TAG = "optops.artifact"
DIGEST_TAG = "optops.digest"
PROMOTED_TAG = "optops.promoted_at"
ROLLED_BACK_TAG = "optops.rolled_back_at"


class RegistryError(RuntimeError):
    """Something that the registry can not do; the message names the model and the remedy."""


@dataclass(frozen=True)
class Version:
    """One version of a registered model.

    Attributes:
        name: Of the registered model.
        version: Its number, as MLflow writes it.
        candidate: Key of the candidate it was made from.
        artifact: That candidate's files.
        tags: All tags of the version.
    """

    name: str
    version: str
    candidate: str
    artifact: Artifact
    tags: Mapping[str, str]


def version_by_alias(client: MlflowClient, name: str, alias: str) -> Version | None:
    """Returns the version that an alias names, or None if there is no such model or alias."""
    try:
        found = client.get_model_version_by_alias(name, alias)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise
    return _version(found)


def _version(found: Any) -> Version:
    tags = dict(found.tags)
    missing = [tag for tag in (CANDIDATE_TAG, ARTIFACT_TAG, DIGEST_TAG) if tag not in tags]
    if missing:
        raise RegistryError(
            f"version {found.version} of {found.name!r} lacks the tags {', '.join(missing)}: optops did not make it. "
            "Move its alias to a version that optops made, or register under another name (`registry.name`)"
        )
    artifact = Artifact(tags[ARTIFACT_TAG], tags[DIGEST_TAG])
    return Version(found.name, str(found.version), tags[CANDIDATE_TAG], artifact, tags)


def check_ours(client: MlflowClient, name: str) -> None:
    """Refuses a registered model whose champion or challenger others made.

    Raises:
        RegistryError: Names the version and the remedy.
    """
    for alias in (CHAMPION, CHALLENGER):
        version_by_alias(client, name, alias)


def set_challenger(client: MlflowClient, name: str, version: str) -> None:
    """Makes a version the challenger.

    Raises:
        RegistryError: If others made the one that is: its alias is theirs.
    """
    version_by_alias(client, name, CHALLENGER)
    client.set_registered_model_alias(name, CHALLENGER, version)


def promote(client: MlflowClient, name: str, version: str, expected: str | None) -> str | None:
    """Makes a version the champion and remembers the one before.

    Args:
        client: Of the registry.
        name: Of the registered model.
        version: The new champion.
        expected: The champion that the gate compared with; None if there was none.

    Returns:
        The version that was the champion before, if any.

    Raises:
        RegistryError: If the champion changed since the gate, or changes meanwhile: what was proved no longer holds.
    """
    with file_lock(f"champion-{name}"):
        reigning = version_by_alias(client, name, CHAMPION)
        history = _history(client, name)
        if reigning and reigning.version == version:
            # A retry, or a person set the alias: whatever follows it may be missing.
            if history[-1:] != [version]:
                history = [*history, version]
                _crown(client, name, version, history)
            return history[-2] if len(history) > 1 else None
        if (reigning.version if reigning else None) != expected:
            raise RegistryError(
                f"the champion of {name!r} is now version {reigning.version if reigning else 'none'}, but the gate "
                f"compared with {expected or 'none'}: another run promoted meanwhile. Run again, in Airflow from the "
                "task benchmark on, or by a new run if the recipe requires approval, to compare with it"
            )
        if expected and history[-1:] != [expected]:
            # A champion that a person set by hand is none that the history knows, and the one to go back to.
            _untag_rollback(client, name, expected)
            history = [*history, expected]
        remembered, promotions = [*history, version], _promotions(client, name)
        client.set_registered_model_alias(name, CHAMPION, version)
        _crown(client, name, version, remembered)
        _check_undisturbed(client, name, version, remembered, promotions)
        return expected


def rollback(client: MlflowClient, name: str) -> tuple[str, str]:
    """Makes the previous champion the champion again: the last before this one that was not rolled back itself.

    Returns:
        The version that was the champion and the one that is now.

    Raises:
        RegistryError: If there is no champion or none before it.
    """
    with file_lock(f"champion-{name}"):
        reigning = version_by_alias(client, name, CHAMPION)
        if reigning is None:
            raise RegistryError(f"{name!r} has no champion in {get_registry_uri()}, so there is nothing to roll back")
        good = {
            str(found.version)
            for found in client.search_model_versions(f"name = '{name}'")
            if ROLLED_BACK_TAG not in found.tags
        }
        before = _before(_history(client, name), reigning.version)
        history = [version for version in before if version != reigning.version and version in good]
        if not history:
            raise RegistryError(f"version {reigning.version} is the only champion of {name!r} that there is")
        # The alias goes last: whatever ends this before, the version is the champion still, and to repeat it goes on.
        client.set_model_version_tag(name, reigning.version, ROLLED_BACK_TAG, _now())
        _remember(client, name, history)
        client.set_registered_model_alias(name, CHAMPION, history[-1])
        return reigning.version, history[-1]


def _crown(client: MlflowClient, name: str, version: str, history: list[str]) -> None:
    # The history goes last: until it ends with the champion, to promote that again does all of this.
    client.set_model_version_tag(name, version, PROMOTED_TAG, _now())
    _untag_rollback(client, name, version)
    _remember(client, name, history)


def _untag_rollback(client: MlflowClient, name: str, version: str) -> None:
    if ROLLED_BACK_TAG in client.get_model_version(name, version).tags:
        client.delete_model_version_tag(name, version, ROLLED_BACK_TAG)


def _before(history: list[str], version: str) -> list[str]:
    """Returns the champions before a version reigned last; all, if a person made it the champion by hand."""
    if version not in history:
        return history
    return history[: len(history) - 1 - history[::-1].index(version)]


def _history(client: MlflowClient, name: str) -> list[str]:
    # MLflow keeps no history of aliases, so the registered model carries it as a tag, oldest first.
    return list(json.loads(client.get_registered_model(name).tags.get(HISTORY_TAG, "[]")))


def _remember(client: MlflowClient, name: str, history: list[str]) -> None:
    client.set_registered_model_tag(name, HISTORY_TAG, json.dumps(history[-HISTORY_LENGTH:]))


def _promotions(client: MlflowClient, name: str) -> dict[str, str]:
    """Returns when each version was promoted, of those that were."""
    found = client.search_model_versions(f"name = '{name}'")
    return {str(one.version): one.tags[PROMOTED_TAG] for one in found if PROMOTED_TAG in one.tags}


def _check_undisturbed(
    client: MlflowClient, name: str, version: str, history: list[str], promotions: Mapping[str, str]
) -> None:
    # The lock holds on this machine alone, and MLflow's registry has no transactions.
    overwritten = [
        other
        for other, moment in _promotions(client, name).items()
        if other != version and promotions.get(other) != moment
    ]
    if overwritten:
        _remember(client, name, [*history[:-1], *overwritten, version])
        raise RegistryError(
            f"another machine promoted version {', '.join(overwritten)} of {name!r} at the same moment, and this one, "
            f"version {version}, is the champion now though nothing compared them. `optops rollback {name}` goes back "
            "to it; then run again, in Airflow from the task benchmark on, to compare with it"
        )
    reigning = version_by_alias(client, name, CHAMPION)
    champion = reigning.version if reigning else "none"
    found, wanted = _history(client, name), history[-HISTORY_LENGTH:]
    wrong = []
    if champion != version:
        wrong.append(f"the champion is version {champion}, not {version}")
    if found != wanted:
        wrong.append(f"the tag {HISTORY_TAG!r} lists {found}, not {wanted}")
    if wrong:
        # Where the champion is the right one, to promote it again mends the history.
        again = "benchmark on, to compare with it" if champion != version else "promote on, to write the tag anew"
        raise RegistryError(
            f"another machine promoted a version of {name!r} at the same moment: {' and '.join(wrong)}. Run again, in "
            f"Airflow from the task {again}"
        )


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
