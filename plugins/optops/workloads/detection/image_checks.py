"""Label checks of whole images: readable, of the size that is written, labelled once, in one split."""

from __future__ import annotations

from itertools import chain, islice
from typing import Final

import numpy as np
import pandas as pd

from optops.workloads.detection.boxes import Box
from optops.workloads.detection.inspection import THUMBNAIL, Look
from optops.workloads.splits import SPLIT_NAMES

_NAMED: Final = 3
_BLOCK: Final = 256
_FLAT: Final = 4.0


def find_unreadable(rows: pd.DataFrame) -> pd.Series[str]:
    """Name images that can not be decoded to the last pixel."""
    return rows.loc[rows["problem"] != "", "problem"].astype(str)


def find_wrong_size(rows: pd.DataFrame) -> pd.Series[str]:
    """Name images whose annotation gives another size than they have."""
    given, real = (rows[list(names)] for names in (("width", "height"), ("real_width", "real_height")))
    judged = (given > 0).all(axis=1) & (real > 0).all(axis=1)
    differs = judged & (given.to_numpy() != real.to_numpy()).any(axis=1)
    reasons = [
        f"the annotation says {width} x {height}, the image has {real_width} x {real_height}"
        + (_exchanged(sideways) if (width, height) == (real_height, real_width) else "")
        for width, height, real_width, real_height, sideways in rows.loc[
            differs, ["width", "height", "real_width", "real_height", "sideways"]
        ].itertuples(index=False)
    ]
    return pd.Series(reasons, index=rows.index[differs], dtype=str)


def _exchanged(sideways: bool) -> str:
    if sideways:
        return ": the annotation is of the image without its EXIF rotation"
    return ": width and height are exchanged"


def find_no_boxes(rows: pd.DataFrame) -> pd.Series[str]:
    """Name images that are labelled with nothing at all."""
    empty = (rows["boxes"].map(len) == 0) & (rows["faults"].map(len) == 0)
    return pd.Series("no box is given", index=rows.index[empty], dtype=str)


def find_conflicts(rows: pd.DataFrame) -> pd.Series[str]:
    """Name the images that are the same as others of the split, but labelled otherwise."""
    known = rows[(rows["pixels"] != "") & rows["pixels"].duplicated(keep=False)]
    labels = {index: tuple(sorted(boxes)) for index, boxes in known["boxes"].items()}
    reasons = {}
    for _, same in known.groupby("pixels", sort=False):
        # By their labels, for one image may stand there thousands of times: a placeholder, a black frame.
        names: dict[tuple[Box, ...], list[str]] = {}
        for index, name in same["id"].items():
            names.setdefault(labels[index], []).append(str(name))
        for index in same.index if len(names) > 1 else ():
            own = labels[index]
            others = chain.from_iterable(found for label, found in names.items() if label != own)
            rest = len(same) - len(names[own]) - _NAMED
            more = f" and {rest} more" if rest > 0 else ""
            reasons[index] = f"labelled otherwise in {', '.join(islice(others, _NAMED))}{more}"
    return pd.Series(reasons, dtype=str)


def find_near_overlap(rows: pd.DataFrame) -> pd.Series[str]:
    """Name the images to which `near_elsewhere` has found a near one in a later split."""
    return rows.loc[rows["near"] != "", "near"].astype(str)


def near_elsewhere(frame: pd.DataFrame, looks: list[Look], most: float) -> pd.Series[str]:
    """Say of each row which image of a later split looks most like it, if nearly the same; "" for none.

    Images are near if their grey thumbnails, brought to the same mean, differ by less than `most` on average: what is
    left after another compression or a small change. Flat images, whose thumbnails tell nothing, take no part.
    """
    where = pd.Series("", index=frame.index, dtype=object)
    thumbnails = {
        index: look.thumbnail.astype(np.float32).ravel() - look.thumbnail.mean()
        for index, look in zip(frame.index, looks, strict=True)
        if look.thumbnail.size == THUMBNAIL**2 and look.thumbnail.std() > _FLAT
    }
    judged = frame.loc[list(thumbnails)]
    contents = pd.Series(pd.factorize(judged["pixels"])[0], index=judged.index)
    for number, split in enumerate(SPLIT_NAMES[:-1]):
        own = judged[judged["split"] == split]
        held = judged[judged["split"].isin(SPLIT_NAMES[number + 1 :])]
        if own.empty or held.empty:
            continue
        theirs = np.stack([thumbnails[index] for index in held.index])
        for start in range(0, len(own), _BLOCK):
            block = own.index[start : start + _BLOCK]
            ours = np.stack([thumbnails[index] for index in block])
            # The mean of absolute values is at most the root of the mean of squares, which a product gives at once.
            squares = (ours**2).mean(1)[:, None] + (theirs**2).mean(1) - 2 * ours @ theirs.T / THUMBNAIL**2
            # What is the very same is another check's.
            squares[contents[block].to_numpy()[:, None] == contents[held.index].to_numpy()] = np.inf
            nearest = squares.argmin(axis=1)
            for i in np.flatnonzero(squares.min(axis=1) < most**2).tolist():
                found = held.iloc[nearest[i]]
                where[block[i]] = f"nearly the same image stands in {found['split']}, {found['id']}"
    return where.astype(str)
