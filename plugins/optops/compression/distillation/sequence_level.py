"""Sequence-level distillation: the teacher's translations of the training sources, kept in shards as they are made."""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from optops.candidate import canonical_json

Ids = Sequence[int]
Translate = Callable[[list[list[int]]], list[list[int]]]

log = logging.getLogger(__name__)


def teacher_targets(
    sources: Sequence[Ids],
    translate: Translate,
    *,
    teacher: str,
    folder: Path,
    shard_size: int = 64,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> list[list[int]]:
    """Returns the teacher's translation of each source, to be trained on in place of the gold target.

    Sources are translated sorted by length, one shard (a batch) at a time. Each shard is written when it is done, so a
    killed run, called again, translates only what is missing.

    Args:
        sources: Ids as the encoder reads them.
        translate: Gives the best hypothesis of the teacher's beam, without begin and end, for each source of a batch;
            any executable of the teacher will do.
        teacher: Says which teacher and which decoding this is, for example the candidate's key and the beam; shards
            made under another name are made again.
        folder: Where the shards are kept.
        shard_size: Sources per shard.
        report: Called as `report(done, total)`, in sources, after each shard.

    Raises:
        ValueError: If `translate` does not give one translation per source.

    Source: Kim & Rush 2016, section 3.2.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # Longest first: if the longest batch is too large for the memory, that shows at once.
    order = sorted(range(len(sources)), key=lambda index: (-len(sources[index]), index))
    targets: list[list[int]] = [[] for _ in sources]
    for start in range(0, len(order), shard_size):
        indices = order[start : start + shard_size]
        batch = [[int(token) for token in sources[index]] for index in indices]
        path = folder / f"shard-{start // shard_size:05d}.json"
        identity = hashlib.sha256(canonical_json([teacher, batch]).encode()).hexdigest()
        made = _read(path, identity)
        if made is None:
            made = _translated(batch, translate)
            _write(path, identity, made)
        for index, target in zip(indices, made, strict=True):
            targets[index] = target
        report(start + len(indices), len(order))
    return targets


def _translated(batch: list[list[int]], translate: Translate) -> list[list[int]]:
    made = [[int(token) for token in target] for target in translate(batch)]
    if len(made) != len(batch):
        raise ValueError(f"translate gave {len(made)} translations for {len(batch)} sources; it must give one each")
    return made


def _digest(targets: list[list[int]]) -> str:
    return hashlib.sha256(canonical_json(targets).encode()).hexdigest()


def _read(path: Path, identity: str) -> list[list[int]] | None:
    """Returns the targets of an intact shard of the same sources and teacher, else None."""
    if not path.is_file():
        return None
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        targets: list[list[int]] = data["targets"]
        intact = data["digest"] == _digest(targets)
    except (ValueError, KeyError, TypeError):
        intact = False
    if not intact:
        log.warning("%s: damaged; its sources are translated again", path)
        return None
    return targets if data["identity"] == identity else None


def _write(path: Path, identity: str, targets: list[list[int]]) -> None:
    partial = path.with_suffix(".partial")
    with partial.open("w", encoding="utf-8") as stream:
        json.dump({"identity": identity, "digest": _digest(targets), "targets": targets}, stream)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(path)
