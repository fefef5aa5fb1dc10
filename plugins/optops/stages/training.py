"""What train, distill and prune share: a resumable fit, and making a candidate of a model."""

import json
from collections.abc import Callable, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from optops.candidate import Candidate
from optops.figures import decimals_beside
from optops.graph.lowering import STOCK, lower
from optops.models.base import load_architecture, load_function
from optops.models.training.checkpoints import CheckpointError
from optops.models.training.loop import TrainingDivergedError, fit
from optops.models.training.settings import History, Loss, Progress, TrainingSettings
from optops.pipeline import VALIDATION
from optops.precision import PrecisionPlan
from optops.runtimes.base import Executable
from optops.sections import Train
from optops.stages.base import Job, StageError
from optops.stages.checkpoints import keep, restore
from optops.workloads.base import Phase

VALIDATED_EXAMPLES = 300
"""Validation examples that each epoch is judged on; the finished model is judged on all."""


class NotFiniteError(StageError):
    """A model whose training diverged, or whose quality on the validation split is no finite number."""


def fit_model(
    job: Job,
    model: Any,
    architecture: str,
    examples: Any,
    loss: Loss,
    settings: Train,
    assets: Path,
    name: str,
    after_update: Callable[[], Any] = lambda: None,
) -> History:
    """Trains a model and leaves its best weights in it; goes on from its checkpoint after a kill.

    Args:
        job: The stage's job.
        model: A tf_keras model.
        architecture: Its architecture's name.
        examples: Training examples.
        loss: See `Loss`.
        settings: The recipe's section.
        assets: The model's assets.
        name: Names the checkpoints, among several models of one stage.
        after_update: See `fit`.

    Raises:
        NotFiniteError: If the training diverges; the weights may be no numbers any more.
    """
    workload = job.workload
    sample = validation_sample(job)
    fast = live(job, model, architecture)

    # The trainer maximises; people see the metric as it is.
    sign = 1 if workload.higher_is_better else -1

    def validate(_: Any) -> float:
        return sign * measure(job, workload.predict(fast, sample, assets), sample)

    phase = Phase(settings, workload.batches(job.recipe, examples, assets, settings), loss, validate)
    return _fit(job, model, phase, name, (workload.metric_name, sign), after_update)


def pretrain_model(job: Job, model: Any, phase: Phase, name: str) -> History:
    """Trains a model for what comes before its task; goes on from its checkpoint after a kill."""
    return _fit(job, model, phase, name, ("validation", 1))


def _fit(
    job: Job,
    model: Any,
    phase: Phase,
    name: str,
    validated: tuple[str, int],
    after_update: Callable[[], Any] = lambda: None,
) -> History:
    """Trains a model; `validated` is the name of what `phase.validate` gives, and the sign that people see it with."""
    measure_name, sign = validated

    def report(progress: Progress) -> None:
        value = progress.validation
        validation = "" if value is None else f", {measure_name} {sign * value:.{decimals_beside(value)}f}"
        job.progress(
            f"{name}: epoch {progress.epoch}/{progress.epochs}, step {progress.step}/{progress.steps_in_epoch}, "
            f"loss {progress.loss:.3f}{validation}, {progress.examples_per_second:.0f} examples/s"
        )

    folder = job.work_folder / "checkpoints" / name
    restore(job, folder, name)
    try:
        history = fit(
            model,
            batches=phase.batches,
            loss=phase.loss,
            validate=phase.validate,
            settings=training_settings(phase.train, job.recipe.seed),
            checkpoints=folder,
            report=report,
            saved=lambda checkpoint: keep(job, checkpoint, name),
            after_update=after_update,
        )
    except TrainingDivergedError as error:
        raise NotFiniteError(f"{name}: {error}") from error
    except CheckpointError as error:
        raise StageError(f"{name}: {error}") from error
    for record in history.records:
        values = {f"{name}.loss": record.loss, f"{name}.validation": sign * record.validation}
        job.tracking.log_metrics(job.run_id, values, step=record.epoch)
    early = ", stopped early" if history.stopped_early else ""
    job.log(f"{name}: {len(history.records)} epochs{early}; took {history.chosen}")
    return history


def live(job: Job, model: Any, architecture: str) -> Executable:
    """Returns a model executed as it trains, in the cheapest way that its workload knows."""
    execute = load_function(load_architecture(architecture).live())
    return execute(model, job.workload.quick_serving(job.recipe))  # type: ignore[no-any-return]


def validation_sample(job: Job) -> Any:
    """Returns validation examples to judge a model on often, always the same."""
    examples = job.examples(VALIDATION)
    if len(examples) <= VALIDATED_EXAMPLES:
        return examples
    return examples.sample(VALIDATED_EXAMPLES, random_state=job.recipe.seed).sort_index()


def training_settings(section: Train, seed: int) -> TrainingSettings:
    """Returns the trainer's settings for a section of the recipe."""
    return TrainingSettings(**section.model_dump(), seed=seed)


def measure(job: Job, predictions: list[Any], examples: Any) -> float:
    """Returns the workload's metric of predictions."""
    return float(job.workload.metric(job.workload.statistics(predictions, examples, job.recipe.data))[0])


def save_predictions(job: Job, folder: Path, predictions: list[Any], statistics: np.ndarray) -> None:
    """Keeps predictions and statistics of the validation split with a candidate, for parity and nomination."""
    kept = folder / "predictions"
    kept.mkdir()
    listed = {"ids": list(job.examples(VALIDATION)["id"]), "predictions": predictions}
    (kept / f"{VALIDATION}.json").write_text(json.dumps(listed, ensure_ascii=False), encoding="utf-8")
    np.save(kept / f"{VALIDATION}.npy", statistics, allow_pickle=False)


def publish(
    job: Job, folder: Path, model: Any, architecture: str, *, name: str, parents: tuple[str, ...], key: str = ""
) -> Candidate:
    """Makes a candidate of a trained model: its weights, its stock executable, its quality on validation.

    Args:
        job: The stage's job.
        folder: Holds `assets/` already; the rest is written there.
        model: A tf_keras model.
        architecture: Its name in the registry.
        name: What people call the candidate.
        parents: Keys of the candidates it was made from.
        key: Of the candidate, if it is not the stage's own.
    """
    workload = job.workload
    load_architecture(architecture).save(model, folder / "trainable", workload.serving(job.recipe))
    lower(folder / "trainable", PrecisionPlan("fp32"), STOCK, folder / "serving")
    metrics = judge_serving(job, folder, name)
    metrics["parameters"] = float(model.count_params())
    return job.add(
        folder,
        key=key or job.key,
        name=name,
        parents=parents,
        architecture=architecture,
        precision="fp32",
        runtime="tensorflow",
        trainable=True,
        metrics=metrics,
    )


def judge_serving(job: Job, folder: Path, name: str) -> dict[str, float]:
    """Runs the executable in `folder/serving` over the validation split; keeps what it said; returns its metric.

    Raises:
        NotFiniteError: If that is NaN or infinite.
    """
    workload, examples = job.workload, job.examples(VALIDATION)
    executable = job.load(folder)
    predictions = workload.predict(
        executable, examples, folder / "assets", lambda line: job.progress(f"{name}: {line}")
    )
    statistics = workload.statistics(predictions, examples, job.recipe.data)
    value = float(workload.metric(statistics)[0])
    if not isfinite(value):
        raise NotFiniteError(
            f"{name}: {workload.metric_name} is {value} on validation: its outputs or the labels hold numbers that are "
            "not finite, and nothing can be judged by it"
        )
    save_predictions(job, folder, predictions, statistics)
    found = f"{workload.metric_name} {value:.{decimals_beside(value)}f}"
    job.log(f"{name}: {found} on {len(examples)} validation {workload.examples_name}")
    if _says_one_thing(predictions):
        job.log(
            f"warning: {name} says {predictions[0]!r:.80} of all {len(predictions)} validation "
            f"{workload.examples_name}: what it has learnt does not depend on its input, and whatever is made of it is "
            "as good; train it longer or look at its data"
        )
    return {workload.metric_name: value, **workload.figures(statistics)}


def _says_one_thing(predictions: Sequence[Any]) -> bool:
    first = predictions[0] if len(predictions) > 1 else None
    return isinstance(first, str) and all(isinstance(said, str) and said == first for said in predictions)
