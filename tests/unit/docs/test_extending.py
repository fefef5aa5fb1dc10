"""What the page about extending shows fits the contracts."""

import re
from inspect import signature
from pathlib import Path
from typing import Any

import pytest

import optops.testing
from optops.runtimes import Runtime
from optops.workloads.base import Workload

PAGE = (Path(__file__).parents[3] / "docs" / "extending.md").read_text(encoding="utf-8")


def shown(name: str) -> Any:
    (example,) = (text for text in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if f"class {name}(" in text)
    names: dict[str, Any] = {}
    exec(compile(example, "extending.md", "exec"), names)
    return names[name]


@pytest.mark.parametrize(("name", "contract"), [("MyWorkload", Workload), ("MyRuntime", Runtime)])
def test_a_skeleton_has_all_that_must_be_there_with_its_arguments(name: str, contract: type) -> None:
    skeleton = shown(name)
    assert issubclass(skeleton, contract) and not skeleton.__abstractmethods__
    for method in (name for name, value in vars(skeleton).items() if callable(value) and name[0] != "_"):
        wanted = signature(getattr(contract, method)).parameters
        found = signature(getattr(skeleton, method)).parameters
        assert [(p.name, p.default) for p in found.values()] == [(p.name, p.default) for p in wanted.values()]


def test_the_page_calls_every_suite() -> None:
    assert all(f"    {suite}(" in PAGE for suite in optops.testing.__all__)
