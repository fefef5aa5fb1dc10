"""The steps in which the channels of a functional model are pruned: sparsity training, then ratio by ratio."""

from collections.abc import Callable, Iterator
from typing import Any, Literal, Protocol

from optops.compression.pruning.channels import criteria
from optops.compression.pruning.channels.batch_norm import measure_batch_norms, scale_penalty
from optops.compression.pruning.channels.criteria import Criterion
from optops.compression.pruning.channels.graph import follow_channels
from optops.compression.pruning.channels.prune import prune_channels
from optops.compression.pruning.channels.rebuild import without_channels
from optops.compression.pruning.steps import Batch, PruningData, Step
from optops.models.functional.batches import model_inputs

CriterionName = Literal["batch_norm_scale", "l1_norm", "l2_norm", "taylor"]


class ChannelPruning(Protocol):
    """What the pruner reads of the recipe's section `prune`."""

    @property
    def ratios(self) -> tuple[float, ...]:
        """Shares of the channels to remove in all, rising."""

    @property
    def criterion(self) -> CriterionName:
        """What tells how much a channel matters."""

    @property
    def multiple(self) -> int:
        """Widths stay multiples of it."""

    @property
    def floor(self) -> float:
        """Share of every group that stays in any case."""

    @property
    def scale_penalty(self) -> float:
        """Weight of the batch norms' scales in the loss of the sparsity training."""

    @property
    def sparsity_epochs(self) -> int:
        """Epochs of the sparsity training; 0 for none."""


def prune_steps(
    model: Any, settings: ChannelPruning, data: PruningData, report: Callable[[str], None]
) -> Iterator[Step]:
    """Gives one smaller model for each ratio at which something goes, after sparsity training if it is asked for.

    Args:
        model: A functional or sequential Keras model; left as it is.
        settings: The recipe's section.
        data: Batches that hold the model's inputs under their names, beside whatever the loss reads.
        report: Gets lines for people.

    Raises:
        ValueError: If a batch lacks one of the model's inputs.
    """
    parameters = model.count_params()
    graph = follow_channels(model)
    report(f"{len(graph.groups)} groups of channels that go together:\n{graph}")
    smaller = model
    if settings.sparsity_epochs:
        smaller = without_channels(model, graph, set())
        followed = follow_channels(smaller)
        yield Step(
            0.0,
            smaller,
            penalty=lambda: settings.scale_penalty * scale_penalty(followed),
            epochs=settings.sparsity_epochs,
        )
    inputs = [model_inputs(model, batch) for batch in data.batches]
    before = parameters
    for ratio in settings.ratios:
        smaller = prune_channels(
            smaller,
            ratio,
            criterion=_criterion(settings.criterion, smaller, data),
            multiple=settings.multiple,
            floor=settings.floor,
            inputs=inputs[0] if settings.criterion == "batch_norm_scale" else None,
            whole=model,
        )
        measure_batch_norms(smaller, inputs)
        report(f"{smaller.count_params():,} of {parameters:,} parameters left at {ratio:g}")
        if smaller.count_params() < before:
            yield Step(ratio, smaller)
        before = smaller.count_params()


def _criterion(name: CriterionName, model: Any, data: PruningData) -> Criterion:
    if name != "taylor":
        found: Criterion = getattr(criteria, name)
        return found

    def loss(trained: Any, batch: Batch) -> Any:
        result = data.loss(trained, batch, 1.0)
        return result[0] if isinstance(result, tuple) else result

    return criteria.taylor(model, loss, data.batches)
