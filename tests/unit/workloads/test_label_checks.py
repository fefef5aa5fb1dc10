import json
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from optops.sections import CheckSetting
from optops.workloads.label_checks import (
    Defect,
    LabelCheck,
    LabelCheckError,
    RowCheck,
    quarantined_ids,
    run_checks,
)


def find_large_boxes(rows: pd.DataFrame, largest: float) -> "pd.Series[str]":
    """A check as another workload would write it, here about boxes in images."""
    large = rows[rows["width"] * rows["height"] > largest]
    return pd.Series(f"area above {largest}", index=large.index, dtype=str)


def break_down(rows: pd.DataFrame) -> "pd.Series[str]":
    raise ZeroDivisionError("the check itself is wrong")


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boxes_of_test", sys.modules[__name__])


BOXES = RowCheck(
    LabelCheck("large_box", "critical", 0.25, "No box covers more than 100 pixels."),
    "boxes_of_test:find_large_boxes",
    ("width", "height"),
    {"largest": 100},
)


def boxes(*areas: float, split: str = "train") -> pd.DataFrame:
    return pd.DataFrame(
        {
            "id": [f"{split}/{number}" for number in range(len(areas))],
            "file": "boxes.txt",
            "line": range(1, len(areas) + 1),
            "split": split,
            "width": areas,
            "height": 1,
        }
    )


def test_outcomes_and_defects_are_told_by_split(tmp_path: Path) -> None:
    frame = pd.concat([boxes(1, 2, 300, 4), boxes(500, 600, 1, split="test")], ignore_index=True)
    outcomes, defects = run_checks(frame, [BOXES], {}, tmp_path, "boxes")
    assert [(o.check, o.split, o.count, o.share, o.within_limit) for o in outcomes] == [
        ("large_box", "train", 1, 0.25, True),
        ("large_box", "test", 2, pytest.approx(2 / 3), False),
    ]
    assert defects[0] == Defect(
        "large_box", "critical", "train", "train/2", "boxes.txt", 3, "300 | 1", "area above 100"
    )
    assert [defect.id for defect in defects[1:]] == ["test/0", "test/1"]
    assert quarantined_ids(defects) == {"train/2"}
    assert quarantined_ids(defects, "test") == {"test/0", "test/1"}


def test_more_defects_than_great_expectations_keeps_values_are_all_named(tmp_path: Path) -> None:
    frame = boxes(*([1000.0] * 700 + [1.0] * 10))
    outcomes, defects = run_checks(frame, [BOXES], {}, tmp_path, "boxes")
    assert outcomes[0].count == len({defect.id for defect in defects}) == 700


@pytest.mark.parametrize(("bad", "limit"), [(1, 0.1), (7, 0.7)])
def test_a_share_that_equals_its_limit_is_within_it(tmp_path: Path, bad: int, limit: float) -> None:
    frame = boxes(*([1000.0] * bad + [1.0] * (10 - bad)))
    strict = replace(BOXES, label=replace(BOXES.label, name="strict", limit=limit - 0.01))
    outcomes, _ = run_checks(frame, [BOXES, strict], {"large_box": CheckSetting(limit=limit)}, tmp_path, "boxes")
    assert [outcome.within_limit for outcome in outcomes] == [True, False]


def test_settings_change_severity_and_turn_checks_off(tmp_path: Path) -> None:
    outcomes, defects = run_checks(
        boxes(1, 300), [BOXES], {"large_box": CheckSetting(severity="warning", limit=0.9)}, tmp_path, "boxes"
    )
    assert (outcomes[0].severity, outcomes[0].limit, outcomes[0].within_limit) == ("warning", 0.9, True)
    assert quarantined_ids(defects) == frozenset()
    off = {"large_box": CheckSetting(severity="off")}
    assert run_checks(boxes(1, 300), [BOXES], off, tmp_path, "boxes") == ([], [])


def test_data_docs_open_from_disk_and_show_sentence_count_and_values(tmp_path: Path) -> None:
    frame = boxes(1, 2, 300, 4).assign(width=["1", "2", "<script>alert(1)</script>", "4"])
    check = RowCheck(BOXES.label, "boxes_of_test:find_scripts", ("width", "height"))
    run_checks(frame, [check], {}, tmp_path / "docs", "boxes")
    index = (tmp_path / "docs" / "index.html").read_text(encoding="utf-8")
    (page,) = (tmp_path / "docs" / "validations").rglob("*.html")
    text = page.read_text(encoding="utf-8")
    assert page.relative_to(tmp_path / "docs").as_posix() in index
    assert "large_box" in text
    assert "No box covers more than 100 pixels. At least" in text
    assert "1 of 4 rows (25 %)" in text
    assert "train/2" in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "<script>alert(1)" not in text


def find_scripts(rows: pd.DataFrame) -> "pd.Series[str]":
    hit = rows["width"].str.contains("<")
    return pd.Series("holds a tag", index=rows.index[hit], dtype=str)


def test_a_value_is_shown_in_one_line_with_its_spaces(tmp_path: Path) -> None:
    frame = boxes(1, 2).assign(width=["1", "<b> two  spaces\tand a tab \r\nnext line"])
    check = RowCheck(BOXES.label, "boxes_of_test:find_scripts", ("width", "height"))
    (defect,) = run_checks(frame, [check], {}, tmp_path, "boxes")[1]
    assert defect.value == "<b> two  spaces\tand a tab  next line | 1"


def test_results_are_plain_values(tmp_path: Path) -> None:
    outcomes, defects = run_checks(boxes(1, 300), [BOXES], {}, tmp_path, "boxes")
    assert json.dumps([vars(item) for item in [*outcomes, *defects]])


def test_missing_values_are_judged_not_left_out(tmp_path: Path) -> None:
    frame = boxes(1, 2, 3, 300)
    frame.loc[0, ["width", "height"]] = None
    (outcome,), _ = run_checks(frame, [BOXES], {}, tmp_path, "boxes")
    assert (outcome.count, outcome.share) == (1, 0.25)


def test_errors_name_the_thing_and_the_remedy(tmp_path: Path) -> None:
    frame = boxes(1, 2)
    cases = [
        (frame.drop(columns="line"), BOXES, {}, "lack the column.*line"),
        (frame.head(0), BOXES, {}, "no examples"),
        (pd.concat([frame, frame]), BOXES, {}, "'train/0' occurs more than once"),
        (frame, BOXES, {"larg_box": CheckSetting()}, "no label check 'larg_box'; did you mean 'large_box'"),
        (
            frame,
            RowCheck(BOXES.label, "boxes_of_test:break_down", ("width",)),
            {},
            "large_box .*the check itself is wrong",
        ),
    ]
    for rows, check, settings, message in cases:
        with pytest.raises(LabelCheckError, match=message):
            run_checks(rows, [check], settings, tmp_path, "boxes")
