"""The runtime of the operator library says what it lacks, and what a model was timed with."""

import json
import warnings

import pytest

from optops.graph.lowering import lower
from optops.kernels import instruction_set, set_threads, threads
from optops.models.base import load_architecture
from optops.precision import PrecisionPlan
from optops.runtimes import load_executable, load_runtime

CONFIG = {
    "vocabulary": 40,
    "width": 16,
    "heads": 2,
    "feed_forward": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    trainable, serving = tmp_path_factory.mktemp("trainable"), tmp_path_factory.mktemp("serving")
    architecture = load_architecture("transformer")
    architecture.save(architecture.build(CONFIG), trainable, {"beam": 2, "max_length": 16})
    lower(trainable, PrecisionPlan("fp32"), "tensorflow+kernels", serving)
    return serving


def test_the_operators_use_the_threads_of_the_executable_that_was_loaded_last(folder):
    set_threads(0)
    processors = threads()
    load_executable(folder, 1)
    assert threads() == 1
    load_executable(folder, processors)
    assert threads() == processors


def test_a_processor_that_lacks_what_a_model_was_timed_with_is_said(folder):
    path = folder / "executable.json"
    info = json.loads(path.read_text())
    assert info["facts"]["instruction_set"] == instruction_set()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        load_executable(folder, 1)
    assert not [warning for warning in said if "timed with" in str(warning.message)]
    info["facts"]["instruction_set"] = "avx1024"
    path.write_text(json.dumps(info))
    with pytest.warns(RuntimeWarning, match="timed with avx1024, which this processor lacks: it runs with"):
        load_executable(folder, 1)


def test_without_the_compiled_library_it_says_what_to_install(monkeypatch, tmp_path):
    from optops.kernels import library

    monkeypatch.setattr(library, "LIBRARY", tmp_path / "nothing.so")
    library.library.cache_clear()
    try:
        assert "uv sync" in load_runtime("tensorflow+kernels").unavailable()
    finally:
        monkeypatch.undo()
        library.library.cache_clear()
