"""Networks go through the benchmark from their weights to the page of results: tiny ones here."""

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from optops.models.bert.config import BertConfig
from optops.models.super_resolution import UpscalerSizes

ROOT = Path(__file__).parents[3]
ORIGIN = {"command": "make bench-models", "host": "a host", "date": "2026-01-01", "commit": "0123"}


@pytest.fixture(autouse=True)
def benchmarks(monkeypatch):
    """Makes the benchmark's modules, and those of the page, importable here and in the processes that it starts."""
    folders = [str(ROOT / "benchmarks"), str(ROOT / "docs")]
    monkeypatch.setattr(sys, "path", [*folders, *sys.path])
    monkeypatch.setenv("PYTHONPATH", folders[0])


def upscaler():
    from vision import super_resolution

    return super_resolution(UpscalerSizes(scale=2, blocks=1, channels=16), side=16)


@pytest.fixture
def page(monkeypatch, tmp_path):
    """The page's part for records, as text."""
    import model_results

    def write(records):
        monkeypatch.setattr(model_results, "RECORD", tmp_path / "record.json")
        file = tmp_path / "made.json"
        file.write_text(json.dumps({"networks": [], "quantisers": [], **records}))
        model_results.keep(file, ORIGIN)
        model_results.keep(file, ORIGIN)
        return "\n\n".join(model_results.section())

    return write


def test_every_form_is_held_against_its_baseline_and_timed_or_listed_with_the_reason(page):
    from networks import measure

    half, candidates = "half of the channels", [("onnxruntime", "fp32"), ("onnxruntime", "bf16")]
    network = replace(upscaler(), candidates={"whole": candidates, half: candidates})
    records = measure(network, seconds=0, report=lambda what: None)
    forms = [(one.model, one.runtime, one.precision, one.cell) for one in records]
    assert forms == [
        ("whole", "tensorflow", "fp32", "batch 1"),
        ("whole", "onnxruntime", "fp32", "batch 1"),
        ("whole", "onnxruntime", "bf16", ""),
        (half, "tensorflow", "fp32", "batch 1"),
        (half, "onnxruntime", "fp32", "batch 1"),
        (half, "onnxruntime", "bf16", ""),
    ]
    assert all(one.low <= one.ratio <= one.high and one.difference < 1e-4 for one in records if not one.reason)
    assert all("not in bf16" in one.reason for one in records if one.precision == "bf16")
    assert records[3].parameters < records[0].parameters
    text = page({"networks": [asdict(one) for one in records]})
    assert text.count("| onnxruntime fp32 |") == 2
    assert text.count("- Not timed: whole, onnxruntime bf16; half of the channels, onnxruntime bf16. ") == 1


def test_a_form_in_full_precision_with_other_outputs_is_an_error(monkeypatch, tmp_path):
    import networks

    monkeypatch.setattr(networks, "difference", lambda found, expected: 1e-3)
    network = replace(upscaler(), candidates={"whole": [("onnxruntime", "fp32")]})
    with pytest.raises(ValueError, match="whole, onnxruntime fp32: its outputs differ"):
        networks.lowered(network, tmp_path)


@pytest.mark.parametrize("groups", [4, 1])
def test_encoders_are_lowered_whole_and_with_half_of_their_layers(groups, tmp_path):
    from networks import lowered
    from text import encoder

    sizes = {"vocabulary": 100, "classes": 2, "width": 32, "heads": 2, "feed_forward": 64}
    network = encoder("tiny", BertConfig.uniform(layers=4, groups=groups, **sizes), lengths=(8,))
    forms = lowered(network, tmp_path)
    assert [form.model for form in forms] == ["whole"] * 7 + ["half of the layers"] * 5
    assert all(form.difference < 0.1 and not form.reason for form in forms)


def test_what_a_file_has_already_is_not_measured_again(monkeypatch, tmp_path):
    import models
    from networks import Record

    made = []

    def job(name):
        made.append(name)
        return [Record(name, "whole", 1, "tensorflow", "fp32", 0.0, reason="none")]

    monkeypatch.setattr(models, "jobs", lambda part, seconds: {name: lambda name=name: job(name) for name in "ab"})
    file = tmp_path / "records.json"
    first = models.measure(["text"], 0, file)
    assert models.measure(["text"], 0, file) == first
    assert made == ["a", "b"]


def test_the_classifier_to_be_quantised_is_trained_without_the_toolkits():
    from quantisers import classifier

    from optops.models.resnet import ResNetSizes

    subject = classifier(ResNetSizes(5, 32, width=0.125, small_stem=True), images=32, epochs=1)
    (model,) = subject.network.build().values()
    assert model.outputs[0].shape[-1] == 5


def test_int8_is_set_beside_the_toolkits_own(page):
    pytest.importorskip("nncf", reason="the extra `peers` brings it")
    from quantisers import PEERS, classifier, compare

    from optops.models.resnet import ResNetSizes

    subject = classifier(ResNetSizes(5, 32, width=0.125, small_stem=True), images=64, epochs=1)
    cells = {"batch 1": subject.network.cells["batch 1"]}
    duels = compare(replace(subject, network=replace(subject.network, cells=cells)), 0, report=lambda what: None)
    assert [(duel.peer, duel.runtime) for duel in duels] == list(PEERS.items())
    assert all(duel.low <= duel.ratio <= duel.high for duel in duels)
    assert all(0 <= duel.accuracy <= 100 and duel.difference < 1 for duel in duels)
    assert page({"quantisers": [asdict(duel) for duel in duels]}).count("| batch 1 |") == 2
