"""The precision plan is the same after it has been written and read."""

import json

import pytest

from optops.precision import PrecisionPlan


def test_a_static_plan_is_read_as_it_was_written(tmp_path):
    plan = PrecisionPlan(
        "int8",
        {"conv/kernel:0": "int8"},
        dynamic=False,
        ranges={"x": (0.0, 1.0), "conv": (-0.1, 3.7)},
        bias_corrections={"conv/kernel:0": (1e-3, -2e-4)},
        weight_levels=63,
        notes={"head/kernel:0": "last layer"},
    )
    plan.save(tmp_path / "plan.json")
    assert PrecisionPlan.load(tmp_path / "plan.json") == plan


def test_a_plan_of_before_there_were_static_ones_is_read_too(tmp_path):
    path = tmp_path / "plan.json"
    old = {"precision": "int8", "parts": {"a:0": "int8"}, "dynamic": True, "ranges": {}, "notes": {}}
    path.write_text(json.dumps(old), encoding="utf-8")
    assert PrecisionPlan.load(path) == PrecisionPlan("int8", {"a:0": "int8"})


def test_an_unknown_precision_is_refused(tmp_path):
    PrecisionPlan("int8").save(tmp_path / "plan.json")
    text = (tmp_path / "plan.json").read_text(encoding="utf-8")
    (tmp_path / "plan.json").write_text(text.replace('"int8"', '"int4"'), encoding="utf-8")
    with pytest.raises(ValueError, match="'int4' is unknown; known are fp32"):
        PrecisionPlan.load(tmp_path / "plan.json")
