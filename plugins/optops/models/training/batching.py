"""Length-bucketed batches of token ids under a token budget, shuffled by seed and epoch alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from optops.models.token_ids import BEGIN, END, Ids, pad_rows
from optops.models.training.settings import Batch


def within_budget(order: NDArray[np.int64], lengths: NDArray[np.int64], batch_tokens: int) -> list[NDArray[np.int64]]:
    """Cuts examples, in the given order, into batches of at most so many tokens with their padding.

    Args:
        order: Indices of the examples, [examples].
        lengths: The length of each, in that order, [examples].
        batch_tokens: Most tokens of a batch.
    """
    groups, start, widest = [], 0, 0
    for index, length in enumerate(lengths):
        widest = max(widest, int(length))
        if widest * (index - start + 1) > batch_tokens:
            groups.append(order[start:index])
            start, widest = index, int(length)
    return [*groups, order[start:]]


@dataclass(frozen=True)
class PairBatches:
    """Batches of (source, target) for an encoder-decoder model; call it with an epoch to get that epoch's batches.

    A batch holds `source` as given, `target` (begin, then the ids: what the decoder reads) and `labels` (the ids,
    then end: what it must predict), all int32 [batch, time], padded with 0. Examples of similar length go together,
    so that little of a batch is padding.

    Attributes:
        sources: Ids as the encoder reads them.
        targets: Ids without begin and end.
        batch_tokens: Most tokens per batch, counted on the longer side with its padding.
        seed: With the epoch, decides which examples share a batch, and the order of batches.
        multiple: Lengths are padded to multiples of it.

    Raises:
        ValueError: If there are no pairs, the sides differ in number, or a pair is longer than a batch may be.
    """

    sources: Sequence[Ids]
    targets: Sequence[Ids]
    batch_tokens: int
    seed: int
    multiple: int = 1

    def __post_init__(self) -> None:
        if len(self.sources) != len(self.targets):
            raise ValueError(f"{len(self.sources)} sources but {len(self.targets)} targets; give one target per source")
        if not self.sources:
            raise ValueError("there are no pairs to train on; look at what check_labels quarantined")
        longest = int(self._lengths().max())
        if longest > self.batch_tokens:
            raise ValueError(
                f"pair {int(self._lengths().max(axis=1).argmax())} has {longest} tokens with its padding, a batch may "
                f"have {self.batch_tokens}; raise batch_tokens or leave out pairs that long"
            )

    def __call__(self, epoch: int) -> "EpochOfPairs":
        """Returns the batches of one epoch; the same for the same seed and epoch."""
        random = np.random.default_rng((self.seed, epoch))
        groups = self._grouped(random.permutation(len(self.sources)))
        return EpochOfPairs(self, [groups[index] for index in random.permutation(len(groups))])

    def _lengths(self) -> NDArray[np.int64]:
        """Returns the padded lengths of each pair, [pairs, (source, target)]."""
        sizes = [(len(source), len(target) + 1) for source, target in zip(self.sources, self.targets, strict=True)]
        return -(-np.maximum(np.array(sizes, np.int64), 1) // self.multiple) * self.multiple

    def _grouped(self, order: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Cuts examples, sorted by length but otherwise in the given order, into batches within the budget."""
        lengths = self._lengths()[order]
        # lexsort is stable: what the permutation did survives among examples of the same lengths.
        by_length = np.lexsort((lengths[:, 0], lengths[:, 1]))
        return within_budget(order[by_length], lengths[by_length].max(axis=1), self.batch_tokens)


@dataclass(frozen=True)
class EpochOfPairs:
    """The batches of one epoch; each is padded when its turn comes."""

    pairs: PairBatches
    groups: Sequence[NDArray[np.int64]]

    def __len__(self) -> int:
        return len(self.groups)

    def __iter__(self) -> Iterator[Batch]:
        sources, targets, multiple = self.pairs.sources, self.pairs.targets, self.pairs.multiple
        for group in self.groups:
            yield {
                "source": pad_rows([sources[index] for index in group], multiple),
                "target": pad_rows([[BEGIN, *targets[index]] for index in group], multiple),
                "labels": pad_rows([[*targets[index], END] for index in group], multiple),
            }


@dataclass(frozen=True)
class TextBatches:
    """Batches of labelled texts for a classifier; call it with an epoch to get that epoch's batches.

    A batch holds `ids` int32 [batch, time], padded with 0, and `labels` int32 [batch].

    Attributes:
        texts: Ids of each text.
        labels: Number of each text's class.
        batch_tokens: Most tokens per batch, with its padding.
        seed: With the epoch, decides which examples share a batch, and the order of batches.

    Raises:
        ValueError: If there are no texts, labels are missing, or a text is longer than a batch may be.
    """

    texts: Sequence[Ids]
    labels: Sequence[int]
    batch_tokens: int
    seed: int

    def __post_init__(self) -> None:
        if len(self.texts) != len(self.labels):
            raise ValueError(f"{len(self.texts)} texts but {len(self.labels)} labels; give one label per text")
        if not self.texts:
            raise ValueError("there are no texts to train on; look at what check_labels quarantined")
        longest = max(len(text) for text in self.texts)
        if longest > self.batch_tokens:
            raise ValueError(
                f"a text has {longest} tokens, a batch may have {self.batch_tokens}; raise batch_tokens or cut texts"
            )

    def __call__(self, epoch: int) -> "EpochOfTexts":
        """Returns the batches of one epoch; the same for the same seed and epoch."""
        random = np.random.default_rng((self.seed, epoch))
        order = random.permutation(len(self.texts))
        lengths = np.array([len(self.texts[index]) for index in order], np.int64)
        by_length = np.argsort(lengths, kind="stable")
        groups = within_budget(order[by_length], lengths[by_length], self.batch_tokens)
        return EpochOfTexts(self, [groups[index] for index in random.permutation(len(groups))])


@dataclass(frozen=True)
class EpochOfTexts:
    """The batches of one epoch; each is padded when its turn comes."""

    examples: TextBatches
    groups: Sequence[NDArray[np.int64]]

    def __len__(self) -> int:
        return len(self.groups)

    def __iter__(self) -> Iterator[Batch]:
        for group in self.groups:
            yield {
                "ids": pad_rows([self.examples.texts[index] for index in group]),
                "labels": np.array([self.examples.labels[index] for index in group], np.int32),
            }
