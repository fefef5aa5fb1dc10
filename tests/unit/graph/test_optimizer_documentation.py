"""The examples of docs/optimizer.md run as they stand, and the command does what the page says."""

import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from optops.cli import app
from optops.models.keras import tf

PAGE = Path(__file__).parents[3] / "docs" / "optimizer.md"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    module = tf.Module()
    module.serve = tf.function(
        lambda x: {"y": tf.pow(x, 2.0)}, input_signature=[tf.TensorSpec([None, 3], tf.float32, name="x")]
    )
    tf.saved_model.save(module, "my_saved_model", signatures={"serving_default": module.serve})
    return tmp_path


def test_the_examples_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scope: dict[str, object] = {}
    for example in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        exec(example, scope)  # the page's own code
    assert "signature serving_default" in capsys.readouterr().out
    assert scope["report"].signatures[0].counts() == {"square": 1}  # type: ignore[attr-defined]


def test_the_command_writes_model_report_and_picture(folder: Path) -> None:
    np.savez("sample.npz", x=np.ones([2, 3], np.float32))
    result = CliRunner().invoke(app, ["optimize", "my_saved_model", "-o", "out", "--inputs", "sample.npz"])
    assert result.exit_code == 0, result.output
    assert "median of a call" in result.output
    for name in ("saved_model.pb", "optops_report.json", "optops_fused.png"):
        assert (folder / "out" / name).is_file()


def no_npz_file(kind: str, path: Path) -> None:
    """Writes what is no .npz file."""
    np.savez(path, x=np.ones([2, 3], np.float32))
    if kind == "array":
        with path.open("wb") as file:
            np.save(file, np.ones([2, 3], np.float32))
    elif kind == "objects":
        np.savez(path, x=np.array([{}], object))
    else:
        content = {"text": b"no arrays", "empty": b"", "truncated": path.read_bytes()[:100]}
        path.write_bytes(content[kind])


@pytest.mark.parametrize("kind", ["text", "empty", "truncated", "array", "objects"])
def test_the_command_refuses_what_is_no_npz_file_with_the_remedy(kind: str, folder: Path) -> None:
    no_npz_file(kind, folder / "sample.npz")
    result = CliRunner().invoke(app, ["optimize", "my_saved_model", "-o", "out", "--inputs", "sample.npz"])
    assert result.exit_code == 1
    assert "sample.npz is no .npz file" in result.output
    assert "numpy.savez" in result.output


def test_the_command_says_what_is_wrong(folder: Path) -> None:
    for arguments, said in (
        (["my_saved_model", "-o", "out", "--inputs", "nothing.npz"], "No such file"),
        (["nothing", "-o", "out"], "is no SavedModel"),
        (["my_saved_model", "-o", "out", "--precision", "int4"], "precision 'int4' is unknown"),
    ):
        result = CliRunner().invoke(app, ["optimize", *arguments])
        assert result.exit_code == 1
        assert said in result.output
