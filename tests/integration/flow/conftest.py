"""A corpus that a tiny Transformer learns in seconds, and the flow over it."""

import json
import random
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from optops.driver import run_flow
from optops.recipe_file import read_recipe
from optops.runners.base import Runner, StageFailed
from optops.runners.subprocess import SubprocessRunner
from optops.stage_spec import StageResult
from optops.stages.__main__ import main

ENGLISH = "one two three four five six seven eight nine ten red green blue old new big small fast slow far"
GERMAN = "eins zwei drei vier fünf sechs sieben acht neun zehn rot grün blau alt neu groß klein schnell langsam weit"

RECIPE = """
name: numbers
workload: translation
data:
  source_language: en
  target_language: de
  folder: data
  train: {source: train.en, target: train.de}
  validation: {source: validation.en, target: validation.de}
  test: {source: test.en, target: test.de}
check_labels: {quarantine: true, checks: {length_ratio: off}}
model:
  vocabulary: 150
  width: 48
  heads: 2
  feed_forward: 96
  encoder_layers: 2
  decoder_layers: 2
  dropout: 0.0
  serving: {beam: 2, max_length: 32}
train: {epochs: 6, batch_tokens: 256, learning_rate: 0.006, schedule: cosine, warmup_steps: 60}
distill:
  train: {epochs: 3, batch_tokens: 256, learning_rate: 0.006, schedule: cosine, warmup_steps: 20, label_smoothing: 0.0}
fuse: {runtimes: [onnxruntime, tensorflow+kernels, tensorflow]}
budget: {executables: 7}
benchmark: {batches: [1, 8], seconds_per_cell: 0.4}
gate: {tolerance: 0.1, minimum_speedup: 1.05}
registry: {name: numbers}
"""


class HereRunner(Runner):
    """Runs the stage program in this process, where TensorFlow and MLflow are imported already."""

    def run(self, spec, on_line, on_link):
        """Runs the stage; its log goes where this process's goes."""
        with TemporaryDirectory() as folder:
            files = Path(folder, "spec.json"), Path(folder, "result.json")
            files[0].write_text(json.dumps(spec.to_json()), encoding="utf-8")
            status = main([spec.stage, "--spec", str(files[0]), "--result", str(files[1])])
            outcome = json.loads(files[1].read_text(encoding="utf-8"))
        if status:
            raise StageFailed(outcome["failed"]["message"], outcome["failed"]["details"])
        return StageResult.from_json(outcome)

    def stop(self):
        """Is never asked: the flow's own process would end with the stage."""


def write_pairs(folder: Path, split: str, pairs: int, seed: int) -> None:
    """Writes word-by-word translations."""
    chance, english, german = random.Random(seed), ENGLISH.split(), GERMAN.split()
    sources, targets = [], []
    while len(sources) < pairs:
        words = [chance.randrange(len(english)) for _ in range(chance.randint(4, 8))]
        source = " ".join(english[word] for word in words)
        if source not in sources:
            sources.append(source)
            targets.append(" ".join(german[word] for word in words))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{split}.en").write_text("\n".join(sources) + "\n", encoding="utf-8")
    (folder / f"{split}.de").write_text("\n".join(targets) + "\n", encoding="utf-8")


def write_numbers(folder: Path) -> None:
    """Writes all three splits."""
    for seed, (split, pairs) in enumerate({"train": 1500, "validation": 200, "test": 400}.items()):
        write_pairs(folder, split, pairs, seed)


@pytest.fixture(scope="session")
def home(tmp_path_factory):
    """A recipe with its data, and an OPTOPS_HOME of its own for all tests of the flow."""
    folder = tmp_path_factory.mktemp("flow")
    write_numbers(folder / "data")
    (folder / "numbers.yaml").write_text(RECIPE, encoding="utf-8")
    return folder


@pytest.fixture
def other_pairs(tmp_path):
    """A folder with 150 pairs, `other.en` and `other.de`, that no split has."""
    write_pairs(tmp_path, "other", 150, seed=99)
    return tmp_path


@pytest.fixture(scope="session")
def run(home):
    """Runs the flow and returns its outcome and the lines that the stages wrote."""
    environment = {"OPTOPS_HOME": str(home / "home"), "OPTOPS_LOCK_FOLDER": str(home / "lock")}
    patch = pytest.MonkeyPatch()
    for name, value in environment.items():
        patch.setenv(name, value)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        patch.delenv(name, raising=False)

    def flow(label, overrides=None, runner=HereRunner):
        lines = []

        def note(event):
            if event.kind == "line":
                lines.append(f"{event.task}: {event.text}")

        read = read_recipe(home / "numbers.yaml", overrides)
        return run_flow(read, runner, label=label, listeners=[note], approve=lambda asked, verdict: "approved"), lines

    yield flow
    patch.undo()


@pytest.fixture(scope="session")
def first(run):
    """The first run, its stages in processes of their own: nothing is cached, there is no champion yet."""
    return run("first", runner=SubprocessRunner)
