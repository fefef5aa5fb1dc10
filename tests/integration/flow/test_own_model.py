"""The worked example of docs/own_model.md, as a reader would follow it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[3] / "docs" / "own_model.md"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

PREDICT = """
import json, mlflow, numpy as np
from optops.tracking import default_uri
mlflow.set_tracking_uri(default_uri())
with np.load("rest.npz") as arrays:
    images, labels = arrays["image"][:50], arrays["labels"][:50]
answers = mlflow.pyfunc.load_model("models:/digits@champion").predict([image.tolist() for image in images])
print(json.dumps([list(answers[0]), float(np.mean([np.argmax(next(iter(a.values()))) for a in answers] == labels))]))
"""


def block(language: str) -> str:
    """Returns the page's first block of a language."""
    found = re.search(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return found[1]


def test_the_worked_example_ends_with_a_promoted_model_that_answers(tmp_path):
    (tmp_path / "prepare.py").write_text(block("python"), encoding="utf-8")
    (tmp_path / "digits.yaml").write_text(block("yaml"), encoding="utf-8")
    environment = {**os.environ, "OPTOPS_HOME": str(tmp_path / "home")}

    def run(*arguments):
        done = subprocess.run(
            [sys.executable, *arguments], capture_output=True, text=True, check=False, cwd=tmp_path, env=environment
        )
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
        return done.stdout

    run("prepare.py")
    run("-m", "optops", "validate", "digits.yaml")
    said = run("-m", "optops", "run", "digits.yaml")
    assert "accept" in said
    [output], accuracy = json.loads(run("-c", PREDICT).splitlines()[-1])
    assert accuracy > 0.9
    assert f'# [{{"{output}": [' in PAGE.read_text(encoding="utf-8")
