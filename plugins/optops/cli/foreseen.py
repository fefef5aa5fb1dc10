"""What the label checks are bound to find: told from what was read, before any image is opened."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from optops.pipeline import TRAIN
from optops.sections import CheckSetting

if TYPE_CHECKING:
    import pandas as pd

    from optops.recipe import Recipe
    from optops.workloads.base import Workload


@dataclass(frozen=True)
class Foreseen:
    """What one label check is bound to find in one split.

    Attributes:
        text: How many examples, and the first one with the reason.
        stops: Whether a run would stop there.
    """

    text: str
    stops: bool


def foreseen(recipe: "Recipe", workload: "Workload", splits: "Mapping[str, pd.DataFrame]") -> Iterator[Foreseen]:
    """Gives what the label checks are bound to find, check by check.

    Raises:
        ValueError: If no label check can be run on these examples.
    """
    import pandas as pd

    examples = pd.concat([frame.assign(split=split) for split, frame in splits.items()], ignore_index=True)
    for check, reasons in workload.foreseen_defects(examples, recipe):
        own = workload.sections().checks[check]
        severity, limit = recipe.check_labels.checks.get(check, CheckSetting()).rule(own.severity, own.limit)
        for split, rows in examples.groupby("split", sort=False):
            wrong = reasons[reasons.index.intersection(rows.index)]
            if severity == "off" or wrong.empty:
                continue
            removable = split == TRAIN and recipe.check_labels.quarantine
            over = severity == "critical" and len(wrong) / len(rows) > limit
            first = rows.loc[wrong.index[0]]
            yield Foreseen(
                f"data.{split}: label check {check}: {len(wrong)} of {len(rows)} {workload.examples_name}, first "
                f"{first['file']}:{first['line']}: {wrong.iloc[0]}",
                stops=over and not removable,
            )
