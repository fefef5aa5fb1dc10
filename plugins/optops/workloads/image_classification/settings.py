"""The sections of a recipe that are image classification's own: data, model, thresholds. Light: read while parsing."""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal
from unicodedata import normalize

from pydantic import BeforeValidator, Field, field_validator

from optops.paths import resolve_path
from optops.recipe_section import Section
from optops.sections import StandardCheck
from optops.workloads.functional import FunctionalDistill
from optops.workloads.splits import Fractions, SplitData
from optops.workloads.yaml_words import class_list

CHECKS = {
    "unreadable": StandardCheck(
        "critical", 0.0, "an image that is not there or can not be decoded to its last pixel", fixed=True
    ),
    "too_small": StandardCheck("critical", 0.002, "less than `min_side` pixels high or wide"),
    "dark_16_bit": StandardCheck("warning", 0.02, "16 bits of which 12 at most are used, which is nearly black"),
    "unknown_class": StandardCheck("critical", 0.0, "a label that is not among `classes`"),
    "duplicate": StandardCheck("critical", 0.05, "the same pixels with the same label again"),
    "conflicting_class": StandardCheck("critical", 0.0, "the same pixels with another label"),
    "overlap": StandardCheck("critical", 0.0, "an image that is also in another split, each split by its own share"),
    "class_balance": StandardCheck("warning", 0.0, "a class with less than `min_share` of the mean class's examples"),
}

STARTING_VALUES = {
    "data.classes": ["cat", "dog"],
    "data.folder": "../../data/{name}",
    "data.train": "train",
    "data.validation": "validation",
    "data.test": "test",
    "train.batch_tokens": 32,
    "distill.train.batch_tokens": 32,
    "prune.train.batch_tokens": 32,
}
"""What a new recipe says of its data and of its batches, to be changed."""


class ClassifiedImages(SplitData):
    """Images with a class each: a folder or a CSV file for each split, or a corpus that is split by seed."""

    classes: Annotated[tuple[str, ...], BeforeValidator(class_list)] = Field(
        min_length=2, description="All classes, as the labels name them."
    )
    folder: str = Field(".", description="Folder that the others are in; relative to the recipe.")
    train: str | None = Field(
        None,
        description="The training split: a folder with a folder of images for each class, or a CSV file with the "
        "columns `file` (relative to the CSV file) and `label`.",
    )
    validation: str | None = Field(None, description="The validation split, for every choice.")
    test: str | None = Field(None, description="The test split, for the gate alone.")
    corpus: str | None = Field(
        None, description="What the splits that have no place of their own are made of, by `fractions`."
    )
    fractions: Fractions = Field(
        default_factory=lambda: Fractions(), description="How `corpus` is split; equal files stay in one split."
    )
    mirrored: bool = Field(True, description="Mirror training images left to right at random.")
    shifted: float = Field(
        0.125, ge=0, lt=1, description="Move training images at random by at most this share of their side."
    )

    @field_validator("classes")
    @classmethod
    def _are_different(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        # As labels are read: with their accents in one character.
        composed = tuple(normalize("NFC", name) for name in value)
        if len(set(composed)) < len(composed):
            raise ValueError(f"classes {list(value)} name one twice; write each once")
        return composed

    def places(self) -> dict[str, Path]:
        """Returns the folder or CSV file by split (or `corpus`), with absolute paths."""
        return {name: resolve_path(place, Path(self.folder)) for name, place in self.given().items()}


class ClassifierModel(Section):
    """A residual network (ResNet) of these sizes."""

    depth: Literal[18, 50] = Field(18, description="ResNet-18 of plain blocks, or ResNet-50 of bottlenecks.")
    width: float = Field(1.0, gt=0, le=4, description="Multiplies the published widths; they stay multiples of 8.")
    image_size: int = Field(
        224, ge=8, le=2048, description="Height and width that images are resized to, whatever their shape."
    )
    small_stem: bool = Field(
        False, description="Start with one 3 x 3 convolution at full size, for images of 64 pixels or less."
    )


class Thresholds(Section):
    """What the label checks call too small and rare."""

    min_side: int = Field(8, ge=1, description="Least height and width of an image, in pixels.")
    min_share: float = Field(
        0.1, ge=0, lt=1, description="A class with fewer examples than this share of the mean class is rare."
    )


class ClassifierDistill(FunctionalDistill):
    """How a student is made from the trained model."""

    # It sees the same images.
    student_sizes: ClassVar[tuple[str, ...]] = ("depth", "width", "small_stem")

    student: dict[str, Any] = Field(
        default_factory=lambda: {"width": 0.5},
        description="Sizes of the student that differ from the model's, for example `width: 0.5`.",
    )
    temperature: float = Field(2.0, ge=0.01, le=100, description="Temperature that softens both distributions.")
    initialize: Literal[False] = Field(False, description="Students start afresh.")
