"""Makes models smaller, step by step: removes what matters least, then teaches what is left."""

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from optops.candidate import Candidate
from optops.compression import drop_layers, drop_unused_outputs, prune, sparsify
from optops.models.base import load_architecture
from optops.models.training.threads import share_cores
from optops.pipeline import TRAIN
from optops.recipe import STRUCTURED, Prune
from optops.stage_spec import StageResult
from optops.stages.base import Job
from optops.stages.teaching import NothingToTeachError, taught_examples, with_assets
from optops.stages.training import fit_model, publish

if TYPE_CHECKING:
    import pandas as pd


class Step(NamedTuple):
    """A model from which a share has been removed, to be trained in place before the next step takes more from it."""

    ratio: float
    model: Any
    after_update: Callable[[], Any] = lambda: None


def run(job: Job) -> StageResult:
    """Returns the candidates so far and their pruned forms, one for each ratio."""
    settings = job.recipe.prune
    assert isinstance(settings, Prune)
    share_cores(settings.train.replicas)
    upstream = job.result("distill").candidates
    trainable = [candidate for candidate in upstream if candidate.trainable]
    chosen = trainable if settings.models == "all" else trainable[-1:]
    try:
        examples = taught_examples(job, job.baseline, settings)
    except NothingToTeachError as error:
        dropped = {f"{candidate.name} pruned": str(error) for candidate in chosen}
        job.log(f"nothing is pruned: {error}")
        return job.hand_on(candidates=upstream, dropped=dropped)
    made = [pruned for candidate in chosen for pruned in _prune(job, settings, candidate, examples)]
    return job.hand_on(candidates=(*upstream, *made))


def _prune(job: Job, settings: Prune, candidate: Candidate, examples: "pd.DataFrame") -> list[Candidate]:
    whole = _load(job, candidate)
    steps = _structured if settings.method == STRUCTURED else _sparse
    made: list[Candidate] = []
    for ratio, model, after_update in steps(job, settings, candidate, examples, whole):
        name = f"{candidate.name} pruned {100 * ratio:.0f}"
        folder = with_assets(job, candidate)
        loss = job.workload.distillation_loss(whole, model, settings)
        checkpoints = name.replace(" ", "-")
        fit_model(job, model, examples, loss, settings.train, folder / "assets", checkpoints, after_update)
        parents, key = (candidate.key,), job.derived_key(parent=candidate.key, ratio=ratio)
        made.append(publish(job, folder, model, candidate.architecture, name=name, parents=parents, key=key))
    return made


def _structured(
    job: Job, settings: Prune, candidate: Candidate, examples: "pd.DataFrame", whole: Any
) -> Iterator[Step]:
    """Cuts out layers and outputs once, then heads and units ratio by ratio."""
    batches = _sample(job, settings, candidate, examples)
    # A student of one decoder layer has none to spare.
    spare = {stack: len(getattr(whole.config, stack)) - 1 for stack in ("encoder", "decoder")}
    model = drop_layers(
        whole,
        encoder=min(settings.encoder_layers, spare["encoder"]),
        decoder=min(settings.decoder_layers, spare["decoder"]),
        batches=batches,
    )
    model = _without_unused_outputs(job, settings, candidate, examples, model)
    removed = 0.0
    for ratio in settings.ratios:
        # The ratio is of all units of the layers that stay; the pruner counts from what is left of them.
        share = 1 - (1 - ratio) / (1 - removed)
        model = prune(model, heads=share if settings.heads else 0.0, feed_forward=share, batches=batches)
        job.log(f"{candidate.name}: {model.count_params():,} of {whole.count_params():,} parameters left at {ratio:g}")
        yield Step(ratio, model)
        removed = ratio


def _sparse(job: Job, settings: Prune, candidate: Candidate, examples: "pd.DataFrame", whole: Any) -> Iterator[Step]:
    """Sets weights to zero ratio by ratio; what is zero stays so, since it is smallest in the next step too."""
    pattern = settings.method
    assert pattern != STRUCTURED
    parameters = whole.count_params()
    job.log(f"{candidate.name}: {parameters:,} parameters stay, zeros among them: a smaller file, not a faster model")
    # A model of its own: the whole one is to teach.
    model = _without_unused_outputs(job, settings, candidate, examples, _load(job, candidate))
    for ratio in settings.ratios:
        yield Step(ratio, model, sparsify(model, sparsity=ratio, pattern=pattern))


def _without_unused_outputs(
    job: Job, settings: Prune, candidate: Candidate, examples: "pd.DataFrame", model: Any
) -> Any:
    if not settings.outputs:
        return model
    smaller = drop_unused_outputs(model, _all_batches(job, settings, candidate, examples))
    job.log(f"{candidate.name}: {smaller.config.outputs:,} of {model.config.outputs:,} outputs are used")
    return smaller


def _load(job: Job, candidate: Candidate) -> Any:
    return load_architecture(candidate.architecture).load(job.fetch(candidate) / "trainable")


def _sample(job: Job, settings: Prune, candidate: Candidate, examples: "pd.DataFrame") -> list[Any]:
    sample = examples.sample(min(len(examples), settings.importance_examples), random_state=job.recipe.seed)
    return list(_batches(job, settings, candidate, sample))


def _all_batches(job: Job, settings: Prune, candidate: Candidate, examples: "pd.DataFrame") -> Iterator[Any]:
    """Gives the batches that are learnt from, and those of the given labels: both may be written."""
    yield from _batches(job, settings, candidate, examples)
    yield from _batches(job, settings, candidate, job.examples(TRAIN))


def _batches(job: Job, settings: Prune, candidate: Candidate, examples: "pd.DataFrame") -> Iterable[Any]:
    return job.workload.batches(job.recipe, examples, job.fetch(candidate) / "assets", settings.train)(1)
