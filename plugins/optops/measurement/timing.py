"""Compares the latency of executables in randomised interleaved blocks, so that a noisy host hits both sides alike."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from optops.measurement.statistics import RatioInterval, latency_percentiles, median_interval, ratio_interval
from optops.measurement.worker_process import Contender, Worker, WorkerError

LEG_SECONDS = 0.05
MINIMUM_CALLS = 1
MAXIMUM_CALLS = 10_000
MINIMUM_BLOCKS = 6
SETTLED_CHANGE = 0.05
MAXIMUM_WARM_UP_LEGS = 6


@dataclass(frozen=True)
class Cell:
    """One cell of a benchmark matrix.

    Args:
        name: for example `batch 8, length 64`.
        inputs: .npz files, each with one array for each input of one call; calls take them in turn, so that a few
            stand for the whole range of what the model is given.
        items: examples that one call processes: the batch size.
        inputs_of: of contenders that take the same examples in another form, by their names.
    """

    name: str
    inputs: Sequence[Path]
    items: int
    inputs_of: Mapping[str, Sequence[Path]] = field(default_factory=dict)


@dataclass(frozen=True)
class Timing:
    """The latency of one executable on one cell.

    Attributes:
        name: the executable.
        calls: number of timed calls.
        calls_per_leg: timed calls in each leg of a block.
        settled: whether its times had settled when the warm-up ended.
        latency: `p50`, and `p90` and `p99` where there are calls enough, in seconds.
        p50_interval: two-sided 95 % interval of the median of the blocks' medians, in seconds.
        items_per_second: throughput, from the mean latency.
        load_seconds: from the import of the runtime to the ready callable.
        memory_after_load_bytes: resident memory after loading.
        peak_memory_bytes: largest resident memory of its process so far.
    """

    name: str
    calls: int
    calls_per_leg: int
    settled: bool
    latency: dict[str, float]
    p50_interval: tuple[float, float]
    items_per_second: float
    load_seconds: float
    memory_after_load_bytes: int
    peak_memory_bytes: int


@dataclass(frozen=True)
class Comparison:
    """How fast a candidate is beside its reference, timed together. Plain data: `json.dumps(asdict(comparison))`.

    Attributes:
        reference: what the candidate is compared with.
        candidate: the candidate.
        speed_up: reference latency over candidate latency; above 1 the candidate is faster.
        log_ratios: the log of that ratio in each block.
        seconds: wall-clock time of the timed blocks.
        seed: of the order of the legs and of the bootstrap.
    """

    reference: Timing
    candidate: Timing
    speed_up: RatioInterval
    log_ratios: tuple[float, ...]
    seconds: float
    seed: int


@dataclass(frozen=True)
class NoiseFloor:
    """What the procedure reports for two workers of one executable.

    Attributes:
        comparison: of the executable with itself.
        resolution: the largest deviation from 1 within the interval of the ratio; a speed-up closer to 1 than this is
            not told from noise.
    """

    comparison: Comparison
    resolution: float


@dataclass(frozen=True)
class Measurement:
    """A comparison and where it belongs: `candidate` and `cell` are names."""

    candidate: str
    cell: str
    comparison: Comparison


@dataclass(frozen=True)
class Failure:
    """A candidate that could not be timed; `cell` is None where it could not be loaded."""

    candidate: str
    cell: str | None
    reason: str


@dataclass(frozen=True)
class Measurements:
    """All comparisons of one benchmark, in the order of candidates and cells, and what failed."""

    comparisons: tuple[Measurement, ...]
    failures: tuple[Failure, ...]


@dataclass(frozen=True)
class _Warm:
    worker: Worker
    inputs: int
    calls: int
    settled: bool


def compare(
    reference: Worker,
    candidate: Worker,
    *,
    cell_inputs: Sequence[Path],
    items: int,
    seconds: float,
    seed: int,
    candidate_inputs: Sequence[Path] | None = None,
) -> Comparison:
    """Times two warm workers against each other.

    Blocks have four legs, in the order ABBA or BAAB at random, so that linear drift cancels within a block; a leg times
    calls of one side for about 50 ms, whole rounds over the inputs, while the other side is frozen. A side's time in a
    block is the mean over the inputs of the median of its calls, and a block's ratio is that of these times. Whole
    blocks are resampled, since calls within one depend on each other (Kalibera & Jones 2013).

    Args:
        reference: worker of the reference.
        candidate: worker of the candidate.
        cell_inputs: .npz files, each with one array for each input of one call.
        items: examples that one call processes.
        seconds: budget for the timed blocks; at least six are run, whatever they take.
        seed: of the order of the legs and of the bootstrap.
        candidate_inputs: the same for the candidate, where it takes the examples in another form.

    Returns:
        Latencies of both sides and the speed-up with its bounds.

    Raises:
        WorkerError: a worker failed or died.
    """
    sides = []
    for worker, inputs in ((reference, cell_inputs), (candidate, candidate_inputs or cell_inputs)):
        worker.load_inputs(inputs)
        sides.append(_warm_up(worker, len(inputs)))
    blocks, elapsed = _run_blocks(sides[0], sides[1], seconds, seed)
    rounds = np.array(
        [[_typical(durations, side.inputs) for side, durations in zip(sides, block, strict=True)] for block in blocks]
    )
    log_ratios = np.log(rounds[:, 0] / rounds[:, 1])
    timings = [_timing(side, [block[index] for block in blocks], items, seed) for index, side in enumerate(sides)]
    return Comparison(
        reference=timings[0],
        candidate=timings[1],
        speed_up=ratio_interval(log_ratios, seed=seed),
        log_ratios=tuple(log_ratios.tolist()),
        seconds=elapsed,
        seed=seed,
    )


def noise_floor(reference: Worker, *, cell_inputs: Sequence[Path], items: int, seconds: float, seed: int) -> NoiseFloor:
    """Compares a contender with itself (an A/A run): what the procedure can not tell from 1 on this host now.

    Args:
        reference: its contender is loaded in a second worker.
        cell_inputs: .npz files, each with one array for each input of one call.
        items: examples that one call processes.
        seconds: budget for the timed blocks.
        seed: of the order of the legs and of the bootstrap.

    Returns:
        The comparison and the deviation that noise alone explains.

    Raises:
        WorkerError: a worker failed or died.
    """
    with Worker(reference.contender) as other:
        comparison = compare(reference, other, cell_inputs=cell_inputs, items=items, seconds=seconds, seed=seed)
    interval = comparison.speed_up
    return NoiseFloor(comparison, math.exp(max(abs(math.log(interval.low)), abs(math.log(interval.high)))) - 1)


def compare_all(
    reference: Worker,
    candidates: Sequence[Contender],
    cells: Sequence[Cell],
    *,
    seconds: float,
    seed: int,
    on_progress: Callable[[int, int, str], None] | None = None,
) -> Measurements:
    """Compares each candidate with the reference on each cell.

    Beside the reference there is one candidate at a time, so that memory holds two models.

    Args:
        reference: what all are compared with.
        candidates: with distinct names.
        cells: the benchmark matrix.
        seconds: budget for the timed blocks of each comparison.
        seed: each comparison gets one derived from it.
        on_progress: called before each comparison with the number done, the number of all, and what comes next; once
            more at the end.

    Returns:
        The comparisons; a candidate that fails is recorded and the others go on.

    Raises:
        ValueError: names are not distinct, or there are no cells.
        WorkerError: the reference failed.
    """
    names = [contender.name for contender in (reference.contender, *candidates)]
    if len(set(names)) < len(names) or not cells:
        raise ValueError(f"contenders {names} need distinct names and at least one cell, got {len(cells)} cells")
    report = on_progress or (lambda done, total, what: None)
    total = len(candidates) * len(cells)
    comparisons: list[Measurement] = []
    failures: list[Failure] = []
    for index, contender in enumerate(candidates):
        done, cell = index * len(cells), None
        try:
            report(done, total, f"{contender.name}: loading")
            with Worker(contender) as worker:
                for offset, cell in enumerate(cells):
                    report(done + offset, total, f"{contender.name}: {cell.name}")
                    comparison = compare(
                        reference,
                        worker,
                        cell_inputs=cell.inputs,
                        items=cell.items,
                        seconds=seconds,
                        seed=seed + done + offset,
                        candidate_inputs=cell.inputs_of.get(contender.name),
                    )
                    comparisons.append(Measurement(contender.name, cell.name, comparison))
        except WorkerError as error:
            if error.contender is reference.contender:
                raise
            failures.append(Failure(contender.name, cell.name if cell else None, str(error)))
    report(total, total, "done")
    return Measurements(tuple(comparisons), tuple(failures))


def _warm_up(worker: Worker, inputs: int) -> _Warm:
    """Runs legs until two in a row take about the same, and chooses how many calls a leg takes."""
    calls = _whole_rounds(MINIMUM_CALLS, inputs)
    previous, settled = _typical(worker.run(calls), inputs), False
    for _ in range(MAXIMUM_WARM_UP_LEGS):
        wanted = min(max(math.ceil(LEG_SECONDS / previous), MINIMUM_CALLS), MAXIMUM_CALLS)
        calls = _whole_rounds(wanted, inputs)
        current = _typical(worker.run(calls), inputs)
        settled = abs(current / previous - 1) < SETTLED_CHANGE
        previous = current
        if settled:
            break
    return _Warm(worker, inputs, calls, settled)


def _whole_rounds(calls: int, inputs: int) -> int:
    # A leg that stopped in the middle of a round would favour the inputs that come first.
    return math.ceil(calls / inputs) * inputs


def _typical(durations: NDArray[np.float64], inputs: int) -> float:
    """The mean over the inputs of the median of the calls on each: what a round takes, without its outliers."""
    return float(np.median(durations.reshape(-1, inputs), axis=0).mean())


def _run_blocks(
    reference: _Warm, candidate: _Warm, seconds: float, seed: int
) -> tuple[list[tuple[NDArray[np.float64], NDArray[np.float64]]], float]:
    generator = np.random.default_rng(seed)
    blocks: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []
    started = time.monotonic()
    while len(blocks) < MINIMUM_BLOCKS or time.monotonic() - started < seconds:
        order = (0, 1, 1, 0) if generator.integers(2) else (1, 0, 0, 1)
        legs: tuple[list[NDArray[np.float64]], list[NDArray[np.float64]]] = ([], [])
        for index in order:
            side = (reference, candidate)[index]
            legs[index].append(side.worker.run(side.calls))
        blocks.append((np.concatenate(legs[0]), np.concatenate(legs[1])))
    return blocks, time.monotonic() - started


def _timing(side: _Warm, blocks: Sequence[NDArray[np.float64]], items: int, seed: int) -> Timing:
    durations = np.concatenate(blocks)
    # Of what p50 is of, the median of all calls; a round's time lies elsewhere where the inputs take unlike times.
    _, low, high, _ = median_interval([float(np.median(block)) for block in blocks], seed=seed)
    return Timing(
        name=side.worker.contender.name,
        calls=len(durations),
        calls_per_leg=side.calls,
        settled=side.settled,
        latency=latency_percentiles(durations),
        p50_interval=(low, high),
        items_per_second=float(items / durations.mean()),
        **asdict(side.worker.report()),
    )
