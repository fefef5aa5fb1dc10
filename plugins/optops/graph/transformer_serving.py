"""What every executable Transformer says of itself, and how a trained one is read for lowering."""

from pathlib import Path

from optops.graph.lowering import LoweringError
from optops.models.base import Description, load_architecture
from optops.models.keras import tf
from optops.models.token_ids import END, PADDING
from optops.models.transformer.config import TransformerConfig
from optops.models.transformer.model import Transformer
from optops.models.transformer.search import SearchSettings
from optops.runtimes.base import ExecutableInfo


def load_trained(trainable: Path) -> tuple[Transformer, SearchSettings]:
    """Returns the model in a `trainable/` folder and how it is to be served.

    Raises:
        LoweringError: If the serving settings do not fit the model.
    """
    description = Description.load(trainable)
    model: Transformer = load_architecture(description.architecture).load(trainable)
    try:
        settings = SearchSettings.from_mapping(description.serving)
        settings.check_fits(model.config)
    except ValueError as error:
        raise LoweringError(f"{trainable}: {error}") from error
    return model, settings


def tensor_limits(settings: SearchSettings, lengths: tf.Tensor) -> tf.Tensor:
    """Returns the most ids that each sentence may get, int32 [b], as `SearchSettings.limits` does, within a graph."""
    wanted = tf.floor(settings.max_length_factor * tf.cast(lengths, tf.float64) + settings.max_length_offset)
    return tf.cast(tf.clip_by_value(wanted, 1, settings.max_length), tf.int32)


def executable_info(
    runtime: str,
    precision: str,
    config: TransformerConfig,
    settings: SearchSettings,
    facts: dict[str, float | str],
    driver: str = "graph",
) -> ExecutableInfo:
    """Returns the description of a translating executable: token ids in, token ids and scores out."""
    ids = {
        "dtype": "int32",
        "shape": [None, None],
        "largest_shape": [None, settings.max_length],
        "minimum": 0,
        "maximum": config.vocabulary - 1,
        "sequences": {"end": END, "pad": PADDING},
    }
    return ExecutableInfo(
        runtime=runtime,
        precision=precision,
        inputs={"ids": ids},
        outputs={
            "ids": {"dtype": "int32", "shape": [None, None]},
            "scores": {"dtype": "float32", "shape": [None]},
        },
        driver=driver,
        settings=settings.to_json(),
        facts=facts,
    )
