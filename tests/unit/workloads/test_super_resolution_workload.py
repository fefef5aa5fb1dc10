import base64
import io
import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from optops.models.super_resolution import UpscalerSizes, build_upscaler
from optops.recipe_file import RecipeError, parse_recipe
from optops.testing import check_workload
from optops.workloads.base import load_workload
from optops.workloads.images import encode_png
from optops.workloads.super_resolution import patches
from optops.workloads.super_resolution.image_pairs import find_images
from optops.workloads.super_resolution.quality import luma
from optops.workloads.super_resolution.resizing import shrink, to_bytes
from optops.workloads.super_resolution.scoring import decode_luma, encode_luma
from optops.workloads.super_resolution.settings import ImageFolders
from optops.workloads.super_resolution.textures import draw_texture, write_textures
from optops.workloads.super_resolution.upscaling import Upscaling, tiles, upscale_luma, upscale_pixels

RECIPE = """
name: tiny
workload: super_resolution
data:
  scale: 2
  folder: data
  train: train
  validation: validation
  test: test
  patch: 16
model: {blocks: 1, channels: 8}
registry: {name: tiny}
"""
WORKLOAD = load_workload("super_resolution")
SIDE = 48


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recipe")
    write_textures(folder / "data", train=6, validation=3, test=4, seed=3, side=SIDE)
    return folder


@pytest.fixture(scope="module")
def recipe(folder):
    return parse_recipe(RECIPE, folder / "tiny.yaml")


@pytest.fixture(scope="module")
def splits(recipe):
    return WORKLOAD.read(recipe.data)


@pytest.fixture(scope="module")
def assets(folder, recipe, splits):
    (folder / "assets").mkdir()
    WORKLOAD.prepare(recipe, splits["train"], folder / "assets")
    return folder / "assets"


def executable_of(scale, blocks=1):
    model = build_upscaler(UpscalerSizes(scale=scale, blocks=blocks, channels=8))
    random = np.random.default_rng(7)
    for weight in model.trainable_weights:
        weight.assign(weight.numpy() + random.normal(0, 0.05, weight.shape))
    return lambda inputs: {"high": model(inputs["low"]).numpy()}


@pytest.fixture(scope="module")
def executable():
    return executable_of(2)


def pixels_of(answer):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(answer))))


def test_the_workload_conforms(recipe, splits):
    highs = [to_bytes(luma(np.asarray(Image.open(path)))) for path in splits["test"]["high"]]
    imperfect = [encode_luma(high // 2 + 60) for high in highs]
    check_workload(recipe, imperfect, perfect=[encode_luma(high) for high in highs])


def test_one_corpus_is_split_without_losing_an_image(folder):
    text = RECIPE.replace("  train: train\n  validation: validation\n  test: test\n", "  corpus: train\n")
    text += "\n"
    recipe = parse_recipe(
        text.replace("patch: 16", "fractions: {train: 0.4, validation: 0.3, test: 0.3}"), folder / "o.yaml"
    )
    splits = WORKLOAD.read(recipe.data)
    assert sorted(name for frame in splits.values() for name in frame["id"]) == [
        f"corpus/texture_{number:04d}" for number in range(6)
    ]


@pytest.mark.parametrize(
    ("wrong", "right", "message"),
    [
        ("scale: 2", "scale: 5", "scale"),
        ("patch: 16", "patch: 17", "no multiple of scale 2; take 16"),
        ("  test: test\n", "", "test missing"),
        ("train: train", "train: {high: train, low: low}\n  smaller_copies: [0.9]", "made of images alone"),
        ("blocks: 1", "block: 1", "did you mean"),
    ],
)
def test_sections_that_do_not_fit_are_refused(folder, wrong, right, message):
    assert wrong in RECIPE
    with pytest.raises(RecipeError, match=message):
        parse_recipe(RECIPE.replace(wrong, right), folder / "tiny.yaml")


def test_relocated_data_lies_as_it_did_and_of_what_lay_elsewhere_the_name_is_kept():
    data = {"train": {"high": "/far/HR", "low": "../LR"}, "validation": "set5/HR", "test": "set14/HR"}
    assert WORKLOAD.relocate(data, "/near") == {
        "folder": "/near",
        "train": {"high": "HR", "low": "LR"},
        "validation": {"high": "set5/HR", "low": None},
        "test": {"high": "set14/HR", "low": None},
    }


def test_low_resolution_images_are_found_under_either_name(folder, tmp_path):
    (tmp_path / "low").mkdir()
    for path in sorted((folder / "data" / "train").iterdir())[:3]:
        Image.fromarray(shrink(np.asarray(Image.open(path)), 2)).save(tmp_path / "low" / f"{path.stem}x2.png")
    text = RECIPE.replace("train: train", f"train: {{high: train, low: {tmp_path}/low}}")
    frame = WORKLOAD.read(parse_recipe(text, folder / "x2.yaml").data)["train"]
    assert (frame["low"] != "").tolist() == [True] * 3 + [False] * 3


def test_a_large_image_whose_own_name_ends_in_the_scale_keeps_its_partner(tmp_path):
    for name, side in (("high", 64), ("low", 32)):
        (tmp_path / name).mkdir()
        Image.new("RGB", (side, side)).save(tmp_path / name / "lynx2.png")
    text = RECIPE.replace("train: train", f"train: {{high: {tmp_path}/high, low: {tmp_path}/low}}")
    data = parse_recipe(text, tmp_path / "x2.yaml").data
    frame = find_images("train", data.folders()["train"], 2)
    assert frame["id"].tolist() == ["train/lynx2"]
    assert frame["low"].iloc[0].endswith("low/lynx2.png")


def test_two_small_images_of_one_large_one_are_refused(tmp_path):
    for place in ("high/a.png", "low/a.png", "low/ax2.png"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        Image.new("RGB", (32, 32)).save(tmp_path / place)
    folders = ImageFolders(high=str(tmp_path / "high"), low=str(tmp_path / "low"))
    with pytest.raises(ValueError, match=r"low/ax2\.png and .*low/a\.png have one name.*rename or remove one"):
        find_images("train", folders, 2)


def test_a_pair_belongs_together_whether_its_accents_are_characters_of_their_own_or_not(tmp_path):
    for folder, form, side in (("high", "NFC", 8), ("low", "NFD", 4)):
        (tmp_path / folder).mkdir()
        name = unicodedata.normalize(form, "größe.png")
        Image.new("RGB", (side, side)).save(tmp_path / folder / name)
    folders = ImageFolders(high=str(tmp_path / "high"), low=str(tmp_path / "low"))
    frame = find_images("train", folders, 2)
    assert list(frame["id"]) == ["train/größe"]
    assert frame["high"].map(os.path.isfile).all() and frame["low"].map(os.path.isfile).all()


# Training


def test_patches_come_again_from_seed_and_epoch_and_fit_each_other(recipe, splits, assets):
    batches = WORKLOAD.batches(recipe, splits["train"], assets, recipe.train.model_copy(update={"batch_tokens": 16}))
    first, again, other = list(batches(1)), list(batches(1)), list(batches(2))
    # So many patches as cover the images: six of 48 x 48 by 16 x 16.
    assert sum(len(batch["low"]) for batch in first) == 6 * 9
    assert len(first) == len(batches(1)) == 4
    for one, same in zip(first, again, strict=True):
        np.testing.assert_array_equal(one["low"], same["low"])
    assert not np.array_equal(first[0]["low"], other[0]["low"])
    assert first[0]["low"].shape == (16, 8, 8, 1) and first[0]["high"].shape == (16, 16, 16, 1)
    for low, high in zip(first[0]["low"], first[0]["high"], strict=True):
        middle = high.reshape(8, 2, 8, 2).mean(axis=(1, 3))
        # Turned and mirrored alike: the mean of four pixels is close to theirs made small.
        assert np.abs(low[..., 0] - middle).mean() < 0.05
        assert low.min() >= 0 and high.max() <= 1


def test_patches_are_the_same_from_images_that_do_not_stay_in_memory(recipe, splits, assets, monkeypatch, tmp_path):
    monkeypatch.setenv("OPTOPS_HOME", str(tmp_path))
    expected = list(WORKLOAD.batches(recipe, splits["train"], assets, recipe.train)(1))
    monkeypatch.setattr(patches, "MEMORY_BYTES", 2 * SIDE * SIDE)
    found = list(WORKLOAD.batches(recipe, splits["train"], assets, recipe.train)(1))
    for one, same in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one["low"], same["low"])
        np.testing.assert_array_equal(one["high"], same["high"])
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_images_of_one_name_are_two_where_nothing_is_paired_and_refused_where_it_is(tmp_path):
    for name in ("a.png", "a.jpg", "b.png"):
        Image.fromarray(draw_texture(np.random.default_rng(1), 8)).save(tmp_path / name)
    frame = find_images("train", ImageFolders(high=str(tmp_path)), 2)
    assert list(frame["id"]) == ["train/a", "train/a.png", "train/b"]
    assert [Path(file).name for file in frame["high"]] == ["a.jpg", "a.png", "b.png"]
    with pytest.raises(ValueError, match="have one name, so nobody knows which is meant"):
        find_images("train", ImageFolders(high=str(tmp_path), low=str(tmp_path)), 2)


def test_smaller_copies_add_images(folder, splits, assets, recipe):
    more = parse_recipe(RECIPE.replace("patch: 16", "patch: 16\n  smaller_copies: [0.5]"), folder / "more.yaml")
    count = {}
    for name, read in (("plain", recipe), ("more", more)):
        count[name] = len(WORKLOAD.batches(read, splits["train"], assets, read.train)(1).settings.pairs)
    assert count == {"plain": 6, "more": 12}


def test_a_patch_larger_than_every_image_is_refused(folder, splits, assets):
    recipe = parse_recipe(RECIPE.replace("patch: 16", "patch: 64"), folder / "large.yaml")
    with pytest.raises(ValueError, match=r"lower `data.patch`"):
        WORKLOAD.batches(recipe, splits["train"], assets, recipe.train)


def test_losses_are_absolute_errors_and_alpha_mixes_them(recipe, splits, assets):
    batch = next(iter(WORKLOAD.batches(recipe, splits["train"], assets, recipe.train)(1)))
    teacher, student = (build_upscaler(UpscalerSizes(2, 1, 8)) for _ in range(2))
    hard = float(WORKLOAD.loss(recipe.train)(student, batch, 0.0))
    soft = float(
        WORKLOAD.distillation_loss(teacher, student, recipe.distill.model_copy(update={"alpha": 1.0}))(
            student, batch, 0.0
        )
    )
    mixed = float(
        WORKLOAD.distillation_loss(teacher, student, recipe.distill.model_copy(update={"alpha": 0.25}))(
            student, batch, 0.0
        )
    )
    assert hard == pytest.approx(np.abs(student(batch["low"], training=True) - batch["high"]).mean(), rel=1e-4)
    assert mixed == pytest.approx(0.25 * soft + 0.75 * hard, rel=1e-3)


def test_a_student_starts_from_the_teachers_blocks(folder):
    recipe = parse_recipe(
        RECIPE.replace("blocks: 1", "blocks: 3") + "distill: {student: {blocks: 2}}\n", folder / "s.yaml"
    )
    _, teacher = WORKLOAD.build(recipe, folder)
    student = WORKLOAD.student(recipe, teacher)
    for ours, origin in ((0, 0), (1, 2)):
        np.testing.assert_array_equal(
            student.get_layer(f"block_{ours}_first").get_weights()[0],
            teacher.get_layer(f"block_{origin}_first").get_weights()[0],
        )


def test_each_networks_assets_say_how_far_it_sees_itself(folder):
    reaches = {}
    for blocks in (1, 5):
        recipe = parse_recipe(
            RECIPE.replace("blocks: 1", "blocks: 3")
            + f"distill: {{student: {{blocks: {blocks}}}, initialize: false}}\n",
            folder / "s.yaml",
        )
        WORKLOAD.prepare(recipe, None, folder)
        whole = Upscaling.load(folder)
        WORKLOAD.adapt_assets(recipe, folder)
        reaches[blocks] = (whole.reach, Upscaling.load(folder).reach)
    of_three = UpscalerSizes(whole.scale, 3, 8).reach
    assert reaches == {blocks: (of_three, UpscalerSizes(whole.scale, blocks, 8).reach) for blocks in (1, 5)}


# Serving


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("side", [5, 8, 40])
def test_tiles_give_what_the_whole_gives(scale, side):
    run = executable_of(scale, blocks=2)
    upscaling = Upscaling(scale, UpscalerSizes(scale, 2, 8).reach)
    pixels = draw_texture(np.random.default_rng(8), 33)[:, :29]
    whole = upscale_pixels(run, pixels, upscaling, tile=64).astype(int)
    tiled = upscale_pixels(run, pixels, upscaling, tile=side).astype(int)
    assert np.abs(whole - tiled).max() <= 1 and (whole != tiled).mean() < 0.001
    alone = upscale_luma(run, luma(pixels), upscaling, tile=side).astype(int)
    assert np.abs(alone - upscale_luma(run, luma(pixels), upscaling)).max() <= 1


@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 300), (256, 256), (257, 513)])
def test_every_pixel_is_answered_for_once(height, width):
    times = np.zeros((height, width), int)
    for tile in tiles(height, width, 256, 11):
        times[tile.place] += 1
        seen = np.arange(height * width).reshape(height, width)[tile.seen]
        np.testing.assert_array_equal(seen[tile.inner], np.arange(height * width).reshape(height, width)[tile.place])
        assert max(seen.shape) <= 256 + 2 * 11
    assert (times == 1).all()


def test_images_of_all_kinds_and_sizes_are_served(executable, assets):
    rgb = draw_texture(np.random.default_rng(9), 20)
    image = Image.fromarray(rgb)
    see_through = image.copy()
    see_through.putalpha(Image.fromarray(rgb[..., 1]))
    palette = image.quantize(8)
    given = [
        encode_png(image),
        base64.b64encode(encode_png(image)).decode(),
        rgb,
        image.convert("L"),
        see_through,
        see_through.convert("LA"),
        palette,
        image.convert("CMYK"),
        Image.fromarray(rgb[..., 0].astype(np.uint16) * 257),
        Image.fromarray(rgb[:1, :1]),
        Image.fromarray(rgb[:1, :]),
    ]

    def content(value):
        if not isinstance(value, Image.Image):
            return value
        buffer = io.BytesIO()
        value.save(buffer, format="TIFF" if value.mode == "CMYK" else "PNG")
        return buffer.getvalue()

    answers = [pixels_of(answer) for answer in WORKLOAD.serve(executable, assets, [content(value) for value in given])]
    np.testing.assert_array_equal(answers[0], answers[1])
    np.testing.assert_array_equal(answers[0], answers[2])
    shapes = [answer.shape for answer in answers]
    assert shapes[:9] == [(40, 40, 3)] * 3 + [(40, 40), (40, 40, 4), (40, 40, 2), (40, 40, 3), (40, 40, 3), (40, 40)]
    assert shapes[9:] == [(2, 2, 3), (2, 40, 3)]
    np.testing.assert_array_equal(answers[4][..., :3], answers[0])
    # What is transparent stays so.
    kept = answers[4][..., 3].reshape(20, 2, 20, 2).mean(axis=(1, 3))
    assert np.abs(kept - rgb[..., 1]).mean() < 12


def test_what_is_served_looks_like_what_was_given(executable, assets):
    rgb = draw_texture(np.random.default_rng(10), 32)
    (answer,) = WORKLOAD.serve(executable_of(2), assets, [rgb])
    back = pixels_of(answer).reshape(32, 2, 32, 2, 3).mean(axis=(1, 3))
    chroma_error = np.abs((back - back.mean(axis=-1, keepdims=True)) - (rgb - rgb.mean(axis=-1, keepdims=True))).mean()
    assert chroma_error < 12


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"nothing", "input 1: it is no image"),
        (17, "input 1 is int"),
        (Image.new("L", (12_000, 10_000)), "input 1: 12000 x 10000 pixels.*cut the image"),
    ],
)
def test_an_input_that_can_not_be_served_is_named(executable, assets, value, message):
    value = encode_png(value) if isinstance(value, Image.Image) else value
    with pytest.raises(ValueError, match=message):
        WORKLOAD.serve(executable, assets, [draw_texture(np.random.default_rng(1), 8), value])


# Quality and timing


def test_predictions_are_lumas_that_the_metric_reads(recipe, splits, assets, executable):
    predictions = WORKLOAD.predict(executable, splits["test"], assets)
    assert [decode_luma(prediction).shape for prediction in predictions] == [(SIDE, SIDE)] * 4
    statistics = WORKLOAD.statistics(predictions, splits["test"], recipe.data)
    assert statistics.shape == (4, 2)
    assert 5 < float(WORKLOAD.metric(statistics)[0]) < 60
    assert 0 < WORKLOAD.figures(statistics)["SSIM"] < 1
    assert WORKLOAD.agreement(predictions, predictions) == 1
    other = [encode_luma(np.minimum(decode_luma(predictions[0]), 250) + 3), *predictions[1:]]
    assert WORKLOAD.agreement(predictions, other) == 0.75


@pytest.mark.parametrize("grey", ["high", "low"])
def test_a_grey_image_and_its_coloured_partner_have_one_luma(tmp_path, grey):
    levels = np.tile(np.linspace(0, 255, SIDE), (SIDE, 1)).round().astype(np.uint8)
    images = {"high": levels, "low": shrink(levels, 2)}
    for side, pixels in images.items():
        (tmp_path / side).mkdir()
        Image.fromarray(pixels).convert("L" if side == grey else "RGB").save(tmp_path / side / "ramp.png")
    text = RECIPE
    for split in ("train", "validation", "test"):
        text = text.replace(f"{split}: {split}", f"{split}: {{high: {tmp_path}/high, low: {tmp_path}/low}}")
    recipe = parse_recipe(text, tmp_path / "tiny.yaml")
    splits = WORKLOAD.read(recipe.data)
    (tmp_path / "assets").mkdir()
    WORKLOAD.prepare(recipe, splits["train"], tmp_path / "assets")
    whole = luma(np.repeat(levels[..., None], 3, -1))
    (batch,) = WORKLOAD.batches(recipe, splits["train"], tmp_path / "assets", recipe.train)(1)
    middle = batch["high"].reshape(-1, 8, 2, 8, 2).mean(axis=(2, 4))
    # Grey alone would be 16 darker where it is black.
    assert np.abs(batch["low"][..., 0] - middle).mean() < 0.01

    def doubled(inputs):
        return {"high": np.repeat(np.repeat(inputs["low"], 2, 1), 2, 2)}

    enlarged = WORKLOAD.predict(doubled, splits["test"], tmp_path / "assets")
    assert np.abs(decode_luma(enlarged[0]) - whole).mean() < 4
    assert float(WORKLOAD.metric(WORKLOAD.statistics(enlarged, splits["test"], recipe.data))[0]) > 35


def test_calls_for_timing_and_calibration_are_of_the_images(splits, assets):
    for batch in (1, 3):
        calls = WORKLOAD.benchmark_inputs(splits["validation"], assets, batch, 1)
        assert [call["low"].shape for call in calls] == [(batch, SIDE // 2, SIDE // 2, 1)] * 4
        assert calls[0]["low"].dtype == np.float32
    calibration = list(WORKLOAD.calibration_inputs(splits["train"], assets))
    assert len(calibration) == 6
    assert all(0 < call["low"].min() < call["low"].max() <= 1 for call in calibration)


def test_the_example_on_the_models_page_is_an_image(splits, executable, assets):
    examples = WORKLOAD.input_example(splits["validation"])
    assert [pixels_of(answer).shape for answer in WORKLOAD.serve(executable, assets, examples)] == [(96, 96, 3)] * 2


def test_generated_images_come_again_from_the_seed_and_differ():
    images = [draw_texture(np.random.default_rng([3, number]), 32) for number in range(12)]
    again = [draw_texture(np.random.default_rng([3, number]), 32) for number in range(12)]
    np.testing.assert_array_equal(images, again)
    assert len({image.tobytes() for image in images}) == 12
    assert min(luma(image).std() for image in images) > 2
