"""The Keras loss that the recipe names, between a model's first output and the labels; or that there is none."""

from typing import Any

from optops.compression.distillation.outputs import model_outputs
from optops.models.keras import keras, tf
from optops.models.training.settings import Loss


def labels_loss(name: str, labels: str) -> Loss:
    """Returns the Keras loss `name` between the model's first output and the labels; a scalar.

    Raises:
        ValueError: If Keras has no loss of that name.
    """
    try:
        function = keras.losses.get(name)
    except ValueError as error:
        raise ValueError(f"model.loss: Keras has no loss {name!r}; see `keras.losses` for their names") from error

    def loss(model: Any, batch: Any, progress: Any) -> Any:
        del progress
        return tf.reduce_mean(function(batch[labels], model_outputs(model, batch, training=True)[0]))

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
