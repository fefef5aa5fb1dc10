"""The reigning champion among the models of a run: what it is called there, its files, and what to do without them."""

from pathlib import Path

from optops.registry import Version
from optops.stages.base import Job, StageError

CHAMPION_NAME = "reigning champion"


def fetch_champion(job: Job, champion: Version) -> Path:
    """Returns the champion's files.

    Raises:
        StageError: If the store no longer has them, or others.
    """
    try:
        return job.tracking.fetch(champion.artifact)
    except Exception as error:
        raise unusable_champion(champion, "can not be fetched", error) from error


def unusable_champion(champion: Version, what: str, error: Exception) -> StageError:
    """Returns the error of a run whose models can not be compared with the champion, with the remedy."""
    return StageError(
        f"version {champion.version}, the champion of {champion.name!r}, {what} ({type(error).__name__}: {error}), so "
        "that nothing can be proved against it. If that is for good, take the alias `champion` from it in MLflow, or "
        "register under another name (`registry.name`), and run again"
    )
