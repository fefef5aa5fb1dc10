"""Times two contenders in turn, in one run, and says how many times as fast one is."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from optops.measurement.statistics import RatioInterval, ratio_interval
from optops.measurement.worker_process import Contender, Worker

MINIMUM_BLOCKS = 6


@dataclass(frozen=True)
class Record:
    """One comparison; times are medians, low and high a 95 % interval of the ratio."""

    work: str
    peer: str
    peer_ms: float
    ours_ms: float
    ratio: float
    low: float
    high: float
    threads: int


def compare(work: str, ours: Contender, peer: Contender, inputs: list[Path], seconds: float, seed: int) -> Record:
    """Times a peer and ours on the same inputs."""
    with Worker(peer) as theirs, Worker(ours) as mine:
        times, ratio = interleaved(theirs, mine, inputs, seconds, seed)
    return Record(work, peer.name, *times, ratio.ratio, ratio.low, ratio.high, ours.threads)


def interleaved(
    theirs: Worker, mine: Worker, inputs: list[Path], seconds: float, seed: int
) -> tuple[tuple[float, float], RatioInterval]:
    """Times two workers in turn, the order by chance, for at least six blocks.

    A call here is as long as a leg of the pipeline's benchmark, which would leave every call the first after the other
    side's: cold, as nobody's second call is. So each leg has one call that is not timed, and two that are.

    Returns:
        The medians in milliseconds, and the ratio with its interval.
    """
    random, blocks = np.random.default_rng(seed), []
    for worker in (theirs, mine):
        worker.load_inputs(inputs)
        worker.run(2)
    until = time.monotonic() + seconds
    while len(blocks) < MINIMUM_BLOCKS or time.monotonic() < until:
        block = {}
        for index in random.permutation(2):
            block[index] = float(np.median((theirs, mine)[index].run(3)[1:])) * 1e3
        blocks.append((block[0], block[1]))
    found = np.array(blocks)
    ratio = ratio_interval(np.log(found[:, 0] / found[:, 1]), seed=seed)
    theirs_ms, ours_ms = np.median(found, axis=0)
    return (float(theirs_ms), float(ours_ms)), ratio
