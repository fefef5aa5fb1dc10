"""Defects that are planted are found and counted, and nothing else is."""

import shutil
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from optops.recipe_file import parse_recipe
from optops.workloads.base import load_workload
from optops.workloads.super_resolution.resizing import resize, shrink, to_bytes
from optops.workloads.super_resolution.textures import draw_texture, write_textures

RECIPE = """
name: tiny
workload: super_resolution
data:
  scale: 2
  folder: data
  train: {train}
  validation: {validation}
  test: {test}
registry: {{name: tiny}}
model: {{}}
"""
WORKLOAD = load_workload("super_resolution")
SIDE = 64


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """Pairs of folders without a defect."""
    folder = tmp_path_factory.mktemp("clean") / "data"
    write_textures(folder, train=10, validation=3, test=3, seed=11, side=SIDE)
    for split in ("train", "validation", "test"):
        (folder / f"{split}_low").mkdir()
        for path in (folder / split).iterdir():
            low = shrink(np.asarray(Image.open(path)), 2)
            Image.fromarray(low).save(folder / f"{split}_low" / path.name)
    return folder


@pytest.fixture
def folder(clean, tmp_path):
    shutil.copytree(clean, tmp_path / "data")
    return tmp_path / "data"


def check(folder, pairs=True, extra=""):
    names = {split: split for split in ("train", "validation", "test")}
    if pairs:
        names = {split: f"{{high: {split}, low: {split}_low}}" for split in names}
    recipe = parse_recipe(RECIPE.format(**names) + extra, folder.parent / "tiny.yaml")
    splits = WORKLOAD.read(recipe.data)
    return WORKLOAD.check(splits, recipe, folder.parent / "docs")


def found(report):
    return Counter((defect.check, defect.split) for defect in report.defects)


def texture(number):
    return draw_texture(np.random.default_rng([99, number]), SIDE)


def names(folder, split="train"):
    return sorted(path.name for path in (folder / split).iterdir())


def replace_pair(folder, name, high, low):
    Image.fromarray(high).save(folder / "train" / name)
    Image.fromarray(low).save(folder / "train_low" / name)


@pytest.mark.parametrize("pairs", [True, False])
def test_a_clean_set_raises_no_alarm(folder, pairs):
    report = check(folder, pairs)
    assert not report.defects
    assert all(outcome.within_limit for outcome in report.outcomes)


@pytest.mark.parametrize("method", [Image.Resampling.BOX, Image.Resampling.BILINEAR, Image.Resampling.LANCZOS])
def test_other_ways_to_shrink_raise_no_alarm(folder, method):
    for path in (folder / "train").iterdir():
        Image.open(path).resize((SIDE // 2, SIDE // 2), method).save(folder / "train_low" / path.name)
    assert not check(folder).defects


def test_files_that_can_not_be_decoded_are_named_and_do_not_stop_the_others(folder):
    first, second, third, *_ = names(folder)
    content = (folder / "train" / first).read_bytes()
    (folder / "train" / first).write_bytes(content[: len(content) // 2])
    (folder / "train" / second).write_bytes(b"no image")
    content = (folder / "train_low" / third).read_bytes()
    (folder / "train_low" / third).write_bytes(content[:-200])
    report = check(folder)
    assert found(report) == {("unreadable", "train"): 3}
    assert {defect.file.rpartition("/")[2] for defect in report.defects} == {first, second, third}
    assert len(report.quarantine) == 3
    assert any("truncated" in defect.reason for defect in report.defects)


def test_partners_that_are_missing_are_found_on_both_sides(folder):
    first, second, *_ = names(folder)
    (folder / "train" / first).unlink()
    (folder / "train_low" / second).unlink()
    report = check(folder)
    assert found(report) == {("missing_partner", "train"): 2}
    assert {defect.reason for defect in report.defects} == {
        "there is a low-resolution image, but no large one of this name",
        "there is a large image, but no low-resolution one of this name",
    }


def test_a_pair_of_another_scale_is_found(folder):
    name = names(folder)[0]
    replace_pair(folder, name, texture(1), shrink(texture(1), 4))
    report = check(folder)
    assert found(report) == {("wrong_scale", "train"): 1}
    assert report.defects[0].reason == "64 x 64 against 16 x 16 is not 2 to 1"


def test_a_pair_whose_sides_were_rounded_up_is_told_the_remedy(folder):
    name = names(folder)[0]
    replace_pair(folder, name, texture(1)[:63, :63], shrink(texture(1), 2))
    report = check(folder)
    (reason,) = (defect.reason for defect in report.defects if defect.check == "wrong_scale")
    assert reason.startswith("63 x 63 against 32 x 32 is not 2 to 1, but rounded up: ")
    assert reason.endswith("cut large images to multiples of 2 before they are made small")


@pytest.mark.parametrize("shift", [(1, 0), (0, -1), (4, 7), (-9, 2)])
def test_a_pair_that_is_out_of_place_is_found_to_the_pixel(folder, shift):
    image = texture(2)
    low = to_bytes(resize(image, SIDE // 2, SIDE // 2, 0.5, shift))
    replace_pair(folder, names(folder)[0], image, low)
    report = check(folder)
    assert found(report)["misaligned", "train"] == 1
    assert f"{shift[0]} pixels further down and {shift[1]} further right" in report.defects[0].reason


def test_a_pair_that_shows_different_things_is_found(folder):
    replace_pair(folder, names(folder)[0], texture(3), shrink(texture(4), 2))
    assert found(check(folder)) == {("different_content", "train"): 1}


def test_a_grey_image_that_shows_what_its_coloured_partner_shows_raises_no_alarm(folder):
    grey = np.asarray(Image.fromarray(texture(3)).convert("L"))
    replace_pair(folder, names(folder)[0], grey, np.repeat(shrink(grey, 2)[..., None], 3, -1))
    turned = grey[::-1]
    replace_pair(folder, names(folder)[1], np.repeat(turned[..., None], 3, -1), shrink(turned, 2))
    # Of one luma they match as well as others do.
    assert not check(folder, extra="check_labels: {thresholds: {min_match: 35}}\n").defects


def test_equal_pixels_are_found_within_and_between_splits_whatever_the_format(folder):
    names_of_training = names(folder)
    twin = Image.open(folder / "train" / names_of_training[0])
    twin.save(folder / "train" / "zz_twin.bmp")
    shutil.copy(folder / "test" / names(folder, "test")[0], folder / "train" / "zz_leak.png")
    report = check(folder, pairs=False)
    assert found(report) == {("duplicate", "train"): 1, ("overlap", "train"): 1, ("overlap", "test"): 1}
    assert "the same image stands in test, " in next(d.reason for d in report.defects if d.check == "overlap")


def test_small_and_flat_images_are_found(folder):
    Image.fromarray(texture(5)[:20, :50]).save(folder / "train" / "zz_small.png")
    Image.fromarray(texture(6)[:40, :40]).save(folder / "train" / "zz_smaller_than_a_patch.png")
    Image.fromarray(texture(7)[:40, :40]).save(folder / "test" / "zz_large_enough_for_the_test.png")
    Image.fromarray(np.full((SIDE, SIDE), 90, np.uint8)).save(folder / "validation" / "zz_flat.png")
    report = check(folder, pairs=False)
    assert found(report)["too_small", "train"] == 2
    assert found(report)["flat", "validation"] == 1
    assert not {check for check, split in found(report) if split == "test"}


def test_thresholds_and_limits_are_the_recipes(folder):
    extra = "check_labels: {checks: {flat: off}, thresholds: {min_side: 65}}\n"
    report = check(folder, pairs=False, extra=extra)
    assert found(report) == {
        ("too_small", split): count for split, count in (("train", 10), ("validation", 3), ("test", 3))
    }
