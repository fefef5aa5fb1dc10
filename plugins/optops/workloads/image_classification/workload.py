"""The workload `image_classification`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from optops.recipe import Recipe
from optops.sections import Distill, Teaching, Train
from optops.workloads.base import NaiveAnswers, Report, Sections, Workload, section
from optops.workloads.functional import IGNORED, ChannelPrune
from optops.workloads.image_classification.settings import (
    CHECKS,
    STARTING_VALUES,
    ClassifiedImages,
    ClassifierDistill,
    ClassifierModel,
    Thresholds,
)
from optops.workloads.splits import SPLIT_NAMES, within_folder

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from optops.models.training.settings import Batches, Loss
    from optops.runtimes.base import Executable
    from optops.workloads.label_checks import RowCheck


ARCHITECTURE = "functional"
SIZES = ("depth", "width", "image_size", "small_stem")
CALLS = 4
SHOWN_IMAGES = 2


class ImageClassificationWorkload(Workload):
    """An image in, a class and the probability of each out; accuracy in percent."""

    name = "image_classification"
    metric_name = "accuracy"
    examples_name = "images"
    demo_examples = 1_000

    def sections(self) -> Sections:
        """Returns the models of the recipe's sections."""
        return Sections(
            ClassifiedImages,
            ClassifierModel,
            Thresholds,
            CHECKS,
            distill=ClassifierDistill,
            prune=ChannelPrune,
            starting_values=STARTING_VALUES,
            ignored=IGNORED,
        )

    # Data

    def files(self, data: BaseModel) -> Mapping[str, Path]:
        """Returns the folders and CSV files, by key below `data`."""
        return section(ClassifiedImages, data).places()

    def listed_files(self, data: BaseModel) -> "Iterator[Path]":
        """Gives the images that the CSV files name."""
        from optops.workloads.image_classification.reading import listed_images

        for place in section(ClassifiedImages, data).places().values():
            yield from listed_images(place)

    def relocate(self, data: Mapping[str, Any], folder: str) -> dict[str, Any]:
        """Returns the section with its folders and files taken from another folder: there they lie as in this one."""
        names = [name for name in (*SPLIT_NAMES, "corpus") if data.get(name) is not None]
        return {**data, "folder": folder, **{name: within_folder(data[name]) for name in names}}

    def read(self, data: BaseModel) -> "dict[str, pd.DataFrame]":
        """Finds all images, by split; decodes none."""
        from optops.workloads.image_classification.reading import find_images, split_images

        settings = section(ClassifiedImages, data)
        frames = {name: find_images(name, place) for name, place in settings.places().items()}
        if "corpus" in frames:
            frames |= split_images(frames.pop("corpus"), settings.shares(), settings.fractions.seed)
        return {name: frames[name] for name in SPLIT_NAMES}

    def digests(self, examples: "pd.DataFrame") -> "pd.Series[str]":
        """Returns a digest of each label and file."""
        return examples["digest"]

    def label_checks(self, examples: "pd.DataFrame", recipe: Recipe) -> "tuple[pd.DataFrame, Sequence[RowCheck]]":
        """Decodes and checks every image."""
        from optops.workloads.image_classification.checks import class_checks, examine

        classes = section(ClassifiedImages, recipe.data).classes
        return examine(examples), class_checks(classes, section(Thresholds, recipe.check_labels.thresholds))

    def foreseen_defects(self, examples: "pd.DataFrame", recipe: Recipe) -> "Iterator[tuple[str, pd.Series[str]]]":
        """Names the images that are not there, and labels that are no class."""
        from optops.workloads.class_checks import find_unknown_class
        from optops.workloads.missing_files import find_missing_files

        yield "unreadable", find_missing_files(examples["file"])
        yield "unknown_class", find_unknown_class(examples, section(ClassifiedImages, recipe.data).classes)

    def write_demo(self, folder: Path, examples: int, seed: int) -> None:
        """Writes drawn shapes, a fifth for validation and another for the test."""
        from optops.workloads.image_classification.shapes import write_shapes

        part = examples // 5
        write_shapes(folder, train=examples - 2 * part, validation=part, test=part, seed=seed)

    # Training

    def prepare(self, recipe: Recipe, examples: "pd.DataFrame", assets: Path) -> None:
        """Writes the classes and the size of the images."""
        from optops.workloads.image_classification.classifying import Classes

        del examples
        image_size = section(ClassifierModel, recipe.model).image_size
        Classes(section(ClassifiedImages, recipe.data).classes, image_size).save(assets)

    def build(self, recipe: Recipe, assets: Path) -> tuple[str, Any]:
        """Returns a fresh ResNet."""
        del assets
        return ARCHITECTURE, _build(recipe, {})

    def batches(
        self, recipe: Recipe, examples: "pd.DataFrame", assets: Path, train: Train
    ) -> "Callable[[int], Batches]":
        """Returns epoch -> shuffled batches of `batch_tokens` images; those whose label is no class are left out."""
        import numpy as np

        from optops.workloads.image_cache import ImageCache
        from optops.workloads.image_classification.batches import ImageBatches
        from optops.workloads.image_classification.classifying import Classes, load_image

        data, classes = section(ClassifiedImages, recipe.data), Classes.load(assets)
        usable = examples[examples["label"].isin(classes.names)]
        files = usable["file"].tolist()
        return ImageBatches(
            ImageCache(lambda number: load_image(files[number], classes.image_size)),
            np.array([classes.names.index(label) for label in usable["label"]], np.int32),
            batch=train.batch_tokens,
            mirrored=data.mirrored,
            shifted=int(data.shifted * classes.image_size),
            seed=recipe.seed,
        )

    def loss(self, train: Train) -> "Loss":
        """Returns the label-smoothed cross-entropy."""
        from optops.workloads.image_classification.losses import label_loss

        return label_loss(train.label_smoothing)

    def student(self, recipe: Recipe, teacher: Any) -> Any:
        """Returns a fresh network of the sizes that the recipe changes."""
        del teacher
        assert isinstance(recipe.distill, Distill)
        return _build(recipe, recipe.distill.student)

    def distillation_loss(self, teacher: Any, student: Any, teaching: Teaching) -> "Loss":
        """Returns the divergence from the teacher's softened distribution and the label loss, weighted by `alpha`."""
        from optops.workloads.image_classification.losses import taught_loss

        del student
        smoothing = teaching.train.label_smoothing
        return taught_loss(teacher, alpha=teaching.alpha, temperature=teaching.temperature, smoothing=smoothing)

    # Quality

    def predict(
        self, executable: "Executable", examples: "pd.DataFrame", assets: Path, report: Report | None = None
    ) -> list[Any]:
        """Returns the most probable class of each image, None where the model tells none."""
        from optops.workloads.image_classification.classifying import Classes, classify, load_image
        from optops.workloads.most_probable import most_probable

        classes = Classes.load(assets)

        def tell(done: int) -> None:
            if report:
                report(f"{done} of {len(examples)} images classified")

        images = (load_image(file, classes.image_size) for file in examples["file"])
        return most_probable(classify(executable, images, tell), classes.names)

    def statistics(self, predictions: Sequence[Any], examples: "pd.DataFrame", data: BaseModel) -> "np.ndarray":
        """Returns whether each image is classified right, float64 [images, 1]."""
        import numpy as np

        del data
        right = [one == label for one, label in zip(predictions, examples["label"], strict=True)]
        return np.array(right, np.float64)[:, None]

    def metric(self, statistics: "np.ndarray", weights: "np.ndarray | None" = None) -> "np.ndarray":
        """Returns the share of images that are classified right, in percent."""
        right = statistics[:, 0]
        if weights is None:
            return 100 * right.mean(keepdims=True)  # type: ignore[no-any-return]
        return 100 * (weights @ right) / weights.sum(axis=1)  # type: ignore[no-any-return]

    def naive_answers(self, examples: "pd.DataFrame", data: BaseModel) -> NaiveAnswers | None:
        """Returns the class that is most frequent among these labels for all of them."""
        from optops.workloads.most_frequent import most_frequent

        del data
        return most_frequent(examples["label"])

    def metric_signature(self, data: BaseModel) -> str:
        """Returns over which classes accuracy was computed."""
        classes = section(ClassifiedImages, data).classes
        return f"accuracy in percent over {len(classes)} classes: {', '.join(classes)}"

    # Serving and timing

    def benchmark_inputs(
        self, examples: "pd.DataFrame", assets: Path, batch: int, seed: int
    ) -> "list[dict[str, np.ndarray]]":
        """Returns calls of images drawn by the seed, with repetition where there are few."""
        import numpy as np

        from optops.workloads.image_classification.classifying import Classes, load_image, model_input

        size = Classes.load(assets).image_size
        drawn = np.random.default_rng(seed).choice(
            examples["file"], (CALLS, batch), replace=len(examples) < CALLS * batch
        )
        return [dict(model_input([load_image(str(file), size) for file in row])) for row in drawn]

    def calibration_inputs(self, examples: "pd.DataFrame", assets: Path) -> "Iterator[dict[str, np.ndarray]]":
        """Gives the images one by one."""
        from optops.workloads.image_classification.classifying import Classes, load_image, model_input

        size = Classes.load(assets).image_size
        for file in examples["file"]:
            yield dict(model_input([load_image(file, size)]))

    def serve(self, executable: "Executable", assets: Path, inputs: Sequence[Any]) -> list[Any]:
        """Returns for each image its class, `label`, and the probability of each class, `probabilities`.

        An image of which the model tells no probability gets no class, None.
        """
        from optops.workloads.image_classification.classifying import Classes, classify, fit_image
        from optops.workloads.images import image_of_input
        from optops.workloads.most_probable import most_probable

        classes = Classes.load(assets)
        images = [fit_image(image_of_input(value, index), classes.image_size) for index, value in enumerate(inputs)]
        if not images:
            return []
        found = classify(executable, images)
        return [
            {
                "label": label,
                "probabilities": {name: float(value) for name, value in zip(classes.names, row, strict=True)},
            }
            for label, row in zip(most_probable(found, classes.names), found, strict=True)
        ]

    def input_example(self, examples: "pd.DataFrame") -> list[Any]:
        """Returns two images as base64 of their files."""
        from optops.workloads.images import base64_of

        return [base64_of(Path(file).read_bytes()) for file in examples["file"][:SHOWN_IMAGES]]


def _build(recipe: Recipe, changes: Mapping[str, Any]) -> Any:
    from optops.models.keras import keras
    from optops.models.resnet import ResNetSizes, build_resnet

    model = section(ClassifierModel, recipe.model)
    sizes = {name: getattr(model, name) for name in SIZES} | dict(changes)
    keras.utils.set_random_seed(recipe.seed)
    return build_resnet(ResNetSizes(classes=len(section(ClassifiedImages, recipe.data).classes), **sizes))
