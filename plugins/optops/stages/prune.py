"""Makes models smaller, step by step: removes what matters least, then teaches what is left."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from optops.candidate import Candidate
from optops.compression import sparsify
from optops.compression.pruning.steps import PenalizedLoss, PruningData, Step, first_batches
from optops.models.base import load_architecture, load_function
from optops.models.training.threads import share_cores
from optops.pipeline import TRAIN
from optops.runtimes.base import SERVED_ONLY, ExecutableInfo
from optops.sections import STRUCTURED, Prune
from optops.stage_spec import StageResult
from optops.stages.base import Job, StageError, allowed_loss
from optops.stages.teaching import NothingToTeachError, taught_examples, with_assets
from optops.stages.training import NotFiniteError, fit_model, publish

if TYPE_CHECKING:
    import pandas as pd


NOTHING_GOES = (
    "no more goes at this ratio, for widths stay multiples and every group keeps some; give a larger ratio, or, for "
    "channels, a smaller `multiple`"
)
IMPORT_A_KERAS_FILE = "a functional Keras model, imported by `model.keras`, can be pruned"


def run(job: Job) -> StageResult:
    """Returns the candidates so far and their pruned forms, one for each ratio."""
    allowed_loss(job)  # a tolerance that is none for this baseline is told before hours of teaching
    settings = job.recipe.prune
    assert isinstance(settings, Prune)
    share_cores(settings.train.replicas)
    upstream = job.result("distill").candidates
    trainable = [candidate for candidate in upstream if candidate.trainable]
    if not trainable:
        why = ExecutableInfo.load(job.fetch(job.baseline) / "serving").facts.get(SERVED_ONLY, IMPORT_A_KERAS_FILE)
        reason = f"the imported model can be served, not trained: {why}"
        job.log(f"nothing is pruned: {reason}")
        return job.hand_on(candidates=upstream, dropped={f"{job.baseline.name} pruned": reason})
    chosen = trainable if settings.models == "all" else trainable[-1:]
    try:
        examples = taught_examples(job, job.baseline, settings)
    except NothingToTeachError as error:
        reasons = {f"{candidate.name} pruned": str(error) for candidate in chosen}
        job.log(f"nothing is pruned: {error}")
        return job.hand_on(candidates=upstream, dropped=reasons)
    dropped: dict[str, str] = {}
    made = [pruned for candidate in chosen for pruned in _prune(job, settings, candidate, examples, dropped)]
    return job.hand_on(candidates=(*upstream, *made), dropped=dropped)


def _prune(
    job: Job, settings: Prune, candidate: Candidate, examples: "pd.DataFrame", dropped: dict[str, str]
) -> list[Candidate]:
    whole, architecture = _load(job, candidate), candidate.architecture
    steps = _structured if settings.method == STRUCTURED else _sparse
    made: list[Candidate] = []
    for step in steps(job, settings, candidate, examples, whole):
        name = _name(candidate, step.ratio) if step.ratio else f"{candidate.name} before pruning"
        folder = with_assets(job, candidate)
        loss = job.workload.distillation_loss(whole, step.model, settings)
        if step.penalty is not None:
            loss = PenalizedLoss(loss, step.penalty)
        train = settings.train if step.epochs is None else settings.train.model_copy(update={"epochs": step.epochs})
        checkpoints = name.replace(" ", "-")
        try:
            fit_model(
                job, step.model, architecture, examples, loss, train, folder / "assets", checkpoints, step.after_update
            )
        except NotFiniteError as error:
            # The later ones would be cut from it.
            lost = [_name(candidate, ratio) for ratio in settings.ratios if ratio >= step.ratio]
            job.log(f"{', '.join(lost)} dropped: {error}")
            dropped |= dict.fromkeys(lost, str(error))
            break
        if not step.ratio:
            continue
        parents, key = (candidate.key,), job.derived_key(parent=candidate.key, ratio=step.ratio)
        try:
            made.append(publish(job, folder, step.model, architecture, name=name, parents=parents, key=key))
        except NotFiniteError as error:
            job.log(f"{name} is dropped: {error}")
            dropped[name] = str(error)
    tried = {*dropped, *(each.name for each in made)}
    for name in (_name(candidate, ratio) for ratio in settings.ratios):
        if name not in tried:
            job.log(f"{name} is dropped: {NOTHING_GOES}")
            dropped[name] = NOTHING_GOES
    return made


def _name(candidate: Candidate, ratio: float) -> str:
    return f"{candidate.name} pruned {100 * ratio:g}"


def _structured(
    job: Job, settings: Prune, candidate: Candidate, examples: "pd.DataFrame", whole: Any
) -> Iterator[Step]:
    """Lets the architecture's pruner cut out what the model can spare."""
    pruner = load_architecture(candidate.architecture).pruner()
    if pruner is None:
        raise StageError(
            f"architecture {candidate.architecture!r} has no structured pruning; write `prune: off`, or "
            "`method: magnitude` for a smaller file"
        )
    sample = examples.sample(min(len(examples), settings.importance_examples), random_state=job.recipe.seed)
    data = PruningData(
        # What a batch holds is the workload's own: of one image it may be many patches, of hundreds of pixels a side.
        first_batches(_batches(job, settings, candidate, sample), settings.importance_examples),
        lambda: _all_batches(job, settings, candidate, examples),
        job.workload.loss(settings.train),
    )
    steps: Iterator[Step] = load_function(pruner)(
        whole, settings, data, lambda line: job.log(f"{candidate.name}: {line}")
    )
    return steps


def _sparse(job: Job, settings: Prune, candidate: Candidate, examples: "pd.DataFrame", whole: Any) -> Iterator[Step]:
    """Sets weights to zero ratio by ratio; what is zero stays so, since it is smallest in the next step too."""
    pattern = settings.method
    assert pattern != STRUCTURED
    parameters = whole.count_params()
    job.log(f"{candidate.name}: {parameters:,} parameters stay, zeros among them: a smaller file, not a faster model")
    # A model of its own: the whole one is to teach.
    model = _load(job, candidate)
    for ratio in settings.ratios:
        yield Step(ratio, model, sparsify(model, sparsity=ratio, pattern=pattern))


def _load(job: Job, candidate: Candidate) -> Any:
    return load_architecture(candidate.architecture).load(job.fetch(candidate) / "trainable")


def _all_batches(job: Job, settings: Prune, candidate: Candidate, examples: "pd.DataFrame") -> Iterator[Any]:
    """Gives the batches that are learnt from, and those of the given labels: both may be written."""
    yield from _batches(job, settings, candidate, examples)
    yield from _batches(job, settings, candidate, job.examples(TRAIN))


def _batches(job: Job, settings: Prune, candidate: Candidate, examples: "pd.DataFrame") -> Iterable[Any]:
    return job.workload.batches(job.recipe, examples, job.fetch(candidate) / "assets", settings.train)(1)
