"""Optimises a model: loads it, rewrites each signature, proves it, times it, writes what is right and not slower."""

import shutil
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from optops.graph.optimizer.benchmark import Rounds, interleaved, judge
from optops.graph.optimizer.errors import OptimizerError, SignatureError
from optops.graph.optimizer.function import as_function, called_by_name, unfused, weights_apart
from optops.graph.optimizer.graph import Graph
from optops.graph.optimizer.loading import Model, Signature, load
from optops.graph.optimizer.lookup_shapes import note_lookup_shapes
from optops.graph.optimizer.lookups import looked_up
from optops.graph.optimizer.operators import BRANCHES, LOOPS, operators_inside
from optops.graph.optimizer.ordering import forget_order
from optops.graph.optimizer.parity import TOLERANCES, Difference, compare
from optops.graph.optimizer.patterns import KERNELS, PLAIN, PRODUCTS, TIDYING
from optops.graph.optimizer.patterns.encoder_stack import ENCODER_STACK
from optops.graph.optimizer.report import Report, SignatureReport, medians
from optops.graph.optimizer.rewriting import Context, NearMiss, Pattern
from optops.graph.optimizer.samples import Sample, accepted_samples, arrays, call, larger_samples, refusal
from optops.graph.optimizer.search import rewrite
from optops.graph.optimizer.writing import write
from optops.models.keras import tf

LONGEST = 1.0
"""Seconds of a call beyond which larger inputs are left out."""
MULTIPLY = ("MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "Einsum")
"""Operators of products of matrices."""
KERNEL_LEVELS = ("kernels", "products")
"""What has operators of the library."""


@dataclass
class Work:
    """One signature under way.

    Attributes:
        signature: What is optimised.
        precision: Of products in the operator library.
        report: What has been done.
        samples: Inputs on which results are compared; none where it must stay as it is.
        wanted: What the original gives for them.
        larger: Inputs on which what is finished is compared too, and timed.
        wanted_larger: What the original gives for them.
        graphs: What has been made, by level: `frozen`, `plain`, `kernels`, `products`.
        made: The report's rewrites and what it counts as tidied, by level.
    """

    signature: Signature
    precision: str
    report: SignatureReport
    samples: list[Sample] = field(default_factory=list)
    wanted: list[dict[str, np.ndarray]] = field(default_factory=list)
    larger: list[Sample] = field(default_factory=list)
    wanted_larger: list[dict[str, np.ndarray]] = field(default_factory=list)
    graphs: dict[str, Graph] = field(default_factory=dict)
    made: dict[str, tuple[list[dict[str, object]], dict[str, int]]] = field(default_factory=dict)

    def keep(self, level: str, graph: Graph) -> None:
        """Keeps a graph, with what the report says of it."""
        self.graphs[level] = graph.copy()
        self.made[level] = list(self.report.rewrites), dict(self.report.tidied)

    def check(self, graph: Graph, precision: str = "fp32", *, finished: bool = False) -> Difference:
        """Compares a graph with the original; if it is finished, as it is written and executed, and on all samples."""
        samples = [*self.samples, *self.larger] if finished else self.samples
        wanted = [*self.wanted, *self.wanted_larger] if finished else self.wanted
        try:
            function = as_function(self.signature, graph, weights_apart(graph)[0] if finished else graph.weights())
            with nullcontext() if finished else unfused():
                found = [arrays(function(*map(tf.constant, _ordered(self, sample)))) for sample in samples]
            return compare(wanted, found, precision)
        except Exception as error:  # noqa: BLE001 - a graph that does not run is wrong, whatever it raises
            return Difference(float("inf"), "", False, f"{type(error).__name__}: {str(error)[:300]}")


@dataclass(frozen=True)
class Proof:
    """What a rewritten signature must give once it is written and loaded again, within its precision."""

    inputs: Sample
    outputs: dict[str, np.ndarray]
    precision: str


def optimize(
    source: Any,
    out: Path | str,
    *,
    inputs: Mapping[str, np.ndarray] | Sequence[Mapping[str, np.ndarray]] | None = None,
    precision: str = "fp32",
    kernels: bool = True,
    benchmark: bool = True,
    extra_patterns: Sequence[Pattern] = (),
    picture: bool = True,
) -> Report:
    """Writes a SavedModel that computes the same as a model, and is not slower.

    Args:
        source: Folder of a SavedModel, `.keras` file, frozen graph (`.pb`), Keras model or `tf.Module`.
        out: Folder of the new SavedModel; must not exist. It appears once it is complete.
        inputs: One or more samples of what the model is called with, by name; random ones are used beside them.
        precision: Of products that go to the operator library; all else stays as it is.
        kernels: Whether operators of the library may be used; `load_operators()` must then run before the result is
            loaded.
        benchmark: Whether the result is timed against the original, and falls back where it is slower.
        extra_patterns: Patterns of your own, after those of optops.
        picture: Whether a picture of what was fused, `optops_fused.png`, lies in the folder too.

    Returns:
        What was rewritten, proved, rolled back and left alone. It also lies in the folder as `optops_report.json`.

    Raises:
        OptimizerError: If the model can not be read, a sample does not fit, or the folder exists or lies in the model.
        OSError: If the folder can not be written; nothing is left of it then.
    """
    out = Path(out)
    _check_place(source, out)
    _check_precision(precision, kernels)
    samples = [inputs] if isinstance(inputs, Mapping) else list(inputs or ())
    given = [{name: np.asarray(array) for name, array in sample.items()} for sample in samples]
    with tempfile.TemporaryDirectory(prefix="optops-optimize-") as scratch:
        model = load(source, Path(scratch) / "source")
        _check_names(model, given)
        report = Report(str(source) if isinstance(source, str | Path) else type(source).__name__, precision)
        kept: dict[str, Graph | None] = {}
        proofs: dict[str, Proof] = {}
        for name, signature in model.signatures.items():
            twin = _twin(signature, model, kept)
            if twin:  # Keras exports the same function as `serve` and as `serving_default`
                kept[name] = kept[twin]
                if twin in proofs:
                    proofs[name] = proofs[twin]
                known = next(each for each in report.signatures if each.name == twin)
                report.signatures.append(replace(known, name=name))
                continue
            work = Work(signature, precision, SignatureReport(name))
            kept[name] = _optimized(work, given, kernels, benchmark, extra_patterns)
            if kept[name] is not None:
                proofs[name] = Proof(work.samples[0], work.wanted[0], _precision(work, work.report.level))
            report.signatures.append(work.report)
        _publish(model, kept, proofs, report, out, picture)
    return report


def _check_precision(precision: str, kernels: bool) -> None:
    if precision not in TOLERANCES:
        raise OptimizerError(f"precision {precision!r} is unknown; known are {', '.join(TOLERANCES)}")
    if precision != "fp32" and not kernels:
        raise OptimizerError(f"precision {precision} needs the operator library; leave `kernels` on or take fp32")


def _check_place(source: Any, out: Path) -> None:
    if isinstance(source, str | Path):
        before, after = Path(source).resolve(), out.resolve()
        if before == after or before in after.parents or after in before.parents:
            raise OptimizerError(f"{out} must not be {source}, nor lie in it or around it; give a folder elsewhere")
    if out.exists():
        raise OptimizerError(f"{out} exists already; give another folder or remove it")


def _twin(signature: Signature, model: Model, done: Iterable[str]) -> str | None:
    """Returns the signature that computes the same with the same names, if there is one."""
    for name in done:
        other = model.signatures[name]
        if (
            signature.graph
            and other.graph
            and not signature.captures
            and signature.inputs == other.inputs
            and signature.outputs == other.outputs
            and signature.graph.is_equal(other.graph)
        ):
            return name
    return None


def _check_names(model: Model, given: Sequence[Sample]) -> None:
    takes = {name: sorted(signature.inputs) for name, signature in model.signatures.items()}
    for sample in given:
        if sorted(sample) not in takes.values():
            expected = "; ".join(f"signature {name!r} takes {', '.join(keys)}" for name, keys in takes.items())
            raise OptimizerError(f"the inputs given are called {', '.join(sorted(sample))}; {expected}")


def _described(inputs: Mapping[str, Any]) -> str:
    """Returns names, dtypes and shapes of arrays or TensorSpecs for people."""
    return ", ".join(f"{name} {tf.as_dtype(each.dtype).name} {each.shape}" for name, each in sorted(inputs.items()))


def _optimized(
    work: Work, given: list[Sample], kernels: bool, benchmark: bool, extra: Sequence[Pattern]
) -> Graph | None:
    """Returns what one signature becomes; None, with the reason in its report, where it stays as it is."""
    try:
        _start(work, given)
        if work.samples:
            _rewrite_all(work, kernels, benchmark, extra)
        return _choose(work, benchmark)
    except OptimizerError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever it raises, other signatures need not stay as they are
        work.report.leave(f"optimising it failed: {type(error).__name__}: {str(error)[:300]}")
        return None


def _start(work: Work, given: list[Sample]) -> None:
    """Finds the inputs on which a signature is compared, and what it gives for them."""
    signature, report = work.signature, work.report
    graph = signature.graph
    if graph is None:
        report.notes.append(f"left as it is: {signature.reason}")
        return
    report.nodes_before = report.nodes_after = len(graph.nodes)
    fitting = [sample for sample in given if set(sample) == set(signature.inputs)]
    for sample in fitting:
        reason = refusal(signature, sample)
        if reason is not None:
            raise OptimizerError(
                f"signature {signature.name!r} does not accept the inputs given, {_described(sample)}; "
                f"it takes {_described(signature.inputs)}: {reason[:500]}"
            )
    samples = [*fitting, *accepted_samples(signature, graph)]
    if not samples:
        report.notes.append("left as it is: it has numbers for none of the random inputs; give it `inputs`")
        return
    wanted, again = ([call(signature.original, sample) for sample in samples] for _ in range(2))
    if not compare(wanted, again, "fp32").fits:
        report.notes.append("left as it is: it does not give the same result twice")
        return
    work.samples, work.wanted = samples, wanted
    for sample in larger_samples(signature, graph):
        begin = time.perf_counter()
        outputs = call(signature.original, sample)
        if time.perf_counter() - begin < LONGEST:
            work.larger.append(sample)
            work.wanted_larger.append(outputs)
    report.samples = [_shapes(sample) for sample in (*samples, *work.larger)]


def _shapes(sample: Mapping[str, np.ndarray]) -> dict[str, list[int]]:
    return {name: list(array.shape) for name, array in sample.items()}


def _rewrite_all(work: Work, kernels: bool, benchmark: bool, extra: Sequence[Pattern]) -> None:
    assert work.signature.graph is not None
    graph = work.signature.graph.copy()
    forget_order(graph)
    graph.prune()
    note_lookup_shapes(graph)
    difference = work.check(graph)
    if not difference.fits:
        work.report.notes.append(f"left as it is: frozen, it does not compute the same: {difference.reason}")
        return
    work.keep("frozen", graph)
    work.report.order = [node.name for node in graph.in_order() if node.op != "Const"]
    found = looked_up(work.signature, graph, work.samples)
    samples = [
        dict(zip(graph.inputs, _ordered(work, sample), strict=False)) | tables
        for sample, tables in zip(work.samples, found, strict=True)
    ]
    context = Context(work.precision, samples)
    _note_hidden(graph, context)
    patterns = [*TIDYING, *PLAIN, *(pattern for pattern in extra if not pattern.kernels), *TIDYING]
    rewrite(graph, patterns, context, work.check, work.report)
    work.keep("plain", graph)
    if kernels:
        own = tuple(pattern for pattern in extra if pattern.kernels)
        steps = {"kernels": KERNELS + own}
        if work.precision != "fp32":
            steps = {"kernels": KERNELS + PRODUCTS + own}
        elif benchmark:
            steps["products"] = PRODUCTS
        _rewrite_to_kernels(work, graph, steps, context)
    missed = [miss for miss in context.near_misses if not _is_rewritten(work.report, miss)]
    work.report.left_alone = [asdict(miss) for miss in missed]


def _note_hidden(graph: Graph, context: Context) -> None:
    """Reports what has products in functions of its own: patterns look at none."""
    for node in graph.nodes.values():
        products = sum(op in MULTIPLY for op in operators_inside(graph, node))
        if products:
            kind = "loop" if node.op in LOOPS else "branch" if node.op in BRANCHES else "function"
            context.left_alone(kind, node.name, f"nothing is rewritten in what it calls; products there: {products}")


def _is_rewritten(report: SignatureReport, miss: NearMiss) -> bool:
    """Returns whether what was left alone is in a rewrite; that of a part does not make up for an encoder's."""
    names = {miss.node, miss.node.rpartition(":")[0]}
    patterns = {str(each["pattern"]) for each in report.rewrites if names.intersection(each["before"])}  # type: ignore[arg-type]
    return bool(patterns & {ENCODER_STACK.name} if miss.pattern.startswith("encoder") else patterns)


def _rewrite_to_kernels(work: Work, graph: Graph, steps: Mapping[str, Sequence[Pattern]], context: Context) -> None:
    """Applies the patterns of each level in turn, each on what the one before made."""
    from optops.kernels import KernelsUnavailableError
    from optops.kernels.tensorflow import load_operators

    try:
        load_operators()
    except KernelsUnavailableError as error:
        work.report.notes.append(f"the operator library is not used: {error}")
        return
    check = partial(work.check, precision=work.precision)
    for level, patterns in steps.items():
        before = len(work.report.rewrites)
        rewrite(graph, patterns, context, check, work.report)
        if len(work.report.rewrites) > before:
            rewrite(graph, TIDYING, context, check, work.report)
            work.keep(level, graph)


def _ordered(work: Work, sample: Sample) -> list[np.ndarray]:
    return [sample[name] for name in work.signature.inputs]


def _choose(work: Work, benchmark: bool) -> Graph | None:
    """Returns the graph to be used: the fastest or, if nothing is timed, the furthest; None for the original itself."""
    report = work.report
    if not work.graphs:
        return None
    differences = _prove(work, all_levels=benchmark)
    if not work.graphs:
        report.leave("nothing that was made of it can be used")
        return None
    level = _fastest(work) if benchmark else list(work.graphs)[-1]
    if level is None:
        report.leave(f"nothing that was made of it is as fast; {medians(report.milliseconds)}")
        return None
    graph = work.graphs[level]
    report.level, report.nodes_after = level, len(graph.nodes)
    report.rewrites, report.tidied = work.made[level]
    report.difference = differences[level].value
    if report.milliseconds:
        report.speed_up = report.milliseconds["original"] / report.milliseconds[level]
    return graph


def _prove(work: Work, *, all_levels: bool) -> dict[str, Difference]:
    """Compares graphs as they are written with the original, the furthest first, and drops those that do not fit.

    While a graph was rewritten its weights were no constants, in which TensorFlow computes beforehand what it can, and
    TensorFlow fused nothing itself; and it was compared on short sentences, where some operators do not run.

    Args:
        work: Whose graphs.
        all_levels: Whether all are compared, instead of those from the furthest to the first that fits.
    """
    fitting: dict[str, Difference] = {}
    for level, graph in reversed(list(work.graphs.items())):
        difference = work.check(graph, _precision(work, level), finished=True)
        if difference.fits:
            fitting[level] = difference
            if not all_levels:
                break
        else:
            del work.graphs[level]
            reason = f"as it is written, it does not compute the same: {difference.reason}"
            work.report.notes.append(f"{level} is not used: {reason}")
    return fitting


def _precision(work: Work, level: str) -> str:
    return work.precision if level in KERNEL_LEVELS else "fp32"


def _fastest(work: Work) -> str | None:
    """Times all levels, each in turn with the original; returns the one to be used, None for the original."""
    samples = [*work.samples[:2], *work.larger]
    verdict = judge({level: _timed(work.signature, graph, samples) for level, graph in work.graphs.items()})
    work.report.milliseconds = verdict.milliseconds
    work.report.notes += [
        f"{level} is slower than the original on {count} of {len(samples)} inputs and is not used"
        for level, count in verdict.slower.items()
    ]
    return verdict.best


def _timed(signature: Signature, graph: Graph, samples: Sequence[Sample]) -> list[Rounds]:
    """Times one graph alone with the original: TensorFlow holds several copies of each one's constants."""
    function = called_by_name(signature, as_function(signature, graph, *weights_apart(graph)))
    timed = []
    for sample in samples:
        tensors = {name: tf.constant(sample[name]) for name in signature.inputs}
        timed.append(interleaved(partial(signature.original, **tensors), partial(function, **tensors)))
    return timed


def _publish(
    model: Model, kept: dict[str, Graph | None], proofs: Mapping[str, Proof], report: Report, out: Path, picture: bool
) -> None:
    """Writes all files beside `out` first, so that it is there whole or not at all."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as beside:
        folder = Path(beside) / out.name
        _write(model, kept, proofs, folder, report)
        report.kernels = any(each.level in KERNEL_LEVELS for each in report.signatures)
        report.save(folder)
        if picture:
            from optops.graph.optimizer.picture import PICTURE, draw

            draw(report, folder / PICTURE)
        folder.replace(out)


def _write(model: Model, kept: dict[str, Graph | None], proofs: Mapping[str, Proof], out: Path, report: Report) -> None:
    """Writes what was made of all signatures; of those that can not be used once they are saved, the originals."""
    while any(kept.values()):
        try:
            write(model, kept, out)
            _check_written(model, {name: proof for name, proof in proofs.items() if kept[name]}, out)
            return
        except Exception as error:  # noqa: BLE001 - whatever can not be written, the original can
            shutil.rmtree(out, ignore_errors=True)
            found = error.signature if isinstance(error, SignatureError) else None
            left = [found] if found and kept[found] else [name for name, graph in kept.items() if graph]
            for signature in report.signatures:
                if signature.name in left:
                    signature.leave(f"what was made of it can not be used once it is saved: {error}")
            kept.update(dict.fromkeys(left))
    write(model, kept, out)


def _check_written(model: Model, proofs: Mapping[str, Proof], out: Path) -> None:
    """Loads what was written and compares its signatures with the original's, what they take, give and compute."""
    written = tf.saved_model.load(str(out))
    for name, signature in model.signatures.items():
        function = written.signatures[name]
        for before, after in (
            (signature.original.structured_input_signature[1], function.structured_input_signature[1]),
            (signature.original.structured_outputs, function.structured_outputs),
        ):
            if not _fit(before, after):
                raise SignatureError(name, f"became {_described(after)}; it was {_described(before)}")
        if name in proofs:
            difference = _proved(function, proofs[name])
            if not difference.fits:
                raise SignatureError(name, f"does not compute the same: {difference.reason}")


def _proved(function: Any, proof: Proof) -> Difference:
    try:
        return compare([proof.outputs], [call(function, proof.inputs)], proof.precision)
    except Exception as error:  # noqa: BLE001 - what does not run is wrong, whatever it raises
        return Difference(float("inf"), "", False, f"{type(error).__name__}: {str(error)[:300]}")


def _fit(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Returns whether names and dtypes are the same; shapes may be known better than they were."""
    return before.keys() == after.keys() and all(
        spec.dtype == after[key].dtype and spec.shape.is_compatible_with(after[key].shape)
        for key, spec in before.items()
    )
