"""The figures: written as PNG, nothing clipped, no label over another, extremes kept readable."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from optops.measurement.non_inferiority import Tolerance, margins, non_inferiority
from optops.measurement.plots import (
    AcceptedRegion,
    LatencyRow,
    QualityPoint,
    latency_by_batch,
    latency_by_batch_figure,
    quality_against_latency,
    quality_against_latency_figure,
    verdict,
    verdict_figure,
)

REGION = AcceptedRegion(minimum_speed_up=1.5, quality_bound=29.7, metric="BLEU")
BASELINE = QualityPoint("tensorflow-float32", 1, 0.98, 1.02, 30, 29.4, 30.6, "baseline")


def crowd(count: int) -> list[QualityPoint]:
    generator = np.random.default_rng(3)
    points = [BASELINE]
    for index in range(count):
        speed_up, quality = 2 + 0.1 * generator.normal(), 29.8 + 0.15 * generator.normal()
        name = f"student-{index}-int8-onnxruntime"
        points.append(
            QualityPoint(name, speed_up, speed_up - 0.1, speed_up + 0.1, quality, quality - 0.5, quality + 0.5)
        )
    points[-1] = replace(points[-1], role="nominee")
    return points


def label_boxes(figure) -> list:
    return [text.get_window_extent() for text in figure.axes[0].texts if text.get_text()]


def assert_inside(figure) -> None:
    figure.canvas.draw()
    box = figure.get_tightbbox(figure.canvas.get_renderer())
    width, height = figure.get_size_inches()
    assert box.x0 >= 0
    assert box.y0 >= 0
    assert box.x1 <= width
    assert box.y1 <= height


def examine(candidate, reference, tolerance, examples=500, **options):
    return non_inferiority(
        candidate,
        reference,
        candidate_point=candidate.mean(),
        reference_point=reference.mean(),
        examples=examples,
        tolerance=tolerance,
        **options,
    )


@pytest.mark.parametrize("count", [2, 14])
def test_labels_of_crowded_points_do_not_overlap(count):
    figure = quality_against_latency_figure(crowd(count), REGION)
    assert_inside(figure)
    boxes = label_boxes(figure)
    assert len(boxes) == count + 1
    assert not [(one, other) for one, other in combinations(boxes, 2) if one.overlaps(other)]
    frame = figure.axes[0].get_window_extent()
    assert all(frame.x0 <= box.x0 and box.x1 <= frame.x1 for box in boxes)
    assert all(frame.y0 <= box.y0 and box.y1 <= frame.y1 for box in boxes)


@pytest.mark.parametrize("higher_is_better", [True, False])
def test_a_ruined_candidate_is_named_and_does_not_flatten_the_others(higher_is_better):
    ruined = QualityPoint("ruined", 3, 2.9, 3.1, 60.0 if not higher_is_better else 0.4, 0.1, 61)
    region = replace(REGION, higher_is_better=higher_is_better, quality_bound=29.7 if higher_is_better else 30.3)
    figure = quality_against_latency_figure([*crowd(3), ruined], region)
    bottom, top = figure.axes[0].get_ylim()
    assert top - bottom < 6
    assert any("off scale" in text.get_text() for text in figure.axes[0].texts)


def test_the_accepted_region_is_decided_by_both_bounds():
    point = QualityPoint("p", 1.5, 1.4, 1.6, 29.7, 29, 30)
    assert REGION.holds(point)
    assert not REGION.holds(replace(point, speed_up=1.49))
    assert not REGION.holds(replace(point, quality=29.69))
    lower = replace(REGION, higher_is_better=False)
    assert lower.holds(replace(point, quality=29.69))
    assert not lower.holds(replace(point, quality=29.71))


@pytest.mark.parametrize("points", [[], crowd(2)[1:], [BASELINE, BASELINE]])
def test_a_figure_without_exactly_one_baseline_is_refused(points):
    with pytest.raises(ValueError, match="exactly one point"):
        quality_against_latency_figure(points, REGION)


@pytest.mark.parametrize("spread", [1.2, 100.0])
def test_latencies_of_many_contenders_fit_in_the_figure(spread):
    names = ["tensorflow-float32", *(f"student-pruned-{index}-int8-onnxruntime" for index in range(9))]
    rows = [
        LatencyRow(name, batch, p50, p50 * 0.9, p50 * 1.1, is_baseline=index == 0)
        for index, name in enumerate(names)
        for batch in (1, 8, 32)
        for p50 in [0.01 * spread ** (-index / 9)]
    ]
    figure = latency_by_batch_figure(rows[:-1])  # the last contender lacks a batch size
    assert_inside(figure)
    assert figure.axes[0].get_yscale() == ("log" if spread > 5 else "linear")
    assert figure.legends[0].get_texts()[0].get_text() == "tensorflow-float32 (baseline)"


def test_no_latencies_are_refused():
    with pytest.raises(ValueError, match="at least one row"):
        latency_by_batch_figure([])


@pytest.mark.parametrize("offset", [0.0, -0.3, -2.0, 9.0])
def test_the_verdict_stands_in_the_title(offset):
    generator = np.random.default_rng(1)
    reference = generator.normal(30, 0.5, 1000)
    candidate = reference + generator.normal(offset, 0.1, 1000)
    tolerance = Tolerance(0.01, "relative")
    result = examine(candidate, reference, tolerance, anomalous_gain=0.2)
    figure = verdict_figure(result, margins(candidate, reference, tolerance), metric="BLEU")
    assert figure.axes[0].get_title("left").startswith(result.verdict.upper())
    left, right = figure.axes[0].get_xlim()
    assert left < min(0, result.margin_lower)
    assert right > max(0, result.margin_upper)
    assert_inside(figure)


@pytest.mark.parametrize("tolerance", [0.0, 0.01])
def test_the_verdict_on_models_scored_alike_says_what_would_prove_it(tolerance):
    values = np.random.default_rng(1).normal(30, 0.5, 1000)
    result = examine(values, values, Tolerance(tolerance, "relative"), examples=100)
    figure = verdict_figure(result, margins(values, values, result.tolerance), metric="BLEU")
    assert figure.axes[0].get_title("left") == f"INCONCLUSIVE: {result.reason}"
    left, right = figure.axes[0].get_xlim()
    assert left < result.margin_lower < result.margin_upper < right
    assert_inside(figure)


@pytest.mark.parametrize("noise", [0.0, 1e-16, 1e-12, 1e-8])
def test_margins_that_differ_by_rounding_alone_are_drawn(noise):
    candidate = 29.8 * (1 + noise * np.random.default_rng(0).integers(0, 3, 1000))
    tolerance = Tolerance(0.02, "relative")
    result = examine(candidate, np.full(1000, 30.0), tolerance)
    figure = verdict_figure(result, margins(candidate, np.full(1000, 30.0), tolerance), metric="BLEU")
    assert_inside(figure)


def test_each_figure_is_written_as_png_and_alike_each_time(tmp_path):
    values = np.full(100, 0.4)
    result = examine(values, values, Tolerance(0.0, "absolute"))
    for name in ("first", "second"):
        latency_by_batch(
            [LatencyRow("only", 1, 0.01, 0.009, 0.011, is_baseline=True)], tmp_path / f"{name}_latency.png"
        )
        quality_against_latency(crowd(3), REGION, tmp_path / f"{name}_quality.png")
        verdict(result, values - values, tmp_path / f"{name}_verdict.png", metric="mAP")
    for kind in ("latency", "quality", "verdict"):
        content = (tmp_path / f"first_{kind}.png").read_bytes()
        assert content.startswith(b"\x89PNG")
        assert content == (tmp_path / f"second_{kind}.png").read_bytes()
