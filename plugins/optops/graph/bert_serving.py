"""What every executable BERT says of itself, and how a trained one is read for lowering."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from optops.graph.lowering import LoweringError
from optops.models.base import Description, load_architecture
from optops.models.bert.config import BertConfig
from optops.models.bert.model import Bert
from optops.models.token_ids import PADDING
from optops.runtimes.base import ExecutableInfo


def load_trained(trainable: Path) -> tuple[Bert, Mapping[str, Any]]:
    """Returns the model in a `trainable/` folder and how it is to be served.

    Raises:
        LoweringError: If the serving settings do not fit the model.
    """
    description = Description.load(trainable)
    model: Bert = load_architecture(description.architecture).load(trainable)
    longest = description.serving.get("max_length", model.config.max_positions)
    if not 1 <= longest <= model.config.max_positions:
        raise LoweringError(
            f"{trainable}: max_length is {longest}; the model has {model.config.max_positions} positions"
        )
    return model, description.serving


def executable_info(
    runtime: str, precision: str, config: BertConfig, serving: Mapping[str, Any], facts: dict[str, float | str]
) -> ExecutableInfo:
    """Returns the description of a classifying executable: token ids in, probabilities of the classes out."""
    longest = serving.get("max_length", config.max_positions)
    ids = {
        "dtype": "int32",
        "shape": [None, None],
        "largest_shape": [None, longest],
        "minimum": 0,
        "maximum": config.vocabulary - 1,
        "sequences": {"end": config.separator, "pad": PADDING},
    }
    return ExecutableInfo(
        runtime=runtime,
        precision=precision,
        inputs={"ids": ids},
        outputs={"probabilities": {"dtype": "float32", "shape": [None, config.classes]}},
        settings={"max_length": longest},
        facts=facts,
    )
