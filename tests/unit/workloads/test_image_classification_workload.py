import csv
import io
import shutil
import unicodedata
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from optops.compression import follow_channels, prune_channels
from optops.graph import functional_live
from optops.models.resnet import ResNetSizes, build_resnet
from optops.models.training import TrainingSettings, fit
from optops.recipe_file import RecipeError, parse_recipe
from optops.testing import check_workload
from optops.workloads.base import load_workload
from optops.workloads.image_classification.shapes import SHAPES, draw_shape, write_shapes

RECIPE = f"""
name: tiny
workload: image_classification
data:
  classes: [{", ".join(SHAPES)}]
  folder: data
  train: train
  validation: validation
  test: test
  shifted: 0
model: {{depth: 18, width: 0.125, image_size: 16, small_stem: true}}
train: {{epochs: 10, batch_tokens: 32, learning_rate: 0.004, schedule: cosine, warmup_steps: 10, label_smoothing: 0}}
distill: {{student: {{width: 0.0625}}}}
registry: {{name: tiny}}
"""
WORKLOAD = load_workload("image_classification")


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    write_shapes(folder / "data", train=400, validation=50, test=100, seed=2)
    return folder


@pytest.fixture(scope="module")
def recipe(shapes):
    return parse_recipe(RECIPE, shapes / "tiny.yaml")


@pytest.fixture(scope="module")
def splits(recipe):
    return WORKLOAD.read(recipe.data)


@pytest.fixture(scope="module")
def assets(shapes, recipe, splits):
    (shapes / "assets").mkdir()
    WORKLOAD.prepare(recipe, splits["train"], shapes / "assets")
    return shapes / "assets"


@pytest.fixture
def folder(shapes, tmp_path):
    shutil.copytree(shapes / "data", tmp_path / "data")
    return tmp_path / "data"


def test_an_image_of_which_the_model_says_nan_is_taken_for_no_class(recipe, splits, assets):
    def execute(inputs):
        logits = np.zeros((len(inputs["image"]), len(SHAPES)), np.float16)
        logits[0] = np.nan
        logits[1, -1] = 9
        logits[2, -1] = np.inf
        return {"logits": logits}

    examples = splits["test"].head(4).assign(label=[SHAPES[0], SHAPES[-1], SHAPES[-1], SHAPES[0]])
    predictions = WORKLOAD.predict(execute, examples, assets)
    assert predictions == [None, SHAPES[-1], None, SHAPES[0]]
    assert WORKLOAD.metric(WORKLOAD.statistics(predictions, examples, recipe.data))[0] == 50


def found(folder, extra=""):
    recipe = parse_recipe(RECIPE + extra, folder.parent / "tiny.yaml")
    report = WORKLOAD.check(WORKLOAD.read(recipe.data), recipe, folder.parent / "docs")
    return Counter((defect.check, defect.split) for defect in report.defects), report


def save(folder, split, label, name, pixels):
    (folder / split / label).mkdir(exist_ok=True)
    Image.fromarray(pixels).save(folder / split / label / name)


def shape(number):
    return draw_shape("disc", np.random.default_rng([77, number]))


def test_the_workload_conforms(recipe, splits):
    perfect = list(splits["test"]["label"])
    check_workload(recipe, ["disc"] * len(perfect), perfect=perfect)


def test_a_small_network_learns_the_shapes_and_serves_them(recipe, splits, assets, tmp_path):
    _, model = WORKLOAD.build(recipe, assets)
    executable = functional_live.live(model, {})

    def validate(_):
        predictions = WORKLOAD.predict(executable, splits["validation"], assets)
        return float(WORKLOAD.metric(WORKLOAD.statistics(predictions, splits["validation"], recipe.data))[0])

    fit(
        model,
        batches=WORKLOAD.batches(recipe, splits["train"], assets, recipe.train),
        loss=WORKLOAD.loss(recipe.train),
        validate=validate,
        settings=TrainingSettings(**recipe.train.model_dump(), seed=1),
        checkpoints=tmp_path,
    )
    predictions = WORKLOAD.predict(executable, splits["test"], assets)
    assert (
        float(WORKLOAD.metric(WORKLOAD.statistics(predictions, splits["test"], recipe.data))[0]) > 55
    )  # by chance: 20
    file = splits["test"]["file"].iloc[0]
    content = io.BytesIO()
    Image.open(file).save(content, format="BMP")
    answers = WORKLOAD.serve(executable, assets, [*WORKLOAD.input_example(splits["test"][:1]), content.getvalue()])
    assert answers[0]["probabilities"] == pytest.approx(answers[1]["probabilities"], abs=1e-5)
    assert answers[0]["label"] == predictions[0]
    assert set(answers[0]["probabilities"]) == set(SHAPES)
    assert sum(answers[0]["probabilities"].values()) == pytest.approx(1)
    with pytest.raises(ValueError, match="input 0: it is no image"):
        WORKLOAD.serve(executable, assets, [b"none"])


def test_batches_come_again_from_seed_and_epoch(recipe, splits, assets):
    batches = WORKLOAD.batches(recipe, splits["train"], assets, recipe.train)
    first, again, other = (list(batches(epoch)) for epoch in (1, 1, 2))
    assert len(first) == len(batches(1)) == 13
    np.testing.assert_array_equal(first[0]["image"], again[0]["image"])
    assert not np.array_equal(first[0]["image"], other[0]["image"])
    assert np.bincount(np.concatenate([batch["labels"] for batch in first])).tolist() == [80] * 5


def test_images_are_decoded_when_their_batch_is_made(recipe, splits, assets, tmp_path):
    frame = splits["train"].copy()
    frame["file"] = [str(tmp_path / "nowhere.png")] * len(frame)
    batches = WORKLOAD.batches(recipe, frame, assets, recipe.train)
    with pytest.raises(ValueError, match=r"nowhere\.png: .*mend or remove it"):
        next(iter(batches(1)))


def test_a_distilled_loss_is_zero_against_itself(recipe, splits, assets):
    batch = next(iter(WORKLOAD.batches(recipe, splits["train"], assets, recipe.train)(1)))
    _, model = WORKLOAD.build(recipe, assets)
    for layer in model.layers:
        layer.trainable = False  # batch norms then compute the same in training
    teaching = recipe.distill.model_copy(update={"alpha": 1.0})
    assert float(WORKLOAD.distillation_loss(model, model, teaching)(model, batch, 0.0)) == pytest.approx(0, abs=1e-6)
    student = WORKLOAD.student(recipe, model)
    assert student.count_params() < 0.6 * model.count_params()
    assert float(WORKLOAD.distillation_loss(model, student, teaching)(student, batch, 0.0)) > 0


@pytest.mark.parametrize(("depth", "parameters"), [(18, 11_689_512), (50, 25_557_032)])
def test_networks_have_the_published_number_of_weights(depth, parameters):
    # Those of torchvision's resnet18 and resnet50, which count no statistics of batch norms.
    model = build_resnet(ResNetSizes(classes=1000, depth=depth))
    assert sum(int(np.prod(weight.shape)) for weight in model.trainable_weights) == parameters


def test_channels_of_both_networks_can_be_pruned():
    for depth in (18, 50):
        model = build_resnet(
            ResNetSizes(classes=5, image_size=32, depth=depth, width=0.25 if depth == 18 else 0.125, small_stem=True)
        )
        assert len(follow_channels(model).groups) >= 12
        smaller = prune_channels(model, 0.5)
        assert smaller.count_params() < 0.5 * model.count_params()
        assert smaller(np.zeros((2, 32, 32, 3), np.float32)).shape == (2, 5)


def test_a_clean_set_raises_no_alarm(folder):
    assert not found(folder)[0]


def test_planted_defects_are_found_and_nothing_else(folder):
    names = sorted(path.name for path in (folder / "train" / "disc").iterdir())
    broken = folder / "train" / "disc" / names[0]
    broken.write_bytes(broken.read_bytes()[:300])
    save(folder, "train", "disc", "zz_small.png", shape(1)[:5])
    save(folder, "train", "dics", "zz_typo.png", shape(2))
    Image.open(folder / "train" / "disc" / names[1]).save(folder / "train" / "disc" / "zz_twin.bmp")
    shutil.copy(folder / "train" / "disc" / names[2], folder / "train" / "ring" / "zz_conflict.png")
    shutil.copy(
        folder / "test" / "disc" / next((folder / "test" / "disc").iterdir()).name,
        folder / "train" / "disc" / "zz_leak.png",
    )
    counts, report = found(folder)
    assert counts == {
        ("unreadable", "train"): 1,
        ("too_small", "train"): 1,
        ("unknown_class", "train"): 1,
        ("duplicate", "train"): 1,
        ("conflicting_class", "train"): 2,
        ("overlap", "train"): 1,
        ("overlap", "test"): 1,
    }
    reasons = {defect.check: defect.reason for defect in report.defects}
    assert "truncated" in reasons["unreadable"]
    assert "did you mean" in reasons["unknown_class"] and "disc" in reasons["unknown_class"]
    assert reasons["conflicting_class"].startswith("labelled 'ring', and 'disc' in train/disc/")


def test_a_picture_of_12_bits_in_a_file_of_16_is_named(folder):
    names = sorted((folder / "train" / "disc").iterdir())
    for path, levels in zip(names, (16, 257), strict=False):
        grey = np.asarray(Image.open(path).convert("L"), np.uint16)
        Image.fromarray(grey * levels).save(path)
    counts, _ = found(folder)
    assert counts == {("dark_16_bit", "train"): 1}


def test_a_rare_class_is_reported(folder):
    for path in sorted((folder / "train" / "ring").iterdir())[3:]:
        path.unlink()
    counts, report = found(folder)
    assert counts == {("class_balance", "train"): 1}
    assert report.defects[0].reason.startswith("class 'ring' has 3 of ")
    assert not report.quarantine


def test_a_class_without_any_example_is_reported(folder):
    shutil.rmtree(folder / "train" / "ring")
    counts, report = found(folder)
    assert counts == {("class_balance", "train"): 1}
    assert report.defects[0].reason == "the split has no example of 'ring'"
    for path in sorted((folder / "train" / SHAPES[0]).iterdir())[3:]:
        path.unlink()
    counts, report = found(folder)
    assert counts == {("class_balance", "train"): 1}
    assert report.defects[0].reason.startswith("the split has no example of 'ring'; class ")


def test_a_csv_file_names_images_and_their_labels(folder):
    paths = sorted((folder / "train").rglob("*.png"))
    with (folder / "train.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["label", "file"])
        writer.writerows([path.parent.name, path.relative_to(folder)] for path in paths)
        writer.writerow(["disc", "train/disc/nowhere.png"])
    recipe = parse_recipe(RECIPE.replace("train: train", "train: train.csv", 1), folder.parent / "csv.yaml")
    frame = WORKLOAD.read(recipe.data)["train"]
    assert frame["file"][:-1].tolist() == [str(path) for path in paths]
    assert frame["line"].tolist() == list(range(2, len(paths) + 3))
    report = WORKLOAD.check(WORKLOAD.read(recipe.data), recipe, folder.parent / "docs")
    assert [(defect.check, defect.line, defect.reason) for defect in report.defects] == [
        ("unreadable", len(paths) + 2, "the file does not exist")
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('file,label\n"a.png,disc\nb.png,ring\nc.png,disc\n', "is no CSV file in UTF-8: unexpected end of data"),
        ('file,label\n"a.png,disc\nb.png",ring\n', r"train\.csv:3: a field .* begins 'a\.png,disc.*; close its quote"),
        ("file,label\na,b.png,disc\n", r"train\.csv:2 has 3 fields, the header has 2; put quotes round a field"),
        (
            "file;label\na.png;disc\n",
            r"it has file;label\. Its first line must name `file` and `label`, parted",
        ),
    ],
)
def test_a_csv_file_that_would_lose_images_is_refused(folder, text, says):
    (folder / "train.csv").write_text(text)
    recipe = parse_recipe(RECIPE.replace("train: train\n", "train: train.csv\n"), folder.parent / "tiny.yaml")
    with pytest.raises(ValueError, match=says):
        WORKLOAD.read(recipe.data)


def test_a_csv_file_may_name_what_no_file_can_be_called(folder):
    (folder / "train.csv").write_text(f"file,label\n{'x' * 300}.png,disc\n")
    recipe = parse_recipe(RECIPE.replace("train: train\n", "train: train.csv\n"), folder.parent / "tiny.yaml")
    frame, _ = WORKLOAD.label_checks(WORKLOAD.read(recipe.data)["train"].assign(split="train"), recipe)
    assert list(frame["problem"]) == ["the file does not exist"]


def test_a_csv_file_names_images_whether_their_accents_are_characters_of_their_own_or_not(folder):
    path = next((folder / "train").rglob("*.png"))
    decomposed = path.rename(path.with_name(unicodedata.normalize("NFD", "größe.png")))
    (folder / "train.csv").write_text(
        f"file,label\n{path.parent.relative_to(folder)}/größe.png,disc\n", encoding="utf-8"
    )
    recipe = parse_recipe(RECIPE.replace("train: train\n", "train: train.csv\n"), folder.parent / "tiny.yaml")
    assert list(WORKLOAD.read(recipe.data)["train"]["file"]) == [str(decomposed)]


@pytest.mark.parametrize("stored", ["NFC", "NFD"])
@pytest.mark.parametrize("named", ["NFC", "NFD"])
def test_a_class_is_the_same_whether_its_accent_is_a_character_of_its_own_or_not(folder, stored, named):
    in_folder, in_recipe = (unicodedata.normalize(form, "thé") for form in (stored, named))
    (folder / "train" / "disc").rename(folder / "train" / in_folder)
    (folder / "test.csv").write_text(f"file,label\ntest/disc/0.png,{in_folder}\n", encoding="utf-8")
    classes = ", ".join(SHAPES)
    text = RECIPE.replace(classes, classes.replace("disc", in_recipe)).replace("test: test\n", "test: test.csv\n")
    recipe = parse_recipe(text, folder.parent / "tiny.yaml")
    splits = WORKLOAD.read(recipe.data)
    assert set(splits["train"]["label"]) == set(recipe.data.classes)
    assert list(splits["test"]["label"]) == ["thé"]


def test_a_csv_file_names_images_as_on_windows(folder):
    path = next((folder / "train").rglob("*.png"))
    (folder / "train.csv").write_text(f"file,label\ntrain\\{path.parent.name}\\{path.name},disc\n")
    recipe = parse_recipe(RECIPE.replace("train: train\n", "train: train.csv\n"), folder.parent / "tiny.yaml")
    frame = WORKLOAD.read(recipe.data)["train"]
    assert list(frame["file"]) == [str(path)]
    assert list(WORKLOAD.listed_files(recipe.data)) == [path]


def test_equal_files_of_one_corpus_stay_in_one_split(folder):
    for path in sorted((folder / "train" / "disc").iterdir())[:20]:
        shutil.copy(path, folder / "train" / "ring" / path.name)
    text = RECIPE.replace(
        "  train: train\n  validation: validation\n  test: test\n",
        "  corpus: train\n  fractions: {train: 0.5, validation: 0.25, test: 0.25}\n",
    )
    splits = WORKLOAD.read(parse_recipe(text, folder.parent / "o.yaml").data)
    names = {split: {name.rpartition("/")[2] for name in frame["id"]} for split, frame in splits.items()}
    assert sum(map(len, splits.values())) == 420
    assert not names["train"] & names["validation"] and not names["validation"] & names["test"]


def test_images_of_a_corpus_that_are_not_there_go_to_all_splits_for_the_checks_to_name_them(folder):
    lines = [f"gone/{number}.png,disc\n" for number in range(100)]
    (folder / "corpus.csv").write_text("file,label\n" + "".join(lines))
    text = RECIPE.replace(
        "  train: train\n  validation: validation\n  test: test\n",
        "  corpus: corpus.csv\n  fractions: {train: 0.4, validation: 0.3, test: 0.3}\n",
    )
    splits = WORKLOAD.read(parse_recipe(text, folder.parent / "o.yaml").data)
    assert sum(map(len, splits.values())) == 100 and min(map(len, splits.values())) > 10


@pytest.mark.parametrize(
    ("wrong", "right", "message"),
    [
        ("depth: 18", "depth: 34", "depth"),
        ("classes: [cross, disc", "classes: [disc, disc", "name one twice"),
        ("  test: test\n", "", "test missing"),
    ],
)
def test_sections_that_do_not_fit_are_refused(shapes, wrong, right, message):
    assert wrong in RECIPE
    with pytest.raises(RecipeError, match=message):
        parse_recipe(RECIPE.replace(wrong, right), shapes / "tiny.yaml")
