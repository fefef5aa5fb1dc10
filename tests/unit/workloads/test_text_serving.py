"""Models of texts are served where another runtime than TensorFlow executes them."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "module",
    ["optops.workloads.translation.translating", "optops.workloads.text_classification.classifying"],
)
def test_texts_go_to_an_executable_without_tensorflow(module):
    code = f"import sys, optops.served_model, {module}; print({{'tensorflow', 'tf_keras'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
