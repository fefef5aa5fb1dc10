"""What the registered model takes: every form in which MLflow hands raw inputs to a pyfunc, and nothing else."""

import json
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow.pyfunc import load_model
from mlflow.pyfunc.scoring_server import infer_and_parse_data, parse_csv_input

from optops.candidate import Artifact, Candidate
from optops.recipe_file import read_recipe
from optops.runtimes.base import ExecutableInfo, LoadedExecutable
from optops.runtimes.onnxruntime import MODEL
from optops.served_model import ServedModel, _load_pyfunc, log_served_model, raw_inputs
from optops.tracking import Tracking
from optops.workloads.arrays.workload import ArraysWorkload
from optops.workloads.base import WORKLOADS

RECIPE = Path(__file__).parents[2] / "dags" / "recipes" / "travel_phrases.yaml"
FLOATS = {"dtype": "float32", "shape": [None, 2]}
ANSWERS = [{"sum": [4.0, 6.0]}, {"sum": [8.0, 10.0]}]
RECORDS = [{"a": [1, 2], "b": [3, 4]}, {"a": [3, 4], "b": [5, 6]}]
COLUMNS = {"a": [[1, 2], [3, 4]], "b": [[3, 4], [5, 6]]}


class Shouting(ArraysWorkload):
    """A workload of texts, for tests."""

    inputs_are_plain = True

    def serve(self, executable, assets, inputs):
        """Returns the texts in capitals."""
        for index, text in enumerate(inputs):
            if not isinstance(text, str):
                raise ValueError(f"input {index} is {type(text).__name__}; expected text")
        return [text.upper() for text in inputs]


def parsed(payload):
    """What MLflow's server makes of JSON for a model without a signature of inputs."""
    return infer_and_parse_data(json.loads(json.dumps(payload)))


# Inputs that are one value


@pytest.mark.parametrize(
    "given",
    [
        ["hello", "bye"],
        ("hello", "bye"),
        np.array(["hello", "bye"]),
        np.array(["hello", "bye"], object),
        pd.Series(["hello", "bye"]),
        pd.DataFrame({"anything": ["hello", "bye"]}),
        pd.DataFrame(["hello", "bye"]),
        {"text": ["hello", "bye"]},
        [{"text": "hello"}, {"text": "bye"}],
        parsed({"inputs": ["hello", "bye"]}),
        parsed({"inputs": {"text": ["hello", "bye"]}}),
        parsed({"inputs": [{"text": "hello"}, {"text": "bye"}]}),
        parsed({"instances": ["hello", "bye"]}),
        parsed({"instances": [{"text": "hello"}, {"text": "bye"}]}),
        parsed({"dataframe_records": [{"text": "hello"}, {"text": "bye"}]}),
        parsed({"dataframe_split": {"columns": ["text"], "data": [["hello"], ["bye"]]}}),
        parsed({"dataframe_split": {"data": [["hello"], ["bye"]]}}),
        parse_csv_input(StringIO("text\nhello\nbye\n")),
    ],
)
def test_texts_of_any_form_are_python_s_own_texts(given):
    found = raw_inputs(given, plain=True)
    assert found == ["hello", "bye"]
    assert {type(text) for text in found} == {str}


@pytest.mark.parametrize(
    "given", ["hello", {"text": "hello"}, parsed({"inputs": "hello"}), parsed({"inputs": {"text": "hello"}})]
)
def test_a_single_text_is_one_input(given):
    assert raw_inputs(given, plain=True) == ["hello"]


@pytest.mark.parametrize(
    "given",
    [
        [],
        np.array([]),
        pd.DataFrame(),
        pd.DataFrame({"text": []}),
        parsed({"inputs": []}),
        parsed({"inputs": {"text": []}}),
        parsed({"instances": []}),
        parsed({"dataframe_records": []}),
        parsed({"dataframe_split": {"columns": ["text"], "data": []}}),
    ],
)
@pytest.mark.parametrize("plain", [True, False])
def test_of_nothing_there_are_no_inputs(plain, given):
    assert raw_inputs(given, plain=plain) == []


def test_images_keep_their_bytes_and_their_dtype():
    images = np.zeros((2, 4, 4, 3), np.uint8)
    found = raw_inputs(images, plain=True)
    assert [(image.dtype, image.shape) for image in found] == [(np.uint8, (4, 4, 3))] * 2
    assert raw_inputs(pd.DataFrame({"image": [b"\x89PNG\0"]}), plain=True) == [b"\x89PNG\0"]
    assert raw_inputs(b"\x89PNG\0", plain=True) == [b"\x89PNG\0"]


@pytest.mark.parametrize(
    "given",
    [
        pd.DataFrame({"id": ["1"], "text": ["hello"]}),
        parsed({"dataframe_split": {"columns": ["id", "text"], "data": [["1", "hello"]]}}),
        parsed({"dataframe_records": [{"id": "1", "text": "hello"}]}),
        parsed({"inputs": {"id": ["1"], "text": ["hello"]}}),
        parsed({"inputs": [{"id": "1", "text": "hello"}]}),
        parsed({"instances": [{"id": "1", "text": "hello"}]}),
    ],
)
def test_several_values_for_one_are_refused_by_name(given):
    with pytest.raises(ValueError, match="input 0 has 'id', 'text'; expected one value"):
        raw_inputs(given, plain=True)


def test_columns_that_do_not_fit_together_are_refused_by_name():
    with pytest.raises(ValueError, match="same number of inputs, got 'a' with 2, 'b' with 1"):
        raw_inputs(parsed({"inputs": {"a": [1, 2], "b": [1]}}), plain=False)
    with pytest.raises(ValueError, match=r"different names .* got 'text' with 1, 'text' with 1"):
        raw_inputs(pd.DataFrame([["1", "hello"]], columns=["text", "text"]), plain=True)


# Served


@pytest.mark.parametrize(
    "payload",
    [
        {"inputs": ["hello", None, 5]},
        {"inputs": {"text": ["hello", None]}},
        {"inputs": [{"text": "hello"}, {"text": 5}]},
        {"instances": ["hello", None]},
        {"instances": [{"text": "hello"}, {"text": None}]},
        {"dataframe_records": [{"text": "hello"}, {"text": None}]},
        {"dataframe_records": [{"text": "hello"}, {"text": 5}]},
        {"dataframe_split": {"columns": ["text"], "data": [["hello"], [None]]}},
    ],
)
def test_what_is_no_text_is_refused_by_its_place_and_never_read_as_one(payload):
    served = ServedModel(Shouting(), lambda _: {}, Path())
    with pytest.raises(ValueError, match=r"input 1 is (NoneType|float|int); expected text"):
        served.predict(parsed(payload))


@pytest.mark.parametrize(
    "given",
    [
        RECORDS,
        {name: np.array(values) for name, values in COLUMNS.items()},
        pd.DataFrame(COLUMNS),
        pd.DataFrame(RECORDS),
        pd.DataFrame({"example": RECORDS}),
        parsed({"inputs": RECORDS}),
        parsed({"inputs": COLUMNS}),
        parsed({"instances": RECORDS}),
        parsed({"dataframe_records": RECORDS}),
        parsed({"dataframe_split": {"columns": ["b", "a"], "data": [[r["b"], r["a"]] for r in RECORDS]}}),
    ],
)
def test_a_model_of_several_inputs_takes_them_by_name_in_any_form(given):
    info = ExecutableInfo("onnxruntime", "fp32", {"a": FLOATS, "b": FLOATS}, {"sum": FLOATS})
    added = LoadedExecutable(info, lambda inputs: {"sum": inputs["a"] + inputs["b"]})
    assert ServedModel(ArraysWorkload(), added, Path()).predict(given) == ANSWERS


@pytest.mark.parametrize(
    "given",
    [
        np.array([[1, 2], [3, 4]]),
        pd.DataFrame({"x": [[1, 2], [3, 4]]}),
        pd.DataFrame({"0": [[1, 2], [3, 4]]}),
        parsed({"inputs": [[1, 2], [3, 4]]}),
        parsed({"inputs": {"x": [[1, 2], [3, 4]]}}),
        parsed({"instances": [[1, 2], [3, 4]]}),
        parsed({"instances": [{"x": [1, 2]}, {"x": [3, 4]}]}),
        parsed({"dataframe_records": [{"x": [1, 2]}, {"x": [3, 4]}]}),
        parsed({"dataframe_split": {"data": [[[1, 2]], [[3, 4]]]}}),
    ],
)
def test_a_model_of_one_input_takes_it_with_and_without_its_name(given):
    doubled = LoadedExecutable(
        ExecutableInfo("onnxruntime", "fp32", {"x": FLOATS}, {"y": FLOATS}), lambda inputs: {"y": 2 * inputs["x"]}
    )
    assert ServedModel(ArraysWorkload(), doubled, Path()).predict(given) == [{"y": [2.0, 4.0]}, {"y": [6.0, 8.0]}]


# Registered


@pytest.fixture
def pyfunc(optops_home, tmp_path):
    """Gives a function that logs a model of two inputs under a workload, and loads what was logged."""
    from onnx import TensorProto, checker, helper, save

    del optops_home
    info = ExecutableInfo("onnxruntime", "fp32", {"a": FLOATS, "b": FLOATS}, {"sum": FLOATS})
    folder = tmp_path / "candidate"
    (folder / "serving").mkdir(parents=True)
    info.save(folder / "serving")
    a, b, total = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 2]) for name in ("a", "b", "sum"))
    graph = helper.make_graph([helper.make_node("Add", ["a", "b"], ["sum"])], "sum", [a, b], [total])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model)
    save(model, folder / "serving" / MODEL)
    facts = {"architecture": "none", "precision": "fp32", "runtime": "onnxruntime", "trainable": False}
    nominee = Candidate("fuse-1", "nominee", "fuse", (), **facts, artifact=Artifact("models:/m-1", "abc"), metrics={})

    def log(workload, input_example):
        recipe = read_recipe(RECIPE).model_copy(update={"workload": workload})
        run_id = Tracking().open_run("served", "register", {})
        about = {"nominee": nominee, "folder": folder, "recipe": recipe, "card": "# Card", "tags": {}}
        return load_model(log_served_model(run_id, input_example=input_example, **about))

    return log


def test_a_registered_model_of_several_inputs_takes_frames_and_dictionaries(pyfunc):
    model = pyfunc("arrays", RECORDS)
    assert model.predict(RECORDS) == ANSWERS
    assert model.predict(pd.DataFrame(COLUMNS)) == ANSWERS
    assert model.predict({name: np.array(values) for name, values in COLUMNS.items()}) == ANSWERS


def test_a_registered_model_of_texts_says_what_it_answers_and_refuses_what_mlflow_would_bend(pyfunc, monkeypatch):
    monkeypatch.setitem(WORKLOADS, "shouting", f"{__name__}:Shouting")
    model = pyfunc("shouting", ["hello"])
    assert [column["type"] for column in model.metadata.signature.outputs.to_dict()] == ["string"]
    for given in (["hello", "bye"], pd.DataFrame({"text": ["hello", "bye"]})):
        assert model.predict(given) == ["HELLO", "BYE"]
    assert model.predict([]) == []
    with pytest.raises(ValueError, match="input 0 has 'id', 'text'; expected one value"):
        model.predict(pd.DataFrame({"id": ["1"], "text": ["hello"]}))
    with pytest.raises(ValueError, match="input 1 is NoneType; expected text"):
        model.predict(["hello", None])


def test_files_that_nobody_vouches_for_are_not_loaded(tmp_path):
    (tmp_path / "serving").mkdir()
    (tmp_path / "model.json").write_text('{"workload": "arrays", "threads": 1, "digests": {}}', encoding="utf-8")
    with pytest.raises(ValueError, match=r"model\.json has no digest of serving; load the model afresh"):
        _load_pyfunc(str(tmp_path))
