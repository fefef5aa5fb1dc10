"""The steps in which a Transformer is pruned: layers and outputs once, then heads and units ratio by ratio."""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from optops.compression.pruning.layers import drop_layers
from optops.compression.pruning.outputs import drop_unused_outputs
from optops.compression.pruning.steps import PruningData, Step
from optops.compression.pruning.units import UnitPruning, unit_steps

LEAST_OUTPUTS = 130
"""A search with the widest beam that a recipe may ask for, 64, chooses among twice as many and two more."""


class TransformerPruning(UnitPruning, Protocol):
    """What the pruner reads of the recipe's section `prune`."""

    @property
    def encoder_layers(self) -> int:
        """Encoder layers to leave out."""

    @property
    def decoder_layers(self) -> int:
        """Decoder layers to leave out."""

    @property
    def outputs(self) -> bool:
        """Whether unused outputs go."""


def prune_steps(
    model: Any,
    settings: TransformerPruning,
    data: PruningData,
    report: Callable[[str], None],
) -> Iterator[Step]:
    """Gives one smaller model for each ratio at which something goes.

    Args:
        model: A `Transformer`; left as it is.
        settings: The recipe's section.
        data: Says what matters, and which outputs are used.
        report: Gets lines for people.
    """
    # A student of one decoder layer has none to spare.
    spare = {stack: len(getattr(model.config, stack)) - 1 for stack in ("encoder", "decoder")}
    smaller = drop_layers(
        model,
        encoder=min(settings.encoder_layers, spare["encoder"]),
        decoder=min(settings.decoder_layers, spare["decoder"]),
        batches=data.batches,
    )
    for stack in spare:
        left, whole = (len(getattr(each.config, stack)) for each in (smaller, model))
        if left < whole:
            report(f"{left} of {whole} {stack} layers are left")
    if settings.outputs:
        smaller = drop_unused_outputs(smaller, data.everything(), least=LEAST_OUTPUTS)
        report(f"{smaller.config.outputs:,} of {model.config.outputs:,} outputs are used")
    yield from unit_steps(smaller, settings, data.batches, model.count_params(), report)
