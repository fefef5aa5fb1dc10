"""The sections of a recipe that are super-resolution's own: data, model, thresholds. Light: read while parsing."""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from optops.paths import resolve_path
from optops.recipe_section import NamedSection, Section
from optops.sections import StandardCheck
from optops.workloads import functional
from optops.workloads.functional import FunctionalDistill
from optops.workloads.splits import SPLIT_NAMES, Fractions, SplitData

CHECKS = {
    "unreadable": StandardCheck(
        "critical", 0.0, "an image that is truncated, damaged, none, or has too many pixels", fixed=True
    ),
    "too_small": StandardCheck(
        "critical", 0.0, "less than `min_side` pixels high or wide; in training less than a patch"
    ),
    "missing_partner": StandardCheck("critical", 0.0, "one image of a pair without the other", fixed=True),
    "wrong_scale": StandardCheck(
        "critical", 0.0, "a large image that is not `scale` times as large as its small one", fixed=True
    ),
    "misaligned": StandardCheck(
        "critical",
        0.0,
        "a small image that fits better at another place of the large one, found to one pixel of the large one",
    ),
    "different_content": StandardCheck(
        "critical", 0.0, "a small image that matches the large one, resized, at less than `min_match` dB"
    ),
    "duplicate": StandardCheck("critical", 0.05, "the same pixels again in a split, whatever the format"),
    "overlap": StandardCheck("critical", 0.0, "an image that is also in another split, each split by its own share"),
    "flat": StandardCheck("warning", 0.02, "an image with nothing to be seen"),
}

STARTING_VALUES = {
    "data.scale": 2,
    "data.folder": "../../data/{name}",
    "data.train": "train",
    "data.validation": "validation",
    "data.test": "test",
    "train.batch_tokens": 16,
    "distill.train.batch_tokens": 16,
    "prune.train.batch_tokens": 16,
}
"""What a new recipe says of its data and of its batches, to be changed."""

_PIXELS = "images are learnt by their absolute error, without classes"
IGNORED = {
    **functional.IGNORED,
    **{f"{stage}.temperature": _PIXELS for stage in ("distill", "prune")},
    **{f"{section}.label_smoothing": _PIXELS for section in ("train", "distill.train", "prune.train")},
}
"""Keys that change nothing for networks that enlarge images, and why."""


class ImageFolders(NamedSection):
    """A folder of images, or two folders whose images of one name belong together."""

    main_key: ClassVar[str] = "high"

    high: str = Field(description="Folder with the images as they should be.")
    low: str | None = Field(
        None,
        description="Folder with their low-resolution forms, under the same names or with `xSCALE` at the end; if "
        "absent they are made by bicubic resizing.",
    )


class SuperResolutionData(SplitData):
    """Folders of images: one, or a pair, for each split, or a corpus from which those without are split by seed."""

    scale: Literal[2, 3, 4] = Field(description="How many times as large the output is, along both sides.")
    folder: str = Field(".", description="Folder that the others are in; relative to the recipe.")
    train: ImageFolders | None = Field(None, description="The training split.")
    validation: ImageFolders | None = Field(None, description="The validation split, for every choice.")
    test: ImageFolders | None = Field(None, description="The test split, for the gate alone.")
    corpus: ImageFolders | None = Field(
        None, description="What the splits that have no folder of their own are made of, by `fractions`."
    )
    fractions: Fractions = Field(
        default_factory=lambda: Fractions(),
        description="How `corpus` is split; equal files stay in one split.",
    )
    patch: int = Field(48, ge=8, le=1024, description="Side of the squares that are trained on, in pixels of `high`.")
    patches: int | None = Field(
        None, ge=1, description="Squares of one epoch; so many as cover the training images once if not given."
    )
    smaller_copies: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        (),
        description="Train on copies of the images resized by these factors too, for example [0.9, 0.8, 0.7, 0.6]; "
        "for data without `low`.",
    )

    @model_validator(mode="after")
    def _patches_fit(self) -> Self:
        if self.patch % self.scale:
            raise ValueError(
                f"patch {self.patch} is no multiple of scale {self.scale}; take {self.patch - self.patch % self.scale}"
            )
        source = self.train or self.corpus
        if self.smaller_copies and source is not None and source.low is not None:
            raise ValueError("`smaller_copies` are made of images alone; remove it, or the training split's `low`")
        return self

    def folders(self) -> dict[str, ImageFolders]:
        """Returns the folders by split (or `corpus`), with absolute paths."""
        base = Path(self.folder)
        found: dict[str, ImageFolders] = {}
        for name in (*SPLIT_NAMES, "corpus"):
            folders: ImageFolders | None = getattr(self, name)
            if folders is not None:
                low = None if folders.low is None else str(resolve_path(folders.low, base))
                found[name] = ImageFolders(high=str(resolve_path(folders.high, base)), low=low)
        return found


class SuperResolutionModel(Section):
    """A residual network of these sizes; it enlarges the luma, the chroma is resized."""

    blocks: int = Field(16, ge=1, le=128, description="Residual blocks.")
    channels: int = Field(64, ge=8, le=1024, multiple_of=8, description="Channels of every convolution but the last.")
    batch_norm: bool = Field(True, description="Whether batch norms follow the convolutions of the body.")
    residual_scaling: float = Field(
        1.0, gt=0, le=1, description="What a block's result is multiplied with before it is added."
    )


class Thresholds(Section):
    """What the label checks call too small, different and so on."""

    min_side: int = Field(
        32, ge=1, description="Least height and width of an image, in pixels; in training at least one `patch`."
    )
    min_match: float = Field(
        20.0, gt=0, description="Least PSNR, in dB, of a low-resolution image against the resized large one."
    )
    min_spread: float = Field(
        2.0, ge=0, description="An image whose luma has a smaller standard deviation, of 255 levels, is flat."
    )


class SuperResolutionDistill(FunctionalDistill):
    """How a student is made from the trained model."""

    student: dict[str, Any] = Field(
        default_factory=lambda: {"blocks": 4},
        description="Sizes of the student that differ from the model's, for example `blocks: 4`.",
    )
    initialize: bool = Field(
        True, description="Start the student from evenly spaced blocks of the teacher, if their channels are the same."
    )
