"""The Keras loss that the recipe names, between an output of the model and the labels; or that there is none."""

from typing import Any

from optops.compression.distillation.outputs import model_outputs
from optops.models.keras import keras, tf
from optops.models.training.settings import Loss


def labels_loss(name: str, labels: str, output: str | None = None) -> Loss:
    """Returns the Keras loss `name` between one of the model's outputs and the labels; a scalar.

    Args:
        name: As `keras.losses` has it.
        labels: Name of the labels in a batch.
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
        names = sorted(model.output_names) if isinstance(model.output, dict) else list(model.output_names)
        if output is not None and output not in names:
            raise ValueError(f"data.output: there is no {output!r}; the model's outputs are {', '.join(names)}")
        place = 0 if output is None else names.index(output)
        return tf.reduce_mean(function(batch[labels], model_outputs(model, batch, training=True)[place]))

    return loss


def no_loss(model: Any, batch: Any, progress: Any) -> Any:
    """Stands for the loss of a recipe that names none.

    Raises:
        ValueError: Always; says what to do.
    """
    raise ValueError(
        "prune.criterion: taylor measures how the loss changes, and the recipe names none; write one to `model.loss`, "
        "for example sparse_categorical_crossentropy, or take another criterion"
    )
