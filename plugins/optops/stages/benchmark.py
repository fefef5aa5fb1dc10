"""Times every executable against the baseline, interleaved, alone on its host."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from optops.candidate import Candidate
from optops.measurement import host, plots
from optops.measurement.timing import Cell, Measurements, compare_all, noise_floor
from optops.measurement.worker_process import Contender, Worker
from optops.pipeline import VALIDATION
from optops.registry import CHAMPION, version_by_alias
from optops.stage_spec import Json, StageResult
from optops.stages.base import Job, StageError, cell_name
from optops.stages.champion import CHAMPION_NAME, fetch_champion
from optops.unreachable import is_no_fault_of_a_model


def run(job: Job) -> StageResult:
    """Returns the table of latencies and speed-ups; failures to run are dropped with their reason."""
    candidates = {c.name: c for result in job.results("fuse") for c in result.candidates}
    if not candidates:
        raise StageError("no executable came out of fuse, so there is nothing to time; see the logs of its tasks")
    folder = job.new_folder()
    cells = _cells(job, folder)
    contenders = [_contender(job, candidate) for candidate in candidates.values()]
    champion = version_by_alias(job.tracking.client, job.recipe.registry.name, CHAMPION)
    twin = next((c.name for c in candidates.values() if champion and c.artifact.digest == champion.artifact.digest), "")
    unfit = ""
    if champion and not twin:
        job.log(f"the reigning champion, version {champion.version}, is timed too")
        files = fetch_champion(job, champion)
        cells, unfit = _cells_for_champion(job, folder, files / "assets", cells)
        if not unfit:
            contenders.append(Contender(CHAMPION_NAME, files / "serving", job.recipe.target.threads))
    before = host.load()
    settings = job.recipe.benchmark
    seconds, seed = settings.seconds_per_cell, job.recipe.seed
    primary = cells[0]
    with Worker(_contender(job, job.baseline)) as baseline:
        job.log("A/A run of the baseline against itself")
        floor = noise_floor(baseline, cell_inputs=primary.inputs, items=primary.items, seconds=seconds, seed=seed)
        measurements = compare_all(
            baseline,
            contenders,
            cells,
            seconds=seconds,
            seed=seed,
            on_progress=lambda done, total, what: job.log(f"{done}/{total} {what}"),
        )
    table = _table(job, measurements, candidates)
    if twin in table:
        # The champion is among the executables: timed once more it would differ from itself, by noise.
        table[CHAMPION_NAME] = {**table[twin], "key": ""}
    output: Json = {
        "table": table,
        "champion": champion.version if champion else None,
        "champion_unfit": unfit,
        "noise_floor": floor.resolution,
        "target": {**asdict(host.Fingerprint.of_this_host()), "threads": job.recipe.target.threads},
        "load": {"before": asdict(before), "after": asdict(host.load())},
    }
    _log(job, folder, output, measurements, candidates)
    dropped = {CHAMPION_NAME: unfit} if unfit else {}
    dropped |= {f.candidate: f"{f.cell or 'loading'}: {f.reason}" for f in measurements.failures}
    if twin in dropped:
        dropped[CHAMPION_NAME] = dropped[twin]
    return job.hand_on(candidates=tuple(candidates.values()), output=output, dropped=dropped)


def _contender(job: Job, candidate: Candidate) -> Contender:
    return Contender(candidate.name, job.fetch(candidate) / "serving", job.recipe.target.threads)


def _cells(job: Job, folder: Path) -> list[Cell]:
    """Returns the cells, the primary one first: after one in which an executable fails, it is timed in no other."""
    assets, settings = job.fetch(job.baseline) / "assets", job.recipe.benchmark
    batches = sorted(settings.batches, key=lambda batch: batch != settings.primary_batch)
    return [Cell(cell_name(batch), _inputs(job, folder, assets, batch), batch) for batch in batches]


def _cells_for_champion(job: Job, folder: Path, assets: Path, cells: list[Cell]) -> tuple[list[Cell], str]:
    """Returns the cells with the champion's own inputs too: its tokenizer, say, makes other numbers of a text.

    Where this run's data give it none, the cells are as they were, and the reason comes with them.
    """
    own = folder / "champion"
    own.mkdir()
    try:
        own_inputs = [_inputs(job, own, assets, cell.items) for cell in cells]
    except Exception as error:
        if is_no_fault_of_a_model(error):
            raise
        return cells, f"it takes other inputs than this run has: {type(error).__name__}: {error}"
    pairs = zip(cells, own_inputs, strict=True)
    return [replace(cell, inputs_of={CHAMPION_NAME: inputs}) for cell, inputs in pairs], ""


def _inputs(job: Job, folder: Path, assets: Path, batch: int) -> tuple[Path, ...]:
    paths = []
    for index, arrays in enumerate(
        job.workload.benchmark_inputs(job.examples(VALIDATION), assets, batch, job.recipe.seed)
    ):
        paths.append(folder / f"batch-{batch}-{index}.npz")
        np.savez(paths[-1], **arrays)  # type: ignore[arg-type]
    return tuple(paths)


def _table(job: Job, measurements: Measurements, candidates: dict[str, Candidate]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for measurement in measurements.comparisons:
        comparison = measurement.comparison
        row = table.setdefault(
            measurement.candidate,
            {"key": candidates[measurement.candidate].key if measurement.candidate in candidates else "", "cells": {}},
        )
        row["cells"][measurement.cell] = {
            "speedup": asdict(comparison.speed_up),
            "latency": asdict(comparison.candidate),
            "baseline_latency": asdict(comparison.reference),
        }
    if not table.keys() & candidates.keys():
        reasons = "; ".join(f"{failure.candidate}: {failure.reason}" for failure in measurements.failures)
        raise StageError(f"not one executable could be timed: {reasons}")
    return table


def _log(job: Job, folder: Path, output: Json, measurements: Measurements, candidates: dict[str, Candidate]) -> None:
    path = folder / "benchmark.json"
    path.write_text(json.dumps(output, indent=1), encoding="utf-8")
    job.tracking.log_file(job.run_id, path)
    rows, sizes = [], {cell_name(batch): batch for batch in job.recipe.benchmark.batches}
    for measurement in measurements.comparisons:
        batch = sizes[measurement.cell]
        timing, ratio = measurement.comparison.candidate, measurement.comparison.speed_up
        rows.append(plots.LatencyRow(measurement.candidate, batch, timing.latency["p50"], *timing.p50_interval))
        baseline = measurement.comparison.reference
        if not any(row.is_baseline and row.batch == batch for row in rows):
            rows.append(
                plots.LatencyRow("baseline", batch, baseline.latency["p50"], *baseline.p50_interval, is_baseline=True)
            )
        job.log(
            f"{measurement.candidate}, {measurement.cell}: {ratio.ratio:.2f}x "
            f"[{ratio.low:.2f}, {ratio.high:.2f}], p50 {timing.latency['p50'] * 1e3:.2f} ms"
        )
        candidate = candidates.get(measurement.candidate)
        if candidate:
            prefix = f"batch_{batch}"
            values = {f"{prefix}.speedup": ratio.ratio, f"{prefix}.speedup_lower_bound": ratio.lower_bound}
            values |= {f"{prefix}.{name}_ms": seconds * 1e3 for name, seconds in timing.latency.items()}
            values |= {f"{prefix}.items_per_second": timing.items_per_second}
            values |= {"load_seconds": timing.load_seconds, "peak_memory_bytes": timing.peak_memory_bytes}
            job.tracking.log_metrics(job.run_id, values, candidate)
    job.tracking.log_metrics(job.run_id, {"noise_floor": output["noise_floor"]})
    picture = folder / "latency_by_batch.png"
    plots.latency_by_batch(rows, picture)
    job.tracking.log_file(job.run_id, picture)
