"""The workload `super_resolution`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from optops.recipe import Recipe
from optops.sections import Distill, Teaching, Train
from optops.workloads.base import NaiveAnswers, Report, Sections, Workload, section
from optops.workloads.functional import ChannelPrune
from optops.workloads.splits import SPLIT_NAMES, within_folder
from optops.workloads.super_resolution.settings import (
    CHECKS,
    IGNORED,
    STARTING_VALUES,
    ImageFolders,
    SuperResolutionData,
    SuperResolutionDistill,
    SuperResolutionModel,
    Thresholds,
)

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from optops.models.super_resolution import UpscalerSizes
    from optops.models.training.settings import Batches, Loss
    from optops.runtimes.base import Executable
    from optops.workloads.label_checks import RowCheck


ARCHITECTURE = "functional"
SIZES = ("blocks", "channels", "batch_norm", "residual_scaling")
EXAMPLE_SIDE = 48
"""Of the images on the model's page, in pixels."""


class SuperResolutionWorkload(Workload):
    """An image in, the same image two to four times as large out; PSNR of the luma."""

    name = "super_resolution"
    metric_name = "PSNR"
    examples_name = "images"
    fails_whole = False
    demo_examples = 160

    def sections(self) -> Sections:
        """Returns the models of the recipe's sections."""
        return Sections(
            SuperResolutionData,
            SuperResolutionModel,
            Thresholds,
            CHECKS,
            distill=SuperResolutionDistill,
            prune=ChannelPrune,
            starting_values=STARTING_VALUES,
            ignored=IGNORED,
        )

    # Data

    def files(self, data: BaseModel) -> Mapping[str, Path]:
        """Returns all folders, by key below `data`."""
        found: dict[str, Path] = {}
        for name, folders in section(SuperResolutionData, data).folders().items():
            found[f"{name}.high"] = Path(folders.high)
            if folders.low is not None:
                found[f"{name}.low"] = Path(folders.low)
        return found

    def relocate(self, data: Mapping[str, Any], folder: str) -> dict[str, Any]:
        """Returns the section with its folders taken from another one: there they lie as in this one."""
        moved: dict[str, Any] = {**data, "folder": folder}
        for name in (*SPLIT_NAMES, "corpus"):
            if moved.get(name) is not None:
                folders = ImageFolders.model_validate(moved[name])
                low = None if folders.low is None else within_folder(str(folders.low))
                moved[name] = {"high": within_folder(str(folders.high)), "low": low}
        return moved

    def read(self, data: BaseModel) -> "dict[str, pd.DataFrame]":
        """Finds all images, by split; decodes none."""
        from optops.workloads.super_resolution.image_pairs import find_images, split_images

        settings = section(SuperResolutionData, data)
        frames = {name: find_images(name, folders, settings.scale) for name, folders in settings.folders().items()}
        if "corpus" in frames:
            frames |= split_images(frames.pop("corpus"), settings.shares(), settings.fractions.seed)
        return {name: frames[name] for name in SPLIT_NAMES}

    def digests(self, examples: "pd.DataFrame") -> "pd.Series[str]":
        """Returns a digest of each image's files."""
        return examples["digest"]

    def label_checks(self, examples: "pd.DataFrame", recipe: Recipe) -> "tuple[pd.DataFrame, Sequence[RowCheck]]":
        """Decodes and checks every image."""
        from optops.workloads.super_resolution.checks import image_checks
        from optops.workloads.super_resolution.examination import examine

        data, thresholds = (
            section(SuperResolutionData, recipe.data),
            section(Thresholds, recipe.check_labels.thresholds),
        )
        return examine(examples, data.scale), image_checks(data.scale, data.patch, thresholds)

    def foreseen_defects(self, examples: "pd.DataFrame", recipe: Recipe) -> "Iterator[tuple[str, pd.Series[str]]]":
        """Names the images of which the other size is missing."""
        from optops.workloads.super_resolution.checks import find_missing_partner

        del recipe
        yield "missing_partner", find_missing_partner(examples)

    def write_demo(self, folder: Path, examples: int, seed: int) -> None:
        """Writes procedural textures: an eighth for validation, a quarter for the test."""
        from optops.workloads.super_resolution.textures import write_textures

        validation, test = examples // 8, examples // 4
        write_textures(folder, train=examples - validation - test, validation=validation, test=test, seed=seed)

    # Training

    def prepare(self, recipe: Recipe, examples: "pd.DataFrame", assets: Path) -> None:
        """Writes the scale, and how far the network sees."""
        del examples
        _write_upscaling(_sizes(recipe), assets)

    def adapt_assets(self, recipe: Recipe, assets: Path) -> None:
        """Writes how far the student sees: it may be deeper."""
        distill = section(Distill, recipe.distill)
        _write_upscaling(_sizes(recipe, distill.student), assets)

    def build(self, recipe: Recipe, assets: Path) -> tuple[str, Any]:
        """Returns a fresh residual network."""
        from optops.models.keras import keras
        from optops.models.super_resolution import build_upscaler

        del assets
        keras.utils.set_random_seed(recipe.seed)
        return ARCHITECTURE, build_upscaler(_sizes(recipe))

    def batches(
        self, recipe: Recipe, examples: "pd.DataFrame", assets: Path, train: Train
    ) -> "Callable[[int], Batches]":
        """Returns epoch -> batches of `batch_tokens` patches, turned and mirrored at random."""
        from optops.workloads.super_resolution.loading import rows_of
        from optops.workloads.super_resolution.patches import PatchBatches, load_pairs, patches_to_cover

        del assets
        data = section(SuperResolutionData, recipe.data)
        pairs = load_pairs(rows_of(examples), data.scale, data.patch, data.smaller_copies)
        count = data.patches or patches_to_cover(pairs, data.patch)
        return PatchBatches(pairs, data.scale, data.patch, count, train.batch_tokens, recipe.seed)

    def loss(self, train: Train) -> "Loss":
        """Returns the mean absolute error."""
        from optops.workloads.super_resolution.losses import absolute_error

        del train
        return absolute_error

    def student(self, recipe: Recipe, teacher: Any) -> Any:
        """Returns a network of the sizes that the recipe changes, started from the teacher's blocks if it says so."""
        from optops.models.keras import keras
        from optops.models.super_resolution import build_upscaler, take_blocks

        assert isinstance(recipe.distill, Distill)
        whole, sizes = _sizes(recipe), _sizes(recipe, recipe.distill.student)
        keras.utils.set_random_seed(recipe.seed)
        student = build_upscaler(sizes)
        if recipe.distill.initialize and (sizes.channels, sizes.batch_norm) == (whole.channels, whole.batch_norm):
            take_blocks(student, teacher)
        return student

    def distillation_loss(self, teacher: Any, student: Any, teaching: Teaching) -> "Loss":
        """Returns the mean absolute errors against the teacher and against the images, weighted by `alpha`."""
        from optops.workloads.super_resolution.losses import taught_error

        del student
        return taught_error(teacher, teaching.alpha)

    # Quality

    def predict(
        self, executable: "Executable", examples: "pd.DataFrame", assets: Path, report: Report | None = None
    ) -> list[Any]:
        """Returns the enlarged luma of each image, as base64 of a PNG file."""
        from optops.workloads.super_resolution.loading import rows_of
        from optops.workloads.super_resolution.scoring import predict_lumas
        from optops.workloads.super_resolution.upscaling import Upscaling

        return list(predict_lumas(executable, rows_of(examples), Upscaling.load(assets), report))

    def statistics(self, predictions: Sequence[Any], examples: "pd.DataFrame", data: BaseModel) -> "np.ndarray":
        """Returns PSNR and SSIM of each image."""
        from optops.workloads.super_resolution.loading import rows_of
        from optops.workloads.super_resolution.scoring import example_statistics

        return example_statistics(predictions, rows_of(examples), section(SuperResolutionData, data).scale)

    def metric(self, statistics: "np.ndarray", weights: "np.ndarray | None" = None) -> "np.ndarray":
        """Returns the mean of the images' PSNR, in dB."""
        from optops.workloads.super_resolution.scoring import mean_psnr

        return mean_psnr(statistics, weights)

    def figures(self, statistics: "np.ndarray") -> dict[str, float]:
        """Returns the mean of the images' SSIM."""
        import numpy as np

        known = statistics[np.isfinite(statistics[:, 1]), 1]
        return {"SSIM": float(known.mean())} if len(known) else {}

    def agreement(self, ours: Sequence[Any], theirs: Sequence[Any]) -> float:
        """Returns the share of images of which no pixel differs by more than rounding."""
        from optops.workloads.super_resolution.scoring import same_share

        return same_share(ours, theirs)

    def naive_answers(self, examples: "pd.DataFrame", data: BaseModel) -> NaiveAnswers:
        """Returns the images enlarged by bicubic interpolation."""
        from optops.workloads.super_resolution.loading import rows_of
        from optops.workloads.super_resolution.scoring import interpolated_lumas

        scale = section(SuperResolutionData, data).scale
        return NaiveAnswers("bicubic interpolation", interpolated_lumas(rows_of(examples), scale))

    def metric_signature(self, data: BaseModel) -> str:
        """Returns how the PSNR is computed."""
        from optops.workloads.super_resolution.quality import LARGEST_PSNR

        scale = section(SuperResolutionData, data).scale
        return f"PSNR|mean over images|Y of BT.601, 8 bits|border {scale}|at most {LARGEST_PSNR:g} dB"

    # Serving and timing

    def benchmark_inputs(
        self, examples: "pd.DataFrame", assets: Path, batch: int, seed: int
    ) -> "list[dict[str, np.ndarray]]":
        """Returns calls of the sizes that the images have, as far as one call takes them."""
        from optops.workloads.super_resolution.calls import representative_calls
        from optops.workloads.super_resolution.loading import rows_of
        from optops.workloads.super_resolution.upscaling import Upscaling

        return list(representative_calls(rows_of(examples), Upscaling.load(assets).scale, batch, seed))

    def calibration_inputs(self, examples: "pd.DataFrame", assets: Path) -> "Iterator[dict[str, np.ndarray]]":
        """Gives the middle of each image, one at a time."""
        from optops.workloads.super_resolution.calls import calibration_calls
        from optops.workloads.super_resolution.loading import rows_of
        from optops.workloads.super_resolution.upscaling import Upscaling

        yield from calibration_calls(rows_of(examples), Upscaling.load(assets).scale)

    def serve(self, executable: "Executable", assets: Path, inputs: Sequence[Any]) -> list[Any]:
        """Enlarges images: bytes of image files, base64 or arrays in, base64 of PNG files out."""
        from optops.workloads.images import base64_of, encode_png, image_of_input
        from optops.workloads.super_resolution.upscaling import Upscaling, upscale_image

        upscaling = Upscaling.load(assets)
        answers = []
        for index, value in enumerate(inputs):
            image = image_of_input(value, index)
            try:
                answers.append(base64_of(encode_png(upscale_image(executable, image, upscaling))))
            except ValueError as error:
                raise ValueError(f"input {index}: {error}") from error
        return answers

    def input_example(self, examples: "pd.DataFrame") -> list[Any]:
        """Returns the middle of two images, as base64 of PNG files."""
        from PIL import Image

        from optops.workloads.images import base64_of, encode_png
        from optops.workloads.super_resolution.loading import load_pixels

        parts = []
        for low, high in zip(examples["low"][:2], examples["high"][:2], strict=True):
            pixels = load_pixels(low or high)
            top, left = (max(0, (size - EXAMPLE_SIDE) // 2) for size in pixels.shape[:2])
            parts.append(Image.fromarray(pixels[top : top + EXAMPLE_SIDE, left : left + EXAMPLE_SIDE].copy()))
        return [base64_of(encode_png(part)) for part in parts]


def _write_upscaling(sizes: "UpscalerSizes", assets: Path) -> None:
    from optops.workloads.super_resolution.upscaling import Upscaling

    Upscaling(sizes.scale, sizes.reach).save(assets)


def _sizes(recipe: Recipe, changes: Mapping[str, Any] | None = None) -> "UpscalerSizes":
    from optops.models.super_resolution import UpscalerSizes

    model = section(SuperResolutionModel, recipe.model)
    sizes = {name: getattr(model, name) for name in SIZES} | dict(changes or {})
    return UpscalerSizes(scale=section(SuperResolutionData, recipe.data).scale, **sizes)
