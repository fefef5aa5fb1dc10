"""The sections of a recipe that are text classification's own. Light: read while Airflow parses."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self
from unicodedata import normalize

from pydantic import Field, ValidationInfo, field_validator, model_validator

from optops.paths import resolve_path
from optops.recipe_section import Section
from optops.sections import Distill, Prune, StandardCheck, Train, refuse_all_layers
from optops.workloads.splits import Fractions, SplitData
from optops.workloads.yaml_words import require_words

CHECKS = {
    "malformed": StandardCheck(
        "critical", 0.002, "a record with too few or too many fields, no JSON, a quote that is never closed"
    ),
    "empty_text": StandardCheck("critical", 0.002, "nothing but white space and invisible characters"),
    "undecodable": StandardCheck(
        "critical", 0.002, "bytes that are no UTF-8, replacement and control characters, mojibake such as `Ã¼`"
    ),
    "unknown_class": StandardCheck("critical", 0.002, "a label that is not among `classes`"),
    "too_short": StandardCheck("warning", 0.01, "fewer than `min_characters`"),
    "too_long": StandardCheck("critical", 0.01, "more than `max_characters`"),
    "duplicate": StandardCheck("critical", 0.05, "the same text with the same label again"),
    "conflicting_class": StandardCheck("critical", 0.01, "the same text with another label"),
    "overlap": StandardCheck("critical", 0.05, "a text that is also in another split, each split by its own share"),
    "markup": StandardCheck("critical", 0.01, "HTML tags and character references"),
    "class_balance": StandardCheck("warning", 0.0, "a class with less than `min_class_share` of a split, or none"),
}

STARTING_VALUES = {
    "data.folder": "../../data/{name}",
    "data.train": "train.csv",
    "data.validation": "validation.csv",
    "data.test": "test.csv",
    "data.classes": {"0": "negative", "1": "positive"},
}
"""What a new recipe says of its data, to be changed."""

Format = Literal["csv", "tsv", "jsonl"]
Column = Annotated[int, Field(ge=1)] | str


class TextData(SplitData):
    """Labelled texts: a file for each split, or a corpus from which those without files are split by seed."""

    folder: str = Field(".", description="Folder that the files are in; relative to the recipe.")
    train: str | None = Field(None, description="File of the training split; may be gzipped.")
    validation: str | None = Field(None, description="File of the validation split, for every choice.")
    test: str | None = Field(None, description="File of the test split, for the gate alone.")
    corpus: str | None = Field(
        None, description="What the splits that have no file of their own are made of, by `fractions`."
    )
    fractions: Fractions = Field(
        default_factory=lambda: Fractions(), description="How `corpus` is split; equal texts stay in one split."
    )
    format: Format | None = Field(
        None,
        description="`csv` (with quotes), `tsv` (tabs, quotes are text) or `jsonl` (an object a line); by the files' "
        "names if not given.",
    )
    text: Column = Field(
        "text", description="Column of the text: its name in the header, or its number from 1 if there is no header."
    )
    label: Column = Field("label", description="Column of the label, likewise.")
    classes: dict[str, str] = Field(
        description="All labels, and what the served model calls them; a list where both are the same."
    )

    @field_validator("classes", mode="before", json_schema_input_type=dict[str, str] | list[str])
    @classmethod
    def _accept_a_list(cls, value: Any) -> Any:
        words = [*value, *value.values()] if isinstance(value, dict) else value
        require_words(words if isinstance(words, list | tuple) else ())
        if not isinstance(value, dict | list | tuple):
            return value
        named = value.items() if isinstance(value, dict) else [(name, name) for name in value]
        # YAML reads a bare 0 as a number; labels are text, without white space around them as where they are read.
        # As labels are read: with their accents in one character.
        classes = {normalize("NFC", str(label)).strip(): str(name).strip() for label, name in named}
        if len(classes) < len(value):
            raise ValueError(f"classes {list(value)} name one label twice; write each once")
        return classes

    @field_validator("classes")
    @classmethod
    def _are_a_choice(cls, value: dict[str, str]) -> dict[str, str]:
        if len(value) < 2:
            raise ValueError(f"classes {list(value)} leave no choice; write at least two")
        if len(set(value.values())) < len(value):
            raise ValueError(f"classes {list(value.values())} call two labels the same; give each a name of its own")
        return value

    @model_validator(mode="after")
    def _columns_are_named_or_numbered(self) -> Self:
        numbered = [isinstance(column, int) for column in (self.text, self.label)]
        if numbered[0] != numbered[1]:
            raise ValueError(
                f"text is {self.text!r} and label is {self.label!r}; write the names of both columns, or for files "
                "without a header the numbers of both"
            )
        if self.text == self.label:
            raise ValueError(f"text and label are both column {self.text!r}; they must be two columns")
        return self

    @model_validator(mode="after")
    def _json_has_names(self) -> Self:
        for name, file in self.files().items():
            kind = self.format_of(file)
            if kind == "jsonl" and isinstance(self.text, int):
                raise ValueError(f"{name} is JSON, whose fields have names; text is {self.text}, write its name")
        return self

    def files(self) -> dict[str, Path]:
        """Returns the files by split (or `corpus`), with absolute paths."""
        return {name: resolve_path(file, Path(self.folder)) for name, file in self.given().items()}

    def format_of(self, file: Path) -> Format:
        """Returns the format of a file.

        Raises:
            ValueError: If neither its name nor the recipe tells.
        """
        if self.format is not None:
            return self.format
        name = file.name.removesuffix(".gz")
        for ending, kind in _ENDINGS.items():
            if name.endswith(ending):
                return kind
        raise ValueError(f"{file.name}: the name does not tell the format; write `format: csv`, `tsv` or `jsonl`")


_ENDINGS: dict[str, Format] = {".csv": "csv", ".tsv": "tsv", ".txt": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl"}


class Pretrain(Section):
    """Masked-language-model training on the recipe's own training texts, before they are classified."""

    epochs: int = Field(0, ge=0, description="Passes over the training texts; 0 for none.")
    share: float = Field(0.15, gt=0, lt=1, description="Share of the tokens that are to be guessed.")
    batch_tokens: int = Field(4096, ge=16, description="Size of a batch in tokens.")
    learning_rate: float = Field(1e-3, gt=0, description="Peak of the learning rate.")
    warmup_steps: int = Field(200, ge=0, description="Steps to the learning rate's peak, at most a quarter of all.")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="Of products while training.")

    def train(self) -> Train:
        """Returns the settings of this training; a cosine, for the number of epochs is fixed."""
        return Train(
            epochs=self.epochs,
            batch_tokens=self.batch_tokens,
            learning_rate=self.learning_rate,
            warmup_steps=self.warmup_steps,
            precision=self.precision,
            schedule="cosine",
            label_smoothing=0.0,
            average_checkpoints=1,
        )


class TextModel(Section):
    """A BERT or, with fewer `groups` than layers and an `embedding_width`, an ALBERT of these sizes."""

    tokenization: Literal["wordpiece", "sentencepiece"] = Field(
        "wordpiece", description="How text is cut: as BERT does it, Chinese into characters, or as ALBERT does it."
    )
    lowercase: bool = Field(True, description="Fold case and accents before text is cut.")
    vocabulary: int = Field(8000, ge=64, le=256_000, description="Most tokens of the vocabulary that is learnt.")
    vocabulary_file: str | None = Field(
        None, description="A given vocabulary instead: BERT's vocab.txt, or ALBERT's sentencepiece model."
    )
    max_length: int = Field(128, ge=4, le=4096, description="Longest text in tokens; what is beyond is cut off.")
    width: int = Field(256, ge=16, le=8192, multiple_of=8, description="Width of the layers.")
    heads: int = Field(4, ge=1, le=128, description="Attention heads; must divide the width.")
    feed_forward: int = Field(1024, ge=16, multiple_of=8, description="Units of each feed-forward layer.")
    layers: int = Field(4, ge=1, le=96, description="Layers that a text goes through.")
    groups: int | None = Field(
        None, ge=1, description="How many of them have weights of their own; all if absent, 1 as in ALBERT."
    )
    embedding_width: int | None = Field(
        None, ge=8, multiple_of=8, description="Width of the embeddings, if they are projected to `width` (ALBERT)."
    )
    dropout: float = Field(0.1, ge=0, lt=1, description="Dropout while training.")
    activation: Literal["gelu", "gelu_tanh", "relu"] = Field(
        "gelu_tanh",
        description="Of the hidden units: GELU, exact or approximated as in the original code, or ReLU as in the "
        "Chinese ALBERTs.",
    )
    pooling: Literal["first", "mean"] = Field(
        "first", description="What is classified: the first token's state, or the mean over all tokens."
    )
    checkpoint: str | None = Field(
        None, description="Prefix of a published TensorFlow checkpoint of BERT or ALBERT to start from."
    )
    pretrain: Pretrain = Field(
        default_factory=lambda: Pretrain(), description="What is learnt from the texts alone, first."
    )

    @field_validator("checkpoint", "vocabulary_file", mode="after")
    @classmethod
    def _resolve(cls, value: str | None, info: ValidationInfo) -> str | None:
        return None if value is None else str(resolve_path(value, (info.context or {}).get("folder")))

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        if self.width % self.heads:
            raise ValueError(
                f"width {self.width} is not divisible by heads {self.heads}; choose another number of heads"
            )
        if self.groups is not None and self.layers % self.groups:
            raise ValueError(f"layers {self.layers} is not divisible by groups {self.groups}; choose a divisor")
        if self.checkpoint is not None and self.vocabulary_file is None:
            raise ValueError("`checkpoint` needs `vocabulary_file`: the vocabulary it was trained with")
        unsaid = [name for name in ("heads", "layers") if name not in self.model_fields_set]
        if self.checkpoint is not None and unsaid:
            raise ValueError(
                f"`checkpoint` needs {' and '.join(f'`{name}`' for name in unsaid)}, as it was trained: its variables "
                "do not always tell"
            )
        return self


class Thresholds(Section):
    """What the label checks call too short, too long or too rare."""

    min_characters: int = Field(2, ge=1, description="Shortest text, in characters that are no white space.")
    max_characters: int = Field(5000, ge=1, description="Longest text, in characters.")
    min_class_share: float = Field(
        0.05,
        ge=0,
        lt=1,
        description="Least share of a split that a class should have; of many classes half of an equal share.",
    )


class TextDistill(Distill):
    """How a student is made from the trained model."""

    student_sizes: ClassVar[tuple[str, ...]] = (
        "width",
        "heads",
        "feed_forward",
        "layers",
        "groups",
        "embedding_width",
        "dropout",
    )

    labels: Literal["given"] = Field(
        "given", description="It learns from the given labels and, weighted by `alpha`, from what the teacher predicts."
    )
    student: dict[str, Any] = Field(
        default_factory=dict,
        description="Sizes of the student that differ from the model's, for example `layers: 2`; half of its layers if "
        "not given.",
    )

    @classmethod
    def has_default(cls, model: TextModel) -> bool:
        """Returns whether a model has layers to halve."""
        return model.layers > 1

    @model_validator(mode="before")
    @classmethod
    def _has_half_of_the_layers(cls, value: Any, info: ValidationInfo) -> Any:
        model = (info.context or {}).get("model")
        if isinstance(model, TextModel) and isinstance(value, dict) and "student" not in value:
            return {**value, "student": _half_of_the_layers(model)}
        return value

    @model_validator(mode="after")
    def _starts_from_layers_that_there_are(self, info: ValidationInfo) -> Self:
        model = (info.context or {}).get("model")
        if not isinstance(model, TextModel) or not self.initialize:
            return self
        theirs = model.model_dump()
        sizes = {**theirs, **self.student}
        if any(sizes[name] != theirs[name] for name in ("width", "heads", "embedding_width")):
            return self  # a student of another width starts afresh
        self.refuse_larger(
            (
                ("layers with weights of their own", _own_layers(sizes), _own_layers(theirs)),
                ("feed_forward units", sizes["feed_forward"], theirs["feed_forward"]),
            )
        )
        return self


def _own_layers(sizes: Mapping[str, Any]) -> Any:
    return sizes["groups"] or sizes["layers"]


def _half_of_the_layers(model: TextModel) -> dict[str, Any]:
    """Returns the sizes of a student in which half of the layers run; shared ones half as often."""
    if model.layers == 1:
        raise ValueError(
            "the model has one layer, which can not be halved; name other sizes in `student`, or write `off`"
        )
    own = _own_layers(model.model_dump())
    if own < model.layers:
        return {"layers": own * max(1, model.layers // own // 2)}
    half = {"layers": model.layers // 2}
    return half if model.groups is None else {**half, "groups": half["layers"]}


class TextPrune(Prune):
    """How pruning makes encoders smaller; each learns from what it was before."""

    structured_only: ClassVar[tuple[str, ...]] = ("layers", "heads", *Prune.structured_only)

    labels: Literal["given"] = Field(
        "given",
        description="A pruned model learns from the given labels and, weighted by `alpha`, from what it was before.",
    )
    layers: int = Field(
        0, ge=0, description="Layers to leave out first, those that are missed least; of shared ones, repetitions."
    )
    heads: bool = Field(True, description="Remove attention heads too, not only feed-forward units.")

    @field_validator("layers")
    @classmethod
    def _leaves_a_layer(cls, value: int, info: ValidationInfo) -> int:
        return refuse_all_layers(value, getattr((info.context or {}).get("model"), "layers", None))
