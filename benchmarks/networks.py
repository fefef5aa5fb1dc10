"""A network in all its forms: lowered in a process of its own, held against its baseline, then timed beside it."""

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from optops.graph.lowering import STOCK, LoweringError, lower
from optops.measurement.timing import Cell, Comparison, compare_all
from optops.measurement.worker_process import Contender, Worker
from optops.models.base import load_architecture, load_function
from optops.precision import PrecisionPlan
from optops.runtimes import load_executable
from optops.testing.executables import TOLERANCE

Arrays = Mapping[str, np.ndarray]
Report = Callable[[str], None]
BASELINE = "tensorflow"
SEED = 1


@dataclass(frozen=True)
class Network:
    """What is lowered and timed. Goes to another process, so it holds functions of modules and no models.

    Attributes:
        name: For people.
        architecture: Name in optops' registry.
        build: Returns Keras models by name; the first is the whole one, with whose baseline all are compared.
        candidates: Runtimes and precisions that a model is lowered to, by its name; all are timed in stock TensorFlow.
        cells: Name to the inputs of one call; the first axis counts examples.
        calibration: Inputs, call by call, from which int8 has its ranges.
    """

    name: str
    architecture: str
    build: Callable[[], Mapping[str, Any]]
    candidates: Mapping[str, Sequence[tuple[str, str]]]
    cells: Mapping[str, Arrays]
    calibration: Sequence[Arrays] = ()


@dataclass(frozen=True)
class Record:
    """A form of a network on one cell, or why it was not timed.

    Attributes:
        network: Its name.
        model: Which of its models.
        parameters: Of that model.
        runtime: That executes it.
        precision: In which it does.
        difference: Largest difference from the outputs of that model's own baseline, relative to the largest output.
        cell: Name of the cell; empty if it was not timed at all.
        milliseconds: Median latency.
        ratio: Times as fast as the whole model's baseline, timed in turn with it.
        low: Lower end of the ratio's 95 % interval.
        high: Upper end.
        reason: Why it was not timed; empty if it was.
    """

    network: str
    model: str
    parameters: int
    runtime: str
    precision: str
    difference: float | None
    cell: str = ""
    milliseconds: float | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Form:
    """A lowered model; `reason` says why it could not be lowered, `folder` has the executable if it could."""

    model: str
    parameters: int
    runtime: str
    precision: str
    folder: Path
    difference: float | None = None
    reason: str = ""

    @property
    def name(self) -> str:
        """Tells it from the network's other forms."""
        return f"{self.model}, {self.runtime} {self.precision}"


def threads() -> int:
    """Returns how many compute threads everything gets: one for each core."""
    return len(os.sched_getaffinity(0))


def alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls a function in a process of its own, whose memory and TensorFlow are gone when the timing begins."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def measure(network: Network, seconds: float, report: Report) -> list[Record]:
    """Lowers a network to everything it is to be timed in, checks it and times it.

    Args:
        network: What is timed.
        seconds: For each form on each cell; at least six interleaved blocks are timed, whatever they take.
        report: Told what is under way.

    Returns:
        A record for each form and cell, those of the baseline first.

    Raises:
        ValueError: If what a form in full precision gives is not what its baseline gives.
        WorkerError: If the baseline can not be timed.
    """
    with TemporaryDirectory(prefix="optops-benchmark-") as temporary:
        folder = Path(temporary)
        report(f"{network.name}: lowering")
        reference, *forms = alone(lowered, network, folder)
        lowerable = [form for form in forms if not form.reason]
        with Worker(_contender(reference)) as baseline:
            measured = compare_all(
                baseline,
                [_contender(form) for form in lowerable],
                saved_cells(network, folder),
                seconds=seconds,
                seed=SEED,
                on_progress=lambda done, total, what: report(f"{network.name}: {done}/{total} {what}"),
            )
    found = {(one.candidate, one.cell): one.comparison for one in measured.comparisons}
    # A traceback ends in what went wrong.
    failed = {failure.candidate: failure.reason.splitlines()[-1] for failure in measured.failures}
    records = []
    for cell in network.cells:
        baseline = next(comparison.reference for (_, timed), comparison in found.items() if timed == cell)
        milliseconds = baseline.latency["p50"] * 1e3
        records.append(_record(network, reference, cell=cell, milliseconds=milliseconds, ratio=1.0, low=1.0, high=1.0))
    for form in forms:
        if reason := form.reason or failed.get(form.name):
            records.append(_record(network, form, reason=reason))
        timed = {cell: found[form.name, cell] for cell in network.cells if (form.name, cell) in found}
        records += [_record(network, form, cell=cell, **_figures(comparison)) for cell, comparison in timed.items()]
    return records


def lowered(network: Network, folder: Path) -> list[Form]:
    """Returns the forms of a network, the whole model's baseline first; executables go below a folder."""
    from optops.models.training.threads import share_cores

    share_cores(1)
    forms: list[Form] = []
    for number, (name, model) in enumerate(network.build().items()):
        own = folder / str(number)
        trainable = own / "trainable"
        load_architecture(network.architecture).save(model, trainable, {})
        baseline = Form(name, model.count_params(), BASELINE, "fp32", own / STOCK, 0.0)
        del model
        lower(trainable, PrecisionPlan("fp32"), STOCK, baseline.folder)
        forms += [baseline, *_forms_of(network, baseline, trainable)]
        shutil.rmtree(trainable)
    return forms


def plan_of(network: Network, trainable: Path, precision: str) -> PrecisionPlan:
    """Returns the plan that optops makes for a precision."""
    planner = load_function(load_architecture(network.architecture).planner())
    plan: PrecisionPlan = planner(trainable, precision, lambda: iter(network.calibration))
    return plan


def saved_cells(network: Network, folder: Path) -> list[Cell]:
    """Writes the inputs of each cell into a folder and returns the cells."""
    cells = []
    for name, inputs in network.cells.items():
        path = folder / f"{name}.npz"
        np.savez(path, **inputs)
        cells.append(Cell(name, [path], len(next(iter(inputs.values())))))
    return cells


def difference(found: Arrays, expected: Arrays) -> float:
    """Returns the largest difference between outputs, relative to the largest value of each output."""
    return max(float(np.abs(found[name] - wanted).max() / np.abs(wanted).max()) for name, wanted in expected.items())


def _forms_of(network: Network, baseline: Form, trainable: Path) -> list[Form]:
    expected, forms = _outputs(network, baseline.folder), []
    candidates = network.candidates[baseline.model]
    plans = {precision: plan_of(network, trainable, precision) for _, precision in candidates}
    for runtime, precision in candidates:
        folder = trainable.parent / f"{runtime} {precision}"
        form = Form(baseline.model, baseline.parameters, runtime, precision, folder)
        try:
            lower(trainable, plans[precision], runtime, folder)
        except LoweringError as error:
            forms.append(Form(**{**vars(form), "reason": str(error)}))
            continue
        pairs = zip(_outputs(network, folder), expected, strict=True)
        form = Form(**{**vars(form), "difference": max(difference(found, wanted) for found, wanted in pairs)})
        if precision == "fp32" and not form.difference <= TOLERANCE["fp32"]:
            raise ValueError(
                f"{network.name}, {form.name}: its outputs differ from the baseline's by {form.difference:.1e}, "
                f"more than {TOLERANCE['fp32']:.0e}; the lowering is wrong, nothing is timed"
            )
        forms.append(form)
    return forms


def _outputs(network: Network, folder: Path) -> list[Arrays]:
    executable = load_executable(folder, threads())
    return [executable(inputs) for inputs in network.cells.values()]


def _contender(form: Form) -> Contender:
    return Contender(form.name, form.folder, threads())


def _figures(comparison: Comparison) -> dict[str, float]:
    speed = comparison.speed_up
    milliseconds = comparison.candidate.latency["p50"] * 1e3
    return {"milliseconds": milliseconds, "ratio": speed.ratio, "low": speed.low, "high": speed.high}


def _record(network: Network, form: Form, **figures: Any) -> Record:
    own = (form.model, form.parameters, form.runtime, form.precision, form.difference)
    return Record(network.name, *own, **figures)
