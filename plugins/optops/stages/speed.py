"""The one judgement of speed: against the baseline in every cell, and against the reigning champion."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optops.stages.base import Job, cell_name
from optops.stages.champion import CHAMPION_NAME

Ratio = Mapping[str, Any]
"""A speed-up against the baseline, as `RatioInterval`."""


MOST_ALLOWANCE = 0.1
"""What a noise floor can excuse at most."""


@dataclass(frozen=True)
class Speed:
    """How fast an executable is, in the cells of the benchmark.

    Attributes:
        cell: The primary cell.
        minimum: What the lower bound of the speed-up must reach there.
        noise_floor: How far from 1 a speed-up may be that noise alone explains.
        nominee: The speed-up there; None if the executable failed.
        others: The same in the other cells.
        champion: The reigning champion's speed-up in the primary cell; None if it has none.
        untimed: Why a champion that this run can serve has none; empty if there is none to be timed.
        unfit: Why the champion can not be served with this run's data; empty if it can.
    """

    cell: str
    minimum: float
    noise_floor: float
    nominee: Ratio | None
    others: Mapping[str, Ratio | None]
    champion: Ratio | None
    untimed: str = ""
    unfit: str = ""

    @property
    def allowance(self) -> float:
        """How far the noise floor excuses what is slower: a host that is disturbed once proves no model fast."""
        return min(self.noise_floor, MOST_ALLOWANCE)

    @property
    def shortfall(self) -> str:
        """Why it is not fast enough beside the baseline; empty if it is."""
        if self.nominee is None:
            return "it failed in the primary cell of the benchmark"
        if self.nominee["lower_bound"] < self.minimum:
            why = f": closer to 1 the noise floor of {self.noise_floor:.2f} explains it" if self.is_of_noise else ""
            return (
                f"speed-up {self.nominee['ratio']:.2f}, lower bound {self.nominee['lower_bound']:.2f}: "
                f"less than the minimum of {self.minimum:.2f}{why}"
            )
        for cell, ratio in self.others.items():
            if ratio is None:
                return f"it failed in the cell `{cell}` of the benchmark"
            if ratio["high"] < min(1.0, self.minimum) - self.allowance:
                least = f", less than the minimum of {self.minimum:.2f}" if self.minimum < 1 else ""
                return f"slower than the baseline at {cell}: {ratio['ratio']:.2f}x{least}"
        return ""

    @property
    def is_of_noise(self) -> bool:
        """Whether the minimum is the recipe's raised to what stands out of noise."""
        return self.noise_floor > 0 and self.minimum == 1 + self.noise_floor

    @property
    def slower_than_champion(self) -> str:
        """Why it is slower than the champion beyond doubt, their intervals further apart than by noise; empty if not.

        Each was timed against the baseline in a process of its own, so even one model may differ by noise.
        """
        if self.champion is None or self.nominee is None:
            return ""
        if self.nominee["high"] * (1 + self.allowance) >= self.champion["low"]:
            return ""
        return f"slower than the reigning champion: {self.nominee['ratio']:.2f}x against {self.champion['ratio']:.2f}x"


def judge_speed(job: Job, name: str) -> Speed:
    """Returns the speed of an executable that was timed, by the result of the benchmark.

    A speed-up within the noise floor is none: a minimum of 1 or more is raised to what stands out of it. Below 1 nobody
    claims a gain, as where the smallest model is wanted.
    """
    result, settings, minimum = job.result("benchmark"), job.recipe.benchmark, job.recipe.gate.minimum_speedup
    table, floor = result.output["table"], float(result.output["noise_floor"])
    primary = cell_name(settings.primary_batch)
    ours = _ratios(table, name)
    champion = _ratios(table, CHAMPION_NAME).get(primary)
    unfit = result.output.get("champion_unfit", "")
    reigns = result.output.get("champion") is not None
    untimed = result.dropped.get(CHAMPION_NAME, "no reason is known") if reigns and not champion and not unfit else ""
    others = [cell_name(batch) for batch in settings.batches if cell_name(batch) != primary]
    return Speed(
        cell=primary,
        minimum=max(minimum, 1 + floor) if minimum >= 1 else minimum,
        noise_floor=floor,
        nominee=ours.get(primary),
        others={cell: ours.get(cell) for cell in others},
        champion=champion,
        untimed=untimed,
        unfit=unfit,
    )


def _ratios(table: Mapping[str, Any], name: str) -> dict[str, Ratio]:
    return {cell: found["speedup"] for cell, found in table.get(name, {"cells": {}})["cells"].items()}
