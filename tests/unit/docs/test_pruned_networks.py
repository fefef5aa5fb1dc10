"""The page of pruned networks is what its script writes, and stays true when single networks are measured again."""

import json
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[3] / "docs" / "pruned_networks.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = spec_from_file_location("pruned_networks", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def row(difference: float, **more: str) -> dict[str, object]:
    sizes = {"groups": 1, "channels": 8, "parameters": 100, "parameters at 0.3": 70, "parameters at 0.5": 50}
    return {**sizes, "difference at 0.3": difference, "difference at 0.5": 0.0, "left_whole": {}, **more}


def test_the_page_is_that_of_the_record(script: ModuleType) -> None:
    rows = json.loads(script.RECORD.read_text(encoding="utf-8"))
    assert script.PAGE.read_text(encoding="utf-8") == script.page(rows)


def test_the_page_tells_rows_that_compare_logits_from_earlier_ones(script: ModuleType) -> None:
    earlier, saturated, now = row(1e-7), row(1e-30), row(4e-12, compared="logits in float64")
    page = script.page({"Earlier": earlier, "Saturated": saturated, "Now": now, "Refused": {"error": "too deep"}})
    assert "| Earlier \\* |" in page and "| Now |" in page and "| Refused |" in page
    assert "Outputs are logits in float64;" in page
    assert "Random weights saturate it in Saturated: these differences say nothing." in page
    again = script.page({"Now": now, "Refused": {"error": "too deep"}})
    assert "softmax behind the logits" not in again
