"""The figures that show a benchmark and a verdict: PNG files, drawn through matplotlib objects without global state."""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator
from numpy.typing import NDArray

from optops.measurement.labels import Labelled, place_labels
from optops.measurement.non_inferiority import NonInferiority

DPI = 150
# Okabe & Ito 2008: told apart under the common colour-vision deficiencies. Black is the baseline's.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F")
MARKERS = ("o", "^", "D", "v", "P", "X", "<", ">", "h")
BLUE, VERMILION, GREEN, PURPLE, ORANGE = PALETTE[:5]
VERDICT_COLOURS = {"accept": GREEN, "regression": VERMILION, "inconclusive": ORANGE, "anomalous": PURPLE}
LOGARITHMIC_FROM_RATIO = 5.0
# Who lost more than this many times the allowed loss is drawn at the edge, because it would flatten all others.
SHOWN_LOSSES = 12.0

Role = Literal["baseline", "candidate", "nominee"]
ROLE_MARKERS = {"baseline": "s", "candidate": "o", "nominee": "*"}
ROLE_SIZES = {"baseline": 8.0, "candidate": 7.0, "nominee": 15.0}


@dataclass(frozen=True)
class LatencyRow:
    """Median latency of one contender at one batch size, with the ends of its interval, in seconds."""

    name: str
    batch: int
    p50: float
    low: float
    high: float
    is_baseline: bool = False


@dataclass(frozen=True)
class QualityPoint:
    """One contender: speed-up against the baseline and quality, each with the ends of its interval."""

    name: str
    speed_up: float
    speed_up_low: float
    speed_up_high: float
    quality: float
    quality_low: float
    quality_high: float
    role: Role = "candidate"


@dataclass(frozen=True)
class AcceptedRegion:
    """What the recipe asks for.

    Attributes:
        minimum_speed_up: against the baseline.
        quality_bound: the baseline's quality less the tolerance, or plus it where lower is better.
        metric: name of the quality metric with its unit, for the axis.
        higher_is_better: direction of the metric.
    """

    minimum_speed_up: float
    quality_bound: float
    metric: str
    higher_is_better: bool = True

    def holds(self, point: QualityPoint) -> bool:
        """Whether a point lies in the region."""
        loss = self.quality_bound - point.quality if self.higher_is_better else point.quality - self.quality_bound
        return point.speed_up >= self.minimum_speed_up and loss <= 0


def latency_by_batch(rows: Sequence[LatencyRow], path: Path) -> None:
    """Draws the median latency of every contender over the batch sizes, with intervals.

    Args:
        rows: one for each contender and batch size; a contender may lack some sizes.
        path: the PNG file to write.

    Raises:
        ValueError: no rows.
    """
    _save(latency_by_batch_figure(rows), path)


def quality_against_latency(points: Sequence[QualityPoint], region: AcceptedRegion, path: Path) -> None:
    """Draws every contender's quality over its speed-up, and the region that the recipe accepts.

    Args:
        points: the contenders, exactly one of them with the role `baseline`.
        region: what is accepted.
        path: the PNG file to write.

    Raises:
        ValueError: there is not exactly one baseline.
    """
    _save(quality_against_latency_figure(points, region), path)


def verdict(result: NonInferiority, differences: NDArray[np.float64], path: Path, *, metric: str) -> None:
    """Draws the bootstrap distribution of the tested margin with its bounds and the verdict.

    Args:
        result: of the test.
        differences: float (resamples,), D on each resample: `optops.measurement.non_inferiority.margins`.
        path: the PNG file to write.
        metric: name of the metric with its unit, for the axis.
    """
    _save(verdict_figure(result, differences, metric=metric), path)


def latency_by_batch_figure(rows: Sequence[LatencyRow]) -> Figure:
    """The figure that `latency_by_batch` writes."""
    if not rows:
        raise ValueError("there is no latency to draw: give at least one row")
    batches = sorted({row.batch for row in rows})
    figure, axes = _figure(9, 5)
    _draw_latencies(axes, rows, batches)
    axes.set_xticks(range(len(batches)), [str(batch) for batch in batches])
    axes.set_xlim(-0.5, len(batches) - 0.5)
    axes.set_xlabel("batch size [examples per call]")
    axes.set_ylabel("latency of one call, p50 [ms]")
    axes.set_title("Median latency by batch size (95 % intervals; lower is better)", loc="left")
    values = [row.p50 for row in rows]
    if max(values) / min(values) > LOGARITHMIC_FROM_RATIO:
        _logarithmic(axes.yaxis, axes.set_yscale, "{:g}")
    else:
        axes.set_ylim(bottom=0)
    figure.legend(
        handles=axes.get_legend_handles_labels()[0],
        loc="outside right upper",
        frameon=False,
        title="slowest first",
        alignment="left",
    )
    return figure


def quality_against_latency_figure(points: Sequence[QualityPoint], region: AcceptedRegion) -> Figure:
    """The figure that `quality_against_latency` writes."""
    baselines = [point for point in points if point.role == "baseline"]
    if len(baselines) != 1:
        raise ValueError(f"exactly one point must have the role 'baseline', got {len(baselines)} of {len(points)}")
    figure, axes = _figure(10, 6.2)
    edge = _edge(points, baselines[0], region)
    labelled = [_draw_point(axes, point, region, edge) for point in points]
    axes.margins(0.14, 0.12)
    speed_ups = [point.speed_up for point in points]
    if max(speed_ups) / min(speed_ups) > LOGARITHMIC_FROM_RATIO:
        _logarithmic(axes.xaxis, axes.set_xscale, "{:g}×")
    else:
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))
    _shade(axes, region)
    better = "higher" if region.higher_is_better else "lower"
    axes.set_xlabel("speed-up against the baseline (right is faster)")
    axes.set_ylabel(f"{region.metric} ({better} is better)")
    axes.set_title("Quality against speed, with intervals", loc="left")
    roles = {point.role for point in points}
    handles = [
        *(_role_handle(role) for role in ROLE_MARKERS if role in roles),
        _handle("o", 7, VERMILION, "outside the accepted region", markerfacecolor="white"),
        Patch(facecolor=GREEN, alpha=0.15, label="accepted region"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9)
    place_labels(axes, labelled)
    return figure


def verdict_figure(result: NonInferiority, differences: NDArray[np.float64], *, metric: str) -> Figure:
    """The figure that `verdict` writes."""
    figure, axes = _figure(9, 5)
    colour = VERDICT_COLOURS[result.verdict]
    bins = _bins(differences)
    axes.hist(differences, bins=bins, histtype="stepfilled", color=colour, alpha=0.55)
    # As many decimals as the width of the distribution gives meaning to.
    decimals = max(0, 2 - math.floor(math.log10(bins[-1] - bins[0])))
    level = f"one-sided {result.confidence * 100:.3g} %"
    lines = (
        (0.0, "black", "-", "zero: the tolerance is used up"),
        (result.margin, colour, "-", f"observed margin {result.margin:+z.{decimals}f}"),
        (result.margin_lower, BLUE, "--", f"lower bound {result.margin_lower:+z.{decimals}f} ({level})"),
        (result.margin_upper, BLUE, ":", f"upper bound {result.margin_upper:+z.{decimals}f} ({level})"),
    )
    for value, line_colour, style, label in lines:
        axes.axvline(value, color=line_colour, linestyle=style, linewidth=1.8, label=label)
    left, right = axes.get_xlim()
    room = 0.06 * (max(right, 0) - min(left, 0))
    axes.set_xlim(min(left, -room), max(right, room))
    axes.axvspan(axes.get_xlim()[0], 0, color="0.5", alpha=0.12, linewidth=0, zorder=0, label="worse than allowed")
    axes.set_xlabel(f"margin D: what is left of the tolerance [{metric}]")
    axes.set_ylabel(f"bootstrap resamples (of {len(differences):,})")
    axes.set_title(f"{result.verdict.upper()}: {result.reason}", loc="left", fontweight="bold", pad=22)
    axes.text(0, 1.02, _arithmetic(result, metric), transform=axes.transAxes, fontsize=9, color="0.25")
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return figure


def _bins(differences: NDArray[np.float64]) -> NDArray[np.float64]:
    # What differs by the rounding of floats alone leaves no room for as many edges.
    if np.ptp(differences) <= 1e-9 * np.abs(differences).max():
        return np.linspace(differences[0] - 0.5, differences[0] + 0.5, 42)
    return np.histogram_bin_edges(differences, bins=40)


def _arithmetic(result: NonInferiority, metric: str) -> str:
    value = result.tolerance.value
    tolerance, smallest = f"{value:g} {metric}", "none"
    if result.tolerance.kind == "relative":
        tolerance = f"{value * 100:.3g} %"
    if result.smallest_provable_tolerance is not None:
        smallest = f"{result.smallest_provable_tolerance:.3g} {metric}"
        if result.tolerance.kind == "relative":
            smallest = f"{result.smallest_provable_tolerance * 100:.3g} %"
    return (
        f"candidate {result.candidate_point:.5g}, reference {result.reference_point:.5g} {metric}; "
        f"tolerance {tolerance}; smallest provable tolerance {smallest}"
    )


def _figure(width: float, height: float) -> tuple[Figure, Any]:
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.07)
    figure = Figure(figsize=(width, height), dpi=DPI, layout=layout)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.grid(visible=True, color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _save(figure: Figure, path: Path) -> None:
    # Without the version of matplotlib in it the same data gives the same file.
    figure.savefig(path, format="png", dpi=DPI, metadata={"Software": None})


def _series_style(is_baseline: bool, index: int) -> dict[str, Any]:
    if is_baseline:
        return {"color": "black", "marker": "s", "linestyle": "--", "linewidth": 2.0, "markersize": 6}
    return {
        "color": PALETTE[index % len(PALETTE)],
        "marker": MARKERS[index % len(MARKERS)],
        "linewidth": 1.5,
        "markersize": 6,
    }


def _draw_latencies(axes: Any, rows: Sequence[LatencyRow], batches: Sequence[int]) -> None:
    """One line for each contender, the slowest first, which is the order from top to bottom."""
    series: dict[str, list[LatencyRow]] = {}
    for row in sorted(rows, key=lambda row: row.batch):
        series.setdefault(row.name, []).append(row)
    colours = {name: index for index, name in enumerate(series)}
    slowest_first = sorted(series, key=lambda name: -max(row.p50 for row in series[name]))
    for position, name in enumerate(slowest_first):
        own = series[name]
        # Side by side, so that intervals of equal latencies do not hide each other.
        dodge = (position - (len(series) - 1) / 2) * min(0.06, 0.5 / len(series))
        milliseconds = np.array([(row.p50, row.low, row.high) for row in own]).T * 1e3
        axes.errorbar(
            [batches.index(row.batch) + dodge for row in own],
            milliseconds[0],
            yerr=_arms(milliseconds[0], milliseconds[1], milliseconds[2]),
            label=_wrapped(name) + (" (baseline)" if own[0].is_baseline else ""),
            capsize=3,
            elinewidth=1.2,
            **_series_style(own[0].is_baseline, colours[name]),
        )


def _logarithmic(axis: Any, set_scale: Any, text: str) -> None:
    set_scale("log")
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: text.format(value)))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def _edge(points: Sequence[QualityPoint], baseline: QualityPoint, region: AcceptedRegion) -> float:
    """The quality at which contenders are drawn that lost too much: just beyond the worst of the others."""
    sign = 1 if region.higher_is_better else -1
    allowed = max(abs(baseline.quality - region.quality_bound), 1e-3 * abs(baseline.quality))
    shown = [point for point in points if sign * (baseline.quality - point.quality) <= SHOWN_LOSSES * allowed]
    ends = [sign * end for point in shown for end in (point.quality_low, point.quality_high, point.quality)]
    return sign * (min(ends) - 0.1 * (max(ends) - min(ends)))


def _draw_point(axes: Any, point: QualityPoint, region: AcceptedRegion, edge: float) -> Labelled:
    inside = region.holds(point)
    colour = "black" if point.role == "baseline" else BLUE if inside else VERMILION
    off_scale = point.quality < edge if region.higher_is_better else point.quality > edge
    text = _wrapped(point.name) + ("" if point.role == "candidate" else f"\n({point.role})")
    y, low, high = (edge,) * 3 if off_scale else (point.quality, point.quality_low, point.quality_high)
    _, caps, arms = axes.errorbar(
        point.speed_up,
        y,
        xerr=_arms(point.speed_up, point.speed_up_low, point.speed_up_high),
        yerr=_arms(y, low, high),
        marker=(("v" if region.higher_is_better else "^") if off_scale else ROLE_MARKERS[point.role]),
        markersize=ROLE_SIZES[point.role],
        color=colour,
        markerfacecolor=colour if inside or point.role == "baseline" else "white",
        elinewidth=1,
        capsize=2.5,
        zorder=3,
    )
    for artist in (*caps, *arms):
        artist.set_alpha(0.5)
    return Labelled(
        text + (f"\n(off scale: {point.quality:.4g})" if off_scale else ""),
        point.speed_up,
        y,
        (point.speed_up_low, low),
        (point.speed_up_high, high),
        bold=point.role == "nominee",
    )


def _arms(values: Any, low: Any, high: Any) -> NDArray[np.float64]:
    # A point estimate may lie a little outside its bootstrap interval; matplotlib refuses arms of negative length.
    arms = np.stack([np.subtract(values, low), np.subtract(high, values)])
    clipped: NDArray[np.float64] = np.clip(arms, 0, None).reshape(2, -1)
    return clipped


def _shade(axes: Any, region: AcceptedRegion) -> None:
    """Fills the accepted corner up to the frame, wherever the limits of the axes are."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    right = max(right, region.minimum_speed_up * 1.1)
    bottom, top = min(bottom, region.quality_bound), max(top, region.quality_bound)
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    low, high = (region.quality_bound, top) if region.higher_is_better else (bottom, region.quality_bound)
    corner = (region.minimum_speed_up, low)
    width, height = right - region.minimum_speed_up, high - low
    axes.add_patch(Rectangle(corner, width, height, color=GREEN, alpha=0.15, linewidth=0, zorder=0))
    axes.axhline(region.quality_bound, color=GREEN, linestyle="--", linewidth=1, zorder=1)
    axes.axvline(region.minimum_speed_up, color=GREEN, linestyle="--", linewidth=1, zorder=1)


def _role_handle(role: str) -> Line2D:
    return _handle(ROLE_MARKERS[role], min(ROLE_SIZES[role], 11), "black" if role == "baseline" else BLUE, role)


def _handle(marker: str, size: float, colour: str, label: str, **style: Any) -> Line2D:
    return Line2D([], [], linestyle="none", marker=marker, markersize=size, color=colour, label=label, **style)


def _wrapped(name: str) -> str:
    return textwrap.fill(name, 40, break_on_hyphens=False)
