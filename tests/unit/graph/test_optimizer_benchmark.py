"""What several timed inputs say: nothing that is slower on one of them, the fastest of the rest."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from optops.graph import optimize
from optops.graph.optimizer.benchmark import Rounds, interleaved, judge
from optops.models.keras import tf

DRAW = np.random.default_rng(0)


def rounds(before: float, after: float) -> Rounds:
    """Returns made-up times of 50 rounds, in milliseconds with 1 % of noise; every fifth round takes twice as long."""
    disturbed = np.where(np.arange(50) % 5, 1, 2)
    return Rounds(*(value / 1e3 * disturbed * DRAW.normal(1, 0.01, 50) for value in (before, after)))


def test_what_is_slower_on_one_input_is_not_used() -> None:
    verdict = judge(
        {
            "frozen": [rounds(10, 9), rounds(10, 9)],
            "plain": [rounds(10, 8), rounds(10, 8)],
            "kernels": [rounds(10, 2), rounds(10, 11)],
        }
    )
    assert verdict.slower == {"kernels": 1}
    assert verdict.best == "plain"


def test_the_fastest_is_used_where_it_is_not_the_furthest() -> None:
    verdict = judge(
        {
            "frozen": [rounds(10, 9), rounds(40, 39)],
            "plain": [rounds(10, 5), rounds(40, 20)],
            "kernels": [rounds(10, 8), rounds(40, 21)],
        }
    )
    assert verdict.best == "plain"
    assert not verdict.slower
    assert verdict.milliseconds["plain"] == pytest.approx(10, rel=0.02)
    assert verdict.milliseconds["original"] == pytest.approx(20, rel=0.02)


def test_a_graph_timed_while_the_machine_was_slower_is_not_taken_for_slower() -> None:
    assert judge({"plain": [rounds(10, 8)], "kernels": [rounds(30, 15)]}).best == "kernels"


def test_of_what_is_as_fast_the_furthest_is_used() -> None:
    assert judge({"frozen": [rounds(10, 9.9)], "plain": [rounds(10, 10)], "kernels": [rounds(10, 10)]}).best == (
        "kernels"
    )


def test_the_original_is_used_where_all_is_slower() -> None:
    assert judge({"frozen": [rounds(10, 12)], "plain": [rounds(10, 11)]}).best is None


def test_both_functions_begin_equally_often() -> None:
    called: list[str] = []
    found = interleaved(lambda: called.append("before"), lambda: called.append("after"), seconds=0)
    assert found.before.shape == found.after.shape == (7,)
    assert called == ["before", "after"] * 2 + ["before", "after", "after", "before"] * 3 + ["before", "after"]


def test_original_and_rewritten_graph_are_called_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timed = []

    def noted(before: Callable[[], object], after: Callable[[], object]) -> Rounds:
        timed.append((before, after))
        return rounds(10, 10)

    monkeypatch.setattr("optops.graph.optimizer.optimizer.interleaved", noted)
    module = tf.Module()
    specs = [tf.TensorSpec([None, 4], tf.float32, name) for name in ("b", "a")]
    module.serve = tf.function(lambda b, a: {"y": tf.nn.relu(b) - a}, input_signature=specs)
    optimize(module, tmp_path / "out", kernels=False, picture=False)
    assert timed
    for before, after in timed:
        assert isinstance(before, partial)
        assert isinstance(after, partial)
        assert before.args == after.args == ()
        assert list(before.keywords) == list(after.keywords)
        one, two = before.func, after.func
        assert isinstance(one, tf.types.experimental.ConcreteFunction)
        assert isinstance(two, tf.types.experimental.ConcreteFunction)
        assert one.structured_input_signature == two.structured_input_signature
        np.testing.assert_array_equal(before()["y"], after()["y"])
