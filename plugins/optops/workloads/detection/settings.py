"""The sections of a recipe that are detection's own: data, model, thresholds. Light: read while Airflow parses."""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from optops.paths import resolve_path
from optops.recipe_section import NamedSection, Section
from optops.sections import StandardCheck
from optops.workloads import functional
from optops.workloads.functional import FunctionalDistill
from optops.workloads.splits import SPLIT_NAMES, Fractions, SplitData
from optops.workloads.yaml_words import class_list

CHECKS = {
    "malformed": StandardCheck("critical", 0.002, "an annotation that can not be read, or a number in it that is none"),
    "no_area": StandardCheck("critical", 0.002, "a box without area"),
    "outside_image": StandardCheck("critical", 0.002, "a box over the image's edge by more than `outside_pixels`"),
    "unknown_class": StandardCheck("critical", 0.002, "a class that is not in the list"),
    "absent_class": StandardCheck("warning", 0.0, "a class without a box to be found: the split does not judge it"),
    "doubled_box": StandardCheck(
        "critical", 0.02, "two boxes of a class that overlap by more than `doubled_overlap` (IoU)"
    ),
    "tiny_box": StandardCheck("warning", 0.1, "a box with a side of fewer than `tiny_pixels`"),
    "unreadable": StandardCheck(
        "critical", 0.002, "an image that is not there or can not be decoded to its last pixel"
    ),
    "dark_16_bit": StandardCheck("warning", 0.02, "16 bits of which 12 at most are used, which is nearly black"),
    "wrong_size": StandardCheck("critical", 0.002, "an annotation that gives another size than the image has"),
    "no_boxes": StandardCheck("warning", 0.1, "an image without a box"),
    "conflicting_labels": StandardCheck("critical", 0.002, "the same image with other labels in its split"),
    "duplicate_image": StandardCheck("critical", 0.05, "an image again in its split, whatever its file is called"),
    "overlap": StandardCheck("critical", 0.002, "an image that is also in another split, each split by its own share"),
    "near_overlap": StandardCheck("warning", 0.02, "an image that looks nearly the same as one of a later split"),
}

STARTING_VALUES = {
    "data.format": "voc",
    "data.classes": ["first", "second"],
    "data.folder": "../../data/{name}",
    "data.images": "images",
    "data.annotations": "annotations",
    "data.train": "train.txt",
    "data.validation": "validation.txt",
    "data.test": "test.txt",
    "train.batch_tokens": 8,
    "train.label_smoothing": 0.0,
    "distill.train.batch_tokens": 8,
    "distill.train.label_smoothing": 0.0,
    "prune.train.batch_tokens": 8,
    "prune.train.label_smoothing": 0.0,
}
"""What a new recipe says of its data, to be changed."""

IGNORED = {**functional.IGNORED, "distill.initialize": "students start afresh"}
"""Keys that change nothing for detectors, and why."""

STRIDE = 32


class ImageSet(NamedSection):
    """Where the images and labels of one split are; what is left out stands in `data` for all splits."""

    main_key: ClassVar[str] = "list"

    images: str | None = Field(None, description="Folder of images; folders in it are searched too.")
    annotations: str | None = Field(
        None, description="Folder of annotations, one file an image (`voc`, `yolo`); or the JSON file (`coco`)."
    )
    list: str | None = Field(
        None, description="Text file that names the split's images, one a line; all images of the folder if not given."
    )


class Augmentation(Section):
    """How training images are varied, anew in each epoch; the same for the same seed and epoch."""

    flip: bool = Field(True, description="Mirror every second image, left to right.")
    scale: float = Field(0.3, ge=0, lt=1, description="Enlarge or shrink by up to this share.")
    jitter: float = Field(0.2, ge=0, lt=1, description="Shift and crop by up to this share of a side.")
    hue: float = Field(0.05, ge=0, le=0.5, description="Turn the hue by up to this share of the circle.")
    saturation: float = Field(1.5, ge=1, le=10, description="Multiply or divide the saturation by up to this.")
    exposure: float = Field(1.5, ge=1, le=10, description="Multiply or divide the brightness by up to this.")


class DetectionData(SplitData):
    """Images with boxes: files for each split, or a corpus from which those without files are split by seed."""

    format: Literal["voc", "coco", "yolo"] = Field(
        description="Of the annotations: Pascal VOC XML, COCO JSON, or YOLO text (`class cx cy width height`)."
    )
    classes: Annotated[tuple[str, ...] | str | None, BeforeValidator(class_list)] = Field(
        None,
        description="Names of the classes, or the file that has them: YAML with `names`, or text with one a line. For "
        "`coco` the categories of the training file if not given.",
    )
    folder: str = Field(".", description="Folder that everything is in; relative to the recipe.")
    images: str | None = Field(None, description="Folder of images, for splits that do not name their own.")
    annotations: str | None = Field(None, description="Annotations, for splits that do not name their own.")
    train: ImageSet | None = Field(
        None, description="The training split: a list of images, for `coco` a JSON file, or the keys of a split."
    )
    validation: ImageSet | None = Field(None, description="The validation split, for every choice.")
    test: ImageSet | None = Field(None, description="The test split, for the gate alone.")
    corpus: ImageSet | None = Field(
        None, description="What the splits that have no files of their own are made of, by `fractions`."
    )
    fractions: Fractions = Field(
        default_factory=lambda: Fractions(),
        description="How `corpus` is split; images that are the same stay in one split.",
    )
    augmentation: Augmentation = Field(
        default_factory=lambda: Augmentation(), description="How training images are varied."
    )

    @model_validator(mode="before")
    @classmethod
    def _name_alone_is_the_json_file_of_coco(cls, value: Any) -> Any:
        if not isinstance(value, dict) or value.get("format") != "coco":
            return value
        named = {name: value.get(name) for name in (*SPLIT_NAMES, "corpus")}
        return value | {name: {"annotations": part} for name, part in named.items() if isinstance(part, str)}

    @field_validator("classes", mode="after")
    @classmethod
    def _names_differ(cls, value: tuple[str, ...] | str | None) -> tuple[str, ...] | str | None:
        if isinstance(value, tuple):
            if not value or not all(name.strip() for name in value):
                raise ValueError("classes must be names, at least one; an empty one is none")
            if len(set(value)) < len(value):
                raise ValueError(f"{', '.join(sorted({n for n in value if value.count(n) > 1}))} stands there twice")
        return value

    @model_validator(mode="after")
    def _everything_is_somewhere(self) -> Self:
        if self.classes is None and self.format != "coco":
            raise ValueError(f"`classes` is missing; {self.format} annotations need the list of classes")
        for name, part in self.sets().items():
            for key in ("images", "annotations"):
                if getattr(part, key) is None:
                    raise ValueError(f"{name}: where its {key} are is missing; write `{key}` there or in `data`")
        return self

    def sets(self) -> dict[str, ImageSet]:
        """Returns where each split (or `corpus`) is, with absolute paths."""
        found: dict[str, ImageSet] = {}
        for name in (*SPLIT_NAMES, "corpus"):
            part: ImageSet | None = getattr(self, name)
            if part is not None:
                found[name] = ImageSet(
                    images=self.path(part.images or self.images),
                    annotations=self.path(part.annotations or self.annotations),
                    list=self.path(part.list),
                )
        return found

    def path(self, value: str | None) -> str | None:
        """Returns a path of the section as an absolute one."""
        return None if value is None else str(resolve_path(value, Path(self.folder)))


class Serving(Section):
    """What the registered model answers."""

    score_threshold: float = Field(0.3, ge=0, le=1, description="Boxes that score less are left out.")
    overlap: float = Field(
        0.45, gt=0, le=1, description="Of two boxes of a class that overlap by more (IoU), the better one is kept."
    )
    most: int = Field(100, ge=1, le=1000, description="Most boxes of an image; those that score highest.")


class DetectionModel(Section):
    """A YOLOv3 with these sizes."""

    input_size: int = Field(
        416, ge=64, le=1024, multiple_of=STRIDE, description="Side of the square that images are fitted into, pixels."
    )
    width: float = Field(0.25, gt=0, le=2, description="Channels, as a share of the published network's.")
    depth: float = Field(0.34, gt=0, le=2, description="Residual blocks, as a share of the published network's.")
    anchors_per_scale: int = Field(
        3, ge=1, le=9, description="Anchors of each of the three scales; clustered from the training boxes."
    )
    serving: Serving = Field(default_factory=lambda: Serving(), description="What the registered model answers.")


class Thresholds(Section):
    """What the label checks call tiny, doubled and so on."""

    doubled_overlap: float = Field(
        0.9, gt=0, le=1, description="Two boxes of one class in an image that overlap by more (IoU) are one, doubled."
    )
    tiny_pixels: float = Field(4.0, ge=0, description="A box with a side of fewer pixels of the image is tiny.")
    outside_pixels: float = Field(
        1.0, ge=0, description="A box may stand over the image's edge by so many pixels: rounding does that."
    )
    near_difference: float = Field(
        2.0,
        ge=0,
        le=255,
        description="Images whose thumbnails differ by less on average, of 255 grey levels, are near.",
    )


class DetectionDistill(FunctionalDistill):
    """How a student is made from the trained model: the same network with fewer channels or blocks."""

    # Its heads must say what the teacher's say.
    student_sizes: ClassVar[tuple[str, ...]] = ("width", "depth")

    student: dict[str, Any] = Field(
        default_factory=lambda: {"width": 0.125},
        description="Sizes of the student that differ from the model's: `width`, `depth`, or both.",
    )
    alpha: float = Field(
        0.5, ge=0, le=1, description="Weight of the teacher's heads, scaled by its objectness; 1 - alpha of the labels."
    )
