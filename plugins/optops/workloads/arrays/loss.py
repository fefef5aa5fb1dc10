"""The Keras loss that the recipe names, between an output of the model and the labels; or that there is none."""

from typing import Any

import numpy as np

from optops.models.functional.batches import model_outputs
from optops.models.functional.output_names import output_names
from optops.models.keras import keras, tf
from optops.models.training.settings import Loss


def check_labels(name: str, labels: np.ndarray) -> None:
    """Refuses labels that no Keras loss can be computed on.

    Raises:
        ValueError: If they are no numbers.
    """
    if labels.dtype.kind not in "biuf":
        raise ValueError(
            f"model.loss: {name} needs labels that are one array of numbers, and these are {labels.dtype}; write none, "
            "and a pruned model learns from the whole one alone"
        )


def labels_loss(name: str, labels: str, output: str | None = None) -> Loss:
    """Returns the Keras loss `name` between one of the model's outputs and the labels; a scalar.

    Args:
        name: As `keras.losses` has it.
        labels: Name of the labels in a batch; [n] and [n, 1] are the same.
        output: Name of the output; the first if None.

    Raises:
        ValueError: If Keras has no loss of that name, or, when it is called, the model no such output.
    """
    try:
        function = keras.losses.get(name)
    except ValueError as error:
        raise ValueError(f"model.loss: Keras has no loss {name!r}; see `keras.losses` for their names") from error

    def loss(model: Any, batch: Any, progress: Any) -> Any:
        del progress
        names = output_names(model)
        if output is not None and output not in names:
            raise ValueError(f"data.output: there is no {output!r}; the model's outputs are {', '.join(names)}")
        place = 0 if output is None else names.index(output)
        found = model_outputs(model, batch, training=True)[place]
        return tf.reduce_mean(function(_ranked_like(found, batch[labels]), found))

    return loss


def _ranked_like(output: Any, labels: Any) -> Any:
    """Returns labels in the rank of an output if nothing but a last axis of 1 sets them apart.

    Keras' functions would hold each of [n] labels against each of [n, 1] outputs.
    """
    wanted, given = tf.convert_to_tensor(labels), output.shape
    if given.rank == wanted.shape.rank + 1 and given[-1] == 1:
        return wanted[..., None]
    if wanted.shape.rank == given.rank + 1 and wanted.shape[-1] == 1:
        return wanted[..., 0]
    return wanted


def no_loss(model: Any, batch: Any, progress: Any) -> Any:
    """Stands for the loss of a recipe that names none.

    Raises:
        ValueError: Always; says what to do.
    """
    raise ValueError(
        "prune.criterion: taylor measures how the loss changes, and the recipe names none; write one to `model.loss`, "
        "for example sparse_categorical_crossentropy, or take another criterion"
    )
