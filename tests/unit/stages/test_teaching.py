"""The labels that a teacher gives are kept, and are those of this teacher."""

from dataclasses import replace

import pandas as pd
import pytest

from optops.candidate import Artifact, Candidate
from optops.pipeline import TRAIN
from optops.sections import Teaching
from optops.stages import teaching
from optops.workloads.translation.workload import TranslationWorkload


class Parrot(TranslationWorkload):
    """Keeps one label, as a workload keeps those of all examples."""

    def teacher_labels(self, examples, executable, teacher, assets, folder, report=None, kind="teacher"):
        del executable, teacher, report, kind
        kept = folder / "label"
        if not kept.exists():
            kept.write_text((assets / "says").read_text())
        return examples.assign(target=kept.read_text())


def test_a_teacher_that_was_trained_again_writes_its_own_labels(job, tmp_path, monkeypatch):
    monkeypatch.setattr(teaching, "_fast_teacher", lambda *_: None)
    distilling = job("distill", {})
    tracking, examples = distilling.tracking, pd.DataFrame({"id": ["1"], "source": ["a"], "target": ["b"]})
    distilling = replace(distilling, workload=Parrot(), _frames={TRAIN: examples})

    def trained(says):
        (tmp_path / says / "assets").mkdir(parents=True)
        (tmp_path / says / "assets" / "says").write_text(says)
        run_id = tracking.open_run(distilling.recipe.experiment, "train", {})
        facts = {"architecture": "transformer", "precision": "fp32", "runtime": "tensorflow", "trainable": True}
        made = Candidate("train-1", "baseline", "train", (), **facts, artifact=Artifact("", ""))
        return tracking.log_candidate(run_id, tmp_path / says, made)

    def labels(teacher):
        return list(teaching.taught_examples(distilling, teacher, Teaching(labels="teacher"))["target"])

    first, second = trained("first"), trained("second")
    assert (labels(first), labels(second), labels(first)) == (["first"], ["second"], ["first"])


def test_a_teacher_that_answers_less_than_half_teaches_nothing(job, tmp_path, monkeypatch):
    monkeypatch.setattr(teaching, "_fast_teacher", lambda *_: None)
    distilling = job("distill", {})
    examples = pd.DataFrame({"id": ["1", "2", "3"], "source": ["a", "b", "c"], "target": ["x", "y", "z"]})
    workload = TranslationWorkload()
    monkeypatch.setattr(workload, "teacher_labels", lambda examples, *_: examples[:1])
    distilling = replace(distilling, workload=workload, _frames={TRAIN: examples})
    (tmp_path / "made" / "assets").mkdir(parents=True)
    run_id = distilling.tracking.open_run(distilling.recipe.experiment, "train", {})
    facts = {"architecture": "transformer", "precision": "fp32", "runtime": "tensorflow", "trainable": True}
    made = Candidate("train-1", "baseline", "train", (), **facts, artifact=Artifact("", ""))
    teacher = distilling.tracking.log_candidate(run_id, tmp_path / "made", made)
    with pytest.raises(teaching.NothingToTeachError, match="an answer of its own to only 1 of 3 training examples"):
        teaching.taught_examples(distilling, teacher, Teaching(labels="teacher"))
