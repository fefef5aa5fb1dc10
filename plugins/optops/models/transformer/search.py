"""How a Transformer is searched when it serves: the beam, the length penalty and the limits on length."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from optops.models.transformer.config import TransformerConfig


@dataclass(frozen=True)
class SearchSettings:
    """Beam search over token ids; every runtime does the same.

    A hypothesis of `n` ids, the end id included, scores `log P / ((5 + n) / 6) ** length_penalty` (Wu et al. 2016,
    section 7). Padding and begin can not be written: their logits are left out of the softmax. In each step the
    best `2 * beam` continuations are taken; those among the first `beam` that end are finished, the best `beam`
    that do not end run on. A sentence is done when `beam` hypotheses have finished, when no running hypothesis can
    still beat the best finished one, or at its limit on length, where every hypothesis is made to end. A beam of 1
    is greedy search.

    Attributes:
        beam: Hypotheses that run at once.
        length_penalty: Exponent; 0 compares log-probabilities as they are, larger prefers longer output.
        max_length_factor: A sentence of `s` ids gets at most `max_length_factor * s + max_length_offset` ids.
        max_length_offset: See `max_length_factor`.
        max_length: Longest source that is taken and longest output that is given, in ids, the end id included.
    """

    beam: int = 4
    length_penalty: float = 0.6
    max_length_factor: float = 2.0
    max_length_offset: int = 10
    max_length: int = 256

    def __post_init__(self) -> None:
        bounds = {"beam": 1, "length_penalty": 0, "max_length_factor": 0, "max_length_offset": 0, "max_length": 1}
        for name, bound in bounds.items():
            if not getattr(self, name) >= bound:
                raise ValueError(f"serving: {name} is {getattr(self, name)}; it must be at least {bound}")

    @classmethod
    def from_mapping(cls, data: Mapping[str, Any]) -> "SearchSettings":
        """Reads settings; what is not named has its default.

        Raises:
            ValueError: If a name is unknown or a value out of range.
        """
        unknown = sorted(set(data) - set(cls.__dataclass_fields__))
        if unknown:
            raise ValueError(
                f"serving: {', '.join(unknown)} unknown; known are {', '.join(sorted(cls.__dataclass_fields__))}"
            )
        return cls(**data)

    def check_fits(self, config: TransformerConfig) -> None:
        """Refuses settings that a model can not serve.

        Raises:
            ValueError: If the limit on length exceeds the positions, or the beam is too wide for the vocabulary.
        """
        if self.max_length > config.max_positions:
            raise ValueError(
                f"serving: max_length is {self.max_length}, the model has {config.max_positions} positions; lower it"
            )
        if 2 * self.beam > config.outputs - 2:
            raise ValueError(
                f"serving: a beam of {self.beam} needs a vocabulary of at least {2 * self.beam + 2} ids, "
                f"the model has {config.outputs}; narrow the beam"
            )

    def limits(self, lengths: np.ndarray) -> np.ndarray:
        """Returns the most ids that each sentence may get, int64 [b], for source lengths [b]."""
        wanted = np.floor(self.max_length_factor * lengths.astype(np.float64) + self.max_length_offset)
        return np.clip(wanted, 1, self.max_length).astype(np.int64)

    def penalty(self, lengths: np.ndarray) -> np.ndarray:
        """Returns what a log-probability is divided by, float64 of the shape of `lengths`."""
        return np.asarray(((5.0 + lengths) / 6.0) ** self.length_penalty)

    def to_json(self) -> dict[str, Any]:
        """Returns the settings as plain data."""
        return asdict(self)
