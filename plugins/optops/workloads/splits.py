"""How one corpus is split, for every workload. Light: read while Airflow parses."""

from pathlib import Path
from typing import Any, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from optops.paths import resolve_path
from optops.recipe_section import Section

SPLIT_NAMES = ("train", "validation", "test")


def within_folder(path: str) -> str:
    """Returns a path as it lies below the folder of the data; of one that leads elsewhere the name alone is kept."""
    written = resolve_path(path, None)
    return written.name if written.is_absolute() or ".." in written.parts else path


class Fractions(Section):
    """How one corpus is split; the shares of splits that have files of their own are left out."""

    train: float = Field(0.9, gt=0, lt=1, description="Share of the training split.")
    validation: float = Field(0.05, gt=0, lt=1, description="Share of the validation split.")
    test: float = Field(0.05, gt=0, lt=1, description="Share of the test split.")
    seed: int = Field(
        17,
        ge=0,
        le=2**31 - 1,
        description="Seed of the split. It is not that of the recipe: with another one a champion would be tested on "
        "examples that it was trained on.",
    )

    @model_validator(mode="after")
    def _make_a_whole(self) -> Self:
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"train, validation and test add up to {total:g}; they must add up to 1")
        return self


class SplitData(Section):
    """What all sections `data` share that have `folder`, `train`, `validation`, `test`, `corpus` and `fractions`.

    A workload declares these keys itself, for what a split names differs: a file, a pair of files, a folder.
    """

    @field_validator("folder", mode="after", check_fields=False)
    @classmethod
    def _resolve_folder(cls, value: str, info: ValidationInfo) -> str:
        return str(resolve_path(value, (info.context or {}).get("folder")))

    @field_validator("folder", mode="before", check_fields=False)
    @classmethod
    def _folder_is_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, Path) else value

    @model_validator(mode="after")
    def _all_splits_come_from_somewhere(self) -> Self:
        given = self.given()
        missing = [name for name in SPLIT_NAMES if name not in given]
        if "corpus" in given and not missing:
            raise ValueError("`corpus` stands beside all three splits; remove it, or the split it is to give")
        if "corpus" not in given and missing:
            raise ValueError(f"{', '.join(missing)} missing; give all three splits, or a `corpus` to split")
        return self

    def given(self) -> dict[str, Any]:
        """Returns what the recipe names, by split (or `corpus`), less what it leaves out."""
        named = {name: getattr(self, name) for name in (*SPLIT_NAMES, "corpus")}
        return {name: value for name, value in named.items() if value is not None}

    def shares(self) -> dict[str, float]:
        """Returns the share of `corpus` for each split that the recipe does not name; they add up to 1."""
        given, fractions = self.given(), getattr(self, "fractions")  # noqa: B009 - declared by the workload
        wanted = {name: float(getattr(fractions, name)) for name in SPLIT_NAMES if name not in given}
        return {name: share / sum(wanted.values()) for name, share in wanted.items()}
