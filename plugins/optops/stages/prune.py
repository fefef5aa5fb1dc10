"""Makes models smaller, step by step: removes the heads and units that matter least, then teaches what is left."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from optops.candidate import Candidate
from optops.compression import drop_layers, drop_unused_outputs, prune
from optops.models.base import load_architecture
from optops.models.training.threads import share_cores
from optops.pipeline import TRAIN
from optops.recipe import Prune
from optops.stage_spec import StageResult
from optops.stages.base import Job
from optops.stages.teaching import NothingToTeachError, taught_examples, with_assets
from optops.stages.training import fit_model, publish

if TYPE_CHECKING:
    import pandas as pd


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
    whole = load_architecture(candidate.architecture).load(job.fetch(candidate) / "trainable")
    made: list[Candidate] = []
    batches = _sample(job, settings, candidate, examples)
    # A student of one decoder layer has none to spare.
    spare = {stack: len(getattr(whole.config, stack)) - 1 for stack in ("encoder", "decoder")}
    model = drop_layers(
        whole,
        encoder=min(settings.encoder_layers, spare["encoder"]),
        decoder=min(settings.decoder_layers, spare["decoder"]),
        batches=batches,
    )
    if settings.outputs:
        model = drop_unused_outputs(model, _all_batches(job, settings, candidate, examples))
        job.log(f"{candidate.name}: {model.config.outputs:,} of {whole.config.outputs:,} outputs are used")
    removed = 0.0
    for ratio in settings.ratios:
        # The ratio is of all units of the layers that stay; the pruner counts from what is left of them.
        share = 1 - (1 - ratio) / (1 - removed)
        model = prune(model, heads=share if settings.heads else 0.0, feed_forward=share, batches=batches)
        name = f"{candidate.name} pruned {100 * ratio:.0f}"
        job.log(f"{name}: {model.count_params():,} of {whole.count_params():,} parameters left")
        folder = with_assets(job, candidate)
        loss = job.workload.distillation_loss(whole, model, settings)
        fit_model(job, model, examples, loss, settings.train, folder / "assets", name.replace(" ", "-"))
        parents, key = (candidate.key,), job.derived_key(parent=candidate.key, ratio=ratio)
        made.append(publish(job, folder, model, candidate.architecture, name=name, parents=parents, key=key))
        removed = ratio
    return made


def _sample(job: Job, settings: Prune, candidate: Candidate, examples: "pd.DataFrame") -> list[Any]:
    sample = examples.sample(min(len(examples), settings.importance_examples), random_state=job.recipe.seed)
    return list(_batches(job, settings, candidate, sample))


def _all_batches(job: Job, settings: Prune, candidate: Candidate, examples: "pd.DataFrame") -> Iterator[Any]:
    """Gives the batches that are learnt from, and those of the given labels: both may be written."""
    yield from _batches(job, settings, candidate, examples)
    yield from _batches(job, settings, candidate, job.examples(TRAIN))


def _batches(job: Job, settings: Prune, candidate: Candidate, examples: "pd.DataFrame") -> Iterable[Any]:
    return job.workload.batches(job.recipe, examples, job.fetch(candidate) / "assets", settings.train)(1)
