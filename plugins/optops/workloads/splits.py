"""How one corpus is split, for every workload. Light: read while Airflow parses."""

from collections.abc import Iterable
from typing import Self

from pydantic import Field, model_validator

from optops.recipe import Section

SPLIT_NAMES = ("train", "validation", "test")


class Fractions(Section):
    """How one corpus is split; the shares of splits that have files of their own are left out."""

    train: float = Field(0.9, gt=0, lt=1, description="Share of the training split.")
    validation: float = Field(0.05, gt=0, lt=1, description="Share of the validation split.")
    test: float = Field(0.05, gt=0, lt=1, description="Share of the test split.")

    @model_validator(mode="after")
    def _make_a_whole(self) -> Self:
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"train, validation and test add up to {total:g}; they must add up to 1")
        return self


def shares(fractions: Fractions, names: Iterable[str]) -> dict[str, float]:
    """Returns the share of a corpus for each of the splits that it is to give; they add up to 1."""
    wanted = {name: float(getattr(fractions, name)) for name in names}
    return {name: share / sum(wanted.values()) for name, share in wanted.items()}
