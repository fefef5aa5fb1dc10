"""Every executable of a Transformer translates as the reference does, whatever the batch it comes in."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from optops.runtimes import load_executable
from optops.runtimes.base import InvalidInputError

RUNTIMES = ["stock", "tensorflow", "tensorflow+kernels", "onnxruntime"]
LENGTHS = [5, 9, 2, 1, 12, 3, 16, 7]
# Where two hypotheses are closer than this, float32 may choose either.
TIE = 2e-5


@pytest.mark.parametrize(
    ("runtime", "model"),
    [
        *[(runtime, {"seed": 0}) for runtime in RUNTIMES],
        *[(runtime, {"seed": 0, "outputs": 27}) for runtime in RUNTIMES],
        ("onnxruntime", {"seed": 2, "end_bias": 5.0, "length_penalty": 1.0, "beam": 3}),
        ("tensorflow+kernels", {"seed": 2, "end_bias": 5.0, "length_penalty": 1.0, "beam": 3}),
        ("tensorflow+kernels", {"seed": 3, "end_bias": 3.0, "length_penalty": 0.0}),
        ("onnxruntime", {"seed": 3, "end_bias": 3.0, "length_penalty": 0.0}),
    ],
)
def test_ids_and_scores_are_those_of_the_reference(runtime, model, executable, sentences, pad, unpad):
    translate, reference = executable(runtime, **model)
    rows = sentences(model["seed"], LENGTHS)
    outputs = translate({"ids": pad(rows)})
    for row, ids, score in zip(rows, unpad(outputs["ids"]), outputs["scores"], strict=True):
        expected_ids, expected_score, gap = reference.translate(row)
        assert ids == expected_ids or gap < TIE
        assert score == pytest.approx(expected_score, abs=1e-4)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_beam_of_one_is_greedy(runtime, executable, sentences, pad, unpad):
    translate, reference = executable(runtime, seed=1, beam=1)
    rows = sentences(1, LENGTHS)
    assert unpad(translate({"ids": pad(rows)})["ids"]) == [reference.greedy(row) for row in rows]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_neither_padding_nor_order_nor_neighbours_change_a_translation(runtime, executable, sentences, pad, unpad):
    translate, _ = executable(runtime, seed=0)
    rows = sentences(3, LENGTHS)
    outputs = translate({"ids": pad(rows)})
    order = np.random.default_rng(0).permutation(len(rows))
    shuffled = translate({"ids": pad([rows[index] for index in order], width=24)})
    alone = [translate({"ids": pad([row])}) for row in rows]
    assert [unpad(outputs["ids"])[index] for index in order] == unpad(shuffled["ids"])
    assert unpad(outputs["ids"]) == [unpad(output["ids"])[0] for output in alone]
    np.testing.assert_allclose(outputs["scores"][order], shuffled["scores"], atol=1e-5)
    np.testing.assert_allclose(outputs["scores"], [output["scores"][0] for output in alone], atol=1e-5)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 99), st.lists(st.integers(1, 24), min_size=1, max_size=9), st.integers(0, 24))
def test_any_batch_and_length_is_translated_row_by_row(executable, sentences, pad, unpad, seed, lengths, width):
    translate, _ = executable("onnxruntime", seed=0)
    rows = sentences(seed, lengths)
    outputs = translate({"ids": pad(rows, width)})
    assert outputs["ids"].dtype == np.int32
    assert outputs["scores"].shape == (len(rows),)
    for row, ids in zip(rows, unpad(outputs["ids"]), strict=True):
        assert unpad(translate({"ids": pad([row])})["ids"]) == [ids]


def test_outputs_end_at_their_own_limit_if_the_model_never_ends(executable, sentences, pad, unpad):
    translate, reference = executable("onnxruntime", seed=0, end_bias=-90.0)
    rows = sentences(4, [1, 4, 16, 24])
    outputs = unpad(translate({"ids": pad(rows)})["ids"])
    assert [len(ids) for ids in outputs] == [reference.limit(row) for row in rows]
    assert all(ids[-1] == 2 and 2 not in ids[:-1] for ids in outputs)


@pytest.mark.parametrize(
    ("runtime", "precision"),
    [
        ("onnxruntime", "int8"),
        ("tensorflow", "bf16"),
        ("tensorflow+kernels", "bf16"),
        ("tensorflow+kernels", "int8"),
    ],
)
def test_reduced_precision_scores_its_own_output_nearly_as_the_reference_does(
    runtime, precision, executable, sentences, pad, unpad
):
    translate, reference = executable(runtime, precision, seed=0)
    rows = sentences(5, LENGTHS)
    outputs = translate({"ids": pad(rows)})
    errors = [
        score - reference.score(row, ids)
        for row, ids, score in zip(rows, unpad(outputs["ids"]), outputs["scores"], strict=True)
    ]
    assert 1e-6 < np.abs(errors).max() < 0.25


@pytest.mark.parametrize("end_bias", [5.0, 0.0, -90.0])
def test_all_finished_hypotheses_are_told_with_the_scores_of_the_reference(end_bias, executable, sentences, pad):
    translate, reference = executable("onnxruntime", seed=2, end_bias=end_bias)
    rows = sentences(2, LENGTHS)
    inputs = {"ids": pad(rows)}
    best = translate(inputs)["scores"]
    for row, hypotheses, score in zip(rows, translate.call.n_best(inputs), best, strict=True):
        scores = [hypothesis.score for hypothesis in hypotheses]
        assert len(scores) >= reference.serving["beam"]
        assert scores == sorted(scores, reverse=True)
        assert scores[0] >= score - 1e-5
        assert len({hypothesis.ids for hypothesis in hypotheses}) == len(hypotheses)
        for hypothesis in hypotheses[:3]:
            assert hypothesis.score == pytest.approx(reference.score(row, list(hypothesis.ids)), abs=1e-4)


BAD_INPUTS = {
    "missing": ({}, "is missing"),
    "unknown": ({"ids": [[2]], "more": [[2]]}, "'more' is unknown"),
    "empty batch": ({"ids": np.zeros([0, 3], np.int32)}, "is empty"),
    "no positions": ({"ids": np.zeros([2, 0], np.int32)}, "is empty"),
    "only padding": ({"ids": [[4, 2], [0, 0]]}, "no ids in row 1"),
    "id beyond the vocabulary": ({"ids": [[40, 2]]}, "holds 40; the largest value allowed is 39"),
    "negative id": ({"ids": [[-1, 2]]}, "holds -1"),
    "no end": ({"ids": [[4, 2], [5, 6]]}, "ends in id 6 in row 1"),
    "ids after padding": ({"ids": [[4, 0, 2]]}, "ids after padding in row 0"),
    "too long": ({"ids": [[4] * 24 + [2]]}, "size 25 in dimension 1; at most 24"),
    "one dimension": ({"ids": np.array([4, 2], np.int32)}, r"int32 \[2\]; expected int32"),
    "other type": ({"ids": np.array([[4, 2]], np.int64)}, "int64"),
}


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("case", BAD_INPUTS)
def test_bad_input_is_refused_with_its_name_and_the_remedy(runtime, case, executable):
    translate, _ = executable(runtime, seed=0)
    inputs, message = BAD_INPUTS[case]
    arrays = {
        name: value if isinstance(value, np.ndarray) else np.array(value, np.int32) for name, value in inputs.items()
    }
    with pytest.raises(InvalidInputError, match=message):
        translate(arrays)


FRESH = """
import sys, warnings
from pathlib import Path
import numpy as np
warnings.simplefilter("error", RuntimeWarning)
from optops.runtimes import load_executable
ids = np.load(sys.argv[1], allow_pickle=False)
for index, folder in enumerate(sys.argv[2:]):
    outputs = load_executable(Path(folder), threads=1)({"ids": ids})
    np.savez(Path(sys.argv[1]).with_name(f"{index}.npz"), **outputs)
"""


def test_a_fresh_process_gives_the_same(lowered, executable, sentences, pad, tmp_path):
    kinds = [(runtime, "fp32") for runtime in RUNTIMES] + [("onnxruntime", "int8"), ("tensorflow+kernels", "int8")]
    ids = pad(sentences(6, LENGTHS))
    np.save(tmp_path / "ids.npy", ids)
    folders = [str(lowered(*kind, seed=0)[0]) for kind in kinds]
    subprocess.run([sys.executable, "-c", FRESH, str(tmp_path / "ids.npy"), *folders], check=True)
    for index, kind in enumerate(kinds):
        here = executable(*kind, seed=0)[0]({"ids": ids})
        with np.load(tmp_path / f"{index}.npz", allow_pickle=False) as there:
            np.testing.assert_array_equal(here["ids"], there["ids"])
            np.testing.assert_allclose(here["scores"], there["scores"], atol=1e-5)


def test_the_loaded_executable_says_what_it_is(lowered):
    info = load_executable(lowered("onnxruntime", "int8", seed=0)[0], threads=1).info
    assert (info.runtime, info.precision, info.driver) == ("onnxruntime", "int8", "translate")
    assert info.settings["beam"] == 4
