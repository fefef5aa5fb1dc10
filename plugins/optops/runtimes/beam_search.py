"""Beam search on the host: what is decided between two decoder steps, on arrays of a few numbers."""

from typing import Any, NamedTuple, Protocol

import numpy as np

from optops.models.token_ids import BEGIN, END, PADDING
from optops.models.transformer.search import SearchSettings

# Dropping finished sentences copies the caches of the others once; it pays when enough are finished.
DROP_SHARE = 0.125


class Continuations(NamedTuple):
    """What a decoder step returns.

    Attributes:
        scores: float32 [sentences, 2 * beam], summed log-probabilities, best first.
        tokens: int64 [sentences, 2 * beam], the id that each continuation appends.
        origins: int64 [sentences, 2 * beam], the hypothesis that each one continues.
        end_scores: float32 [sentences, beam], scores if each hypothesis ended now.
    """

    scores: np.ndarray
    tokens: np.ndarray
    origins: np.ndarray
    end_scores: np.ndarray


class Decoder(Protocol):
    """A decoder that holds the caches of a batch of sentences."""

    def step(self, tokens: np.ndarray, parents: np.ndarray, alive: np.ndarray, position: int) -> Continuations:
        """Appends `tokens` int32 [sentences, beam] to the hypotheses `parents` int64, whose scores become `alive`."""

    def select(self, rows: np.ndarray) -> None:
        """Keeps the sentences `rows` int64 [kept] and drops the others."""


def beam_search(decoder: Decoder, lengths: np.ndarray, settings: SearchSettings) -> tuple[np.ndarray, np.ndarray]:
    """Returns ids int32 [b, out] and scores float32 [b]; see `SearchSettings` for the rules.

    Args:
        decoder: Holds the encoded sentences.
        lengths: Number of ids of each source sentence, int [b].
        settings: Beam, length penalty, limits.
    """
    state = _State(lengths, settings)
    state.search(decoder)
    longest = int((state.best_ids != PADDING).sum(axis=1).max())
    return state.best_ids[:, :longest], state.best_scores


class Hypothesis(NamedTuple):
    """A finished translation: its ids, the end id included, and its score as `SearchSettings` defines it."""

    ids: tuple[int, ...]
    score: float


def n_best(decoder: Decoder, lengths: np.ndarray, settings: SearchSettings) -> list[list[Hypothesis]]:
    """Returns all hypotheses that the search finished for each sentence, best first.

    The search goes on until `beam` hypotheses have finished, also where the best one can no longer be beaten; so the
    first of each is at least as good as what `beam_search` gives, and there are one to about two times `beam`.

    Args:
        decoder: Holds the encoded sentences.
        lengths: Number of ids of each source sentence, int [b].
        settings: Beam, length penalty, limits.
    """
    state = _AllFinished(lengths, settings)
    state.search(decoder)
    return [sorted(hypotheses, key=lambda one: -one.score) for hypotheses in state.hypotheses]


class _State:
    def __init__(self, lengths: np.ndarray, settings: SearchSettings) -> None:
        batch, beam = len(lengths), settings.beam
        self.settings = settings
        self.limits = settings.limits(lengths)
        self.reachable = settings.penalty(self.limits).astype(np.float32)
        self.best_ids = np.full([batch, int(self.limits.max())], PADDING, np.int32)
        self.best_scores = np.full(batch, -np.inf, np.float32)
        # The rows of the decoder's caches: sentences that are still searched, and some that are done.
        self.sentences = np.arange(batch)
        self.done = np.zeros(batch, bool)
        self.finished = np.zeros(batch, np.int64)
        self.position = 0
        self.tokens = np.full([batch, beam], BEGIN, np.int32)
        self.parents = np.zeros([batch, beam], np.int64)
        self.alive = np.full([batch, beam], -np.inf, np.float32)
        self.alive[:, 0] = 0
        self.written = np.zeros([batch, beam, int(self.limits.max())], np.int32)

    def search(self, decoder: Decoder) -> None:
        """Searches until all sentences are done."""
        while self.sentences.size:
            self.take(decoder.step(self.tokens, self.parents, self.alive, self.position))
            self.drop_finished(decoder)

    def take(self, found: Continuations) -> None:
        """Finishes hypotheses that end, and lets the best of the others run on."""
        beam, length = self.settings.beam, self.position + 1
        last = length >= self.limits
        ends = found.tokens == END
        finishing = ends[:, :beam]
        if finishing.any() or last.any():
            self._finish(found, finishing, last, length)
        # A stable sort of the flags brings those that run on to the front, in their order.
        running = np.argsort(ends, axis=1, kind="stable")[:, :beam]
        rows = np.arange(len(running))[:, None]
        self.alive = found.scores[rows, running]
        self.tokens = found.tokens[rows, running].astype(np.int32)
        self.parents = found.origins[rows, running]
        self.written = self.written[rows, self.parents]
        self.written[:, :, self.position] = self.tokens
        self.finished += finishing.sum(axis=1)
        self.done |= last | (self.finished >= beam) | self._is_beaten()
        self.position = length

    def _is_beaten(self) -> np.ndarray:
        beaten: np.ndarray = self.alive[:, 0] / self.reachable <= self.best_scores[self.sentences]
        return beaten

    def _finish(self, found: Continuations, finishing: np.ndarray, last: np.ndarray, length: int) -> None:
        ending = np.where(finishing, found.scores[:, : self.settings.beam], -np.inf)
        scores = np.where(last[:, None], found.end_scores, ending) / np.float32(self.settings.penalty(np.array(length)))
        ranks = scores.argmax(axis=1)
        rows = np.arange(len(ranks))
        score = scores[rows, ranks]
        better = (score > self.best_scores[self.sentences]) & ~self.done
        parents = np.where(last, ranks, found.origins[rows, ranks])
        chosen = self.sentences[better]
        self.best_scores[chosen] = score[better]
        self.best_ids[chosen] = PADDING
        self.best_ids[chosen, : self.position] = self.written[rows, parents][better][:, : self.position]
        self.best_ids[chosen, self.position] = END

    def drop_finished(self, decoder: Decoder) -> None:
        """Takes sentences that are done out of the batch, when there are enough of them to pay for it."""
        count = int(self.done.sum())
        if count == self.done.size:
            self.sentences = self.sentences[:0]
        elif count > DROP_SHARE * self.done.size:
            rows = np.flatnonzero(~self.done)
            decoder.select(rows)
            for name in ROWS:
                setattr(self, name, getattr(self, name)[rows])


class _AllFinished(_State):
    def __init__(self, lengths: np.ndarray, settings: SearchSettings) -> None:
        super().__init__(lengths, settings)
        self.hypotheses: list[list[Hypothesis]] = [[] for _ in lengths]

    def _finish(self, found: Continuations, finishing: np.ndarray, last: np.ndarray, length: int) -> None:
        beam = self.settings.beam
        ending = np.where(finishing, found.scores[:, :beam], -np.inf)
        scores = np.where(last[:, None], found.end_scores, ending) / self.settings.penalty(np.array(length))
        for row, rank in np.argwhere(np.isfinite(scores) & ~self.done[:, None]):
            parent = rank if last[row] else found.origins[row, rank]
            ids = (*self.written[row, parent, : self.position].tolist(), END)
            self.hypotheses[self.sentences[row]].append(Hypothesis(ids, float(scores[row, rank])))

    def _is_beaten(self) -> np.ndarray:
        return np.zeros(len(self.done), bool)


ROWS = ("limits", "reachable", "sentences", "done", "finished", "tokens", "parents", "alive", "written")


def source_lengths(ids: np.ndarray) -> Any:
    """Returns the number of ids in each row that are not padding, int64 [b]."""
    return (ids != PADDING).sum(axis=1)
