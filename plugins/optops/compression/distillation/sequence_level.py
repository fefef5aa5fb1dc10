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
"""Gives the best hypothesis of the teacher's beam, without begin and end, for each source of a batch."""

TranslateAll = Callable[[list[list[int]]], list[list[list[int]]]]
"""Gives all hypotheses of the teacher's beam, best first, without begin and end, for each source of a batch."""

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
        translate: Any executable of the teacher will do.
        teacher: Says which teacher and which decoding this is, for example the candidate's key and the beam; shards
            made under another name are made again.
        folder: Where the shards are kept.
        shard_size: Sources per shard.
        report: Called as `report(done, total)`, in sources, after each shard.

    Raises:
        ValueError: If `translate` does not give one translation per source.

    Source: Kim & Rush 2016, section 3.2.
    """
    shards = _Shards(folder, [teacher, "best"], shard_size, report)
    return shards.collect(sources, lambda indices, batch: translate(batch))


def interpolated_targets(
    sources: Sequence[Ids],
    targets: Sequence[Ids],
    translate: TranslateAll,
    *,
    teacher: str,
    folder: Path,
    shard_size: int = 64,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> list[list[int]]:
    """Returns, for each source, that of the teacher's hypotheses which is closest to the gold target.

    It is what the teacher thinks likely and people think right. Closest is the highest sentence BLEU over ids; of
    equals, the one that the teacher prefers. Resumable like `teacher_targets`, whose other arguments these are.

    Args:
        sources: Ids as the encoder reads them.
        targets: Gold ids, without begin and end.
        translate: Gives all hypotheses of the teacher's beam.
        teacher: Says which teacher and which decoding this is.
        folder: Where the shards are kept.
        shard_size: Sources per shard.
        report: Called as `report(done, total)` after each shard.

    Raises:
        ValueError: If there are not as many targets as sources, or a source gets no hypothesis.

    Source: Kim & Rush 2016, section 3.3.
    """
    if len(sources) != len(targets):
        raise ValueError(f"{len(sources)} sources but {len(targets)} targets; give one target per source")

    def choose(indices: list[int], batch: list[list[int]]) -> list[list[int]]:
        return [closest(options, targets[index]) for index, options in zip(indices, translate(batch), strict=True)]

    return _Shards(folder, [teacher, "interpolated"], shard_size, report).collect(sources, choose, targets)


def closest(options: Sequence[Ids], gold: Ids) -> list[int]:
    """Returns the option with the highest smoothed sentence BLEU against the gold ids; the first of equals.

    Raises:
        ValueError: If there are no options.
    """
    from sacrebleu.metrics import BLEU

    if not options:
        raise ValueError("the teacher gave no hypothesis for a source; widen its beam or allow longer output")
    bleu = BLEU(tokenize="none", effective_order=True, force=True)
    reference = [" ".join(map(str, gold))]
    scores = [bleu.sentence_score(" ".join(map(str, option)), reference).score for option in options]
    return [int(token) for token in options[scores.index(max(scores))]]


class _Shards:
    def __init__(self, folder: Path, name: list[str], size: int, report: Callable[[int, int], None]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.name, self.size, self.report = folder, name, size, report

    def collect(
        self,
        sources: Sequence[Ids],
        make: Callable[[list[int], list[list[int]]], list[list[int]]],
        gold: Sequence[Ids] = (),
    ) -> list[list[int]]:
        """Returns what `make` gives for each source, called with a shard's indices and sources."""
        # Longest first: if the longest batch is too large for the memory, that shows at once.
        order = sorted(range(len(sources)), key=lambda index: (-len(sources[index]), index))
        targets: list[list[int]] = [[] for _ in sources]
        for start in range(0, len(order), self.size):
            indices = order[start : start + self.size]
            batch = [[int(token) for token in sources[index]] for index in indices]
            identity = [*self.name, batch, [[int(token) for token in gold[index]] for index in indices if gold]]
            path = self.folder / f"shard-{start // self.size:05d}.json"
            digest = hashlib.sha256(canonical_json(identity).encode()).hexdigest()
            made = _read(path, digest)
            if made is None:
                made = [[int(token) for token in target] for target in make(indices, batch)]
                if len(made) != len(batch):
                    raise ValueError(f"translate gave {len(made)} translations for {len(batch)} sources; give one each")
                _write(path, digest, made)
            for index, target in zip(indices, made, strict=True):
                targets[index] = target
            self.report(start + len(indices), len(order))
        return targets


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
