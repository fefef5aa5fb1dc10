"""The sections of a recipe that are translation's own: data, model, thresholds. Light: read while Airflow parses."""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from optops.paths import resolve_path
from optops.recipe_section import NamedSection, Section
from optops.sections import Distill, Prune, StandardCheck, refuse_all_layers
from optops.workloads.splits import SPLIT_NAMES, Fractions, SplitData
from optops.workloads.yaml_words import require_words


def _require_word(value: Any) -> Any:
    # Norwegian is `no`.
    require_words([value], what="language")
    return value


Language = Annotated[str, BeforeValidator(_require_word), Field(pattern=r"^[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8})*$")]

CHECKS = {
    "empty_side": StandardCheck("critical", 0.002, "a side without text"),
    "undecodable": StandardCheck(
        "critical", 0.002, "bytes that are no UTF-8, replacement and control characters, mojibake such as `Ã¼`"
    ),
    "duplicate_pair": StandardCheck("critical", 0.05, "a pair again"),
    "conflicting_target": StandardCheck("warning", 0.05, "another translation of the same source"),
    "length_ratio": StandardCheck(
        "critical", 0.005, "a target much longer or shorter for its source than is usual in the corpus"
    ),
    "too_long": StandardCheck("critical", 0.002, "a side of more than `max_characters` or `max_words`"),
    "markup": StandardCheck("critical", 0.002, "HTML tags and character references"),
    "wrong_script": StandardCheck("critical", 0.002, "a side in another script than its language's"),
    "spacing": StandardCheck("warning", 0.02, "spaces that are doubled, unusual, or at an end"),
    "overlap": StandardCheck("critical", 0.05, "a source that is also in another split, each split by its own share"),
    "identical_sides": StandardCheck(
        "warning", 0.005, "a target of `identical_min_words` or more that repeats its source"
    ),
}


STARTING_VALUES = {
    "data.source_language": "en",
    "data.target_language": "de",
    "data.folder": "../../data/{name}",
    "data.train": {"source": "train.en", "target": "train.de"},
    "data.validation": {"source": "validation.en", "target": "validation.de"},
    "data.test": {"source": "test.en", "target": "test.de"},
}
"""What a new recipe says of its data, to be changed."""


class TextPair(NamedSection):
    """Two files whose lines belong together, or one file of `source<TAB>target` lines."""

    main_key: ClassVar[str] = "source"

    source: str = Field(description="File with one sentence a line; may be gzipped. Or the tab-separated file.")
    target: str | None = Field(None, description="File with the translations, line by line; absent for a TSV file.")
    swap: bool = Field(False, description="The tab-separated file has the target first.")

    @model_validator(mode="after")
    def _swap_needs_tabs(self) -> Self:
        if self.swap and self.target is not None:
            raise ValueError("swap is for one tab-separated file; exchange `source` and `target` instead")
        return self


class TranslationData(SplitData):
    """Parallel text: a pair of files for each split, or a corpus from which those without files are split by seed."""

    source_language: Language = Field(description="The source's tag (BCP 47), for example `en`, `zh-TW` or `uz-Cyrl`.")
    target_language: Language = Field(description="The target's tag, likewise, for example `de`.")
    folder: str = Field(".", description="Folder that the files are in; relative to the recipe.")
    train: TextPair | None = Field(None, description="The training split.")
    validation: TextPair | None = Field(None, description="The validation split, for every choice.")
    test: TextPair | None = Field(None, description="The test split, for the gate alone.")
    corpus: TextPair | None = Field(
        None, description="What the splits that have no files of their own are made of, by `fractions`."
    )
    fractions: Fractions = Field(
        default_factory=lambda: Fractions(),
        description="How `corpus` is split; what occurs twice, on either side, stays in one split.",
    )

    bleu_tokenizer: Literal["13a", "intl", "zh", "char", "none"] | None = Field(
        None,
        description="sacrebleu's tokenizer for BLEU; what suits the target language if not given. `none` for text that "
        "is tokenised already.",
    )

    def pairs(self) -> dict[str, TextPair]:
        """Returns the pairs of files by split (or `corpus`), with absolute paths."""
        folder = Path(self.folder)
        pairs: dict[str, TextPair] = {}
        for name in (*SPLIT_NAMES, "corpus"):
            pair: TextPair | None = getattr(self, name)
            if pair is not None:
                target = None if pair.target is None else str(resolve_path(pair.target, folder))
                source = str(resolve_path(pair.source, folder))
                pairs[name] = TextPair(source=source, target=target, swap=pair.swap)
        return pairs


class BeamSearch(Section):
    """How the model translates."""

    beam: int = Field(4, ge=1, le=64, description="Hypotheses kept at each step; 1 is greedy.")
    length_penalty: float = Field(0.6, ge=0, le=5, description="Exponent of the length normalisation (GNMT).")
    max_length: int = Field(128, ge=2, le=4096, description="Longest input and output, in tokens.")


class TranslationModel(Section):
    """A Transformer with these sizes, or a model to import (`saved_model` or `keras`, with its `tokenizer`)."""

    vocabulary: int = Field(8000, ge=64, le=256_000, description="Joint vocabulary (sentencepiece BPE).")
    width: int = Field(256, ge=16, le=8192, multiple_of=8, description="Width of embeddings and layers.")
    heads: int = Field(4, ge=1, le=128, description="Attention heads; must divide the width.")
    feed_forward: int = Field(1024, ge=16, multiple_of=8, description="Units of each feed-forward layer.")
    encoder_layers: int = Field(6, ge=1, le=64, description="Layers of the encoder.")
    decoder_layers: int = Field(6, ge=1, le=64, description="Layers of the decoder.")
    dropout: float = Field(0.1, ge=0, lt=1, description="Dropout while training.")
    serving: BeamSearch = Field(default_factory=lambda: BeamSearch(), description="How the model translates.")
    saved_model: str | None = Field(
        None, description="Import a TensorFlow SavedModel: `ids` int32 [batch, length] in, `ids` out."
    )
    keras: str | None = Field(None, description="Import a .keras file that maps ids [batch, length] to ids.")
    tokenizer: str | None = Field(None, description="The sentencepiece model that an imported model was trained with.")

    @field_validator("saved_model", "keras", "tokenizer", mode="after")
    @classmethod
    def _resolve(cls, value: str | None, info: ValidationInfo) -> str | None:
        return None if value is None else str(resolve_path(value, (info.context or {}).get("folder")))

    @model_validator(mode="after")
    def _is_one_thing(self) -> Self:
        if self.width % self.heads:
            raise ValueError(
                f"width {self.width} is not divisible by heads {self.heads}; choose another number of heads"
            )
        if 2 * self.serving.beam + 2 > self.vocabulary:
            raise ValueError(
                f"a beam of {self.serving.beam} needs a vocabulary of at least {2 * self.serving.beam + 2}, and it is "
                f"{self.vocabulary}; narrow `serving.beam`"
            )
        imports = [name for name in ("saved_model", "keras") if getattr(self, name) is not None]
        if len(imports) > 1:
            raise ValueError("`saved_model` and `keras` both name a model to import; keep one")
        if imports and self.tokenizer is None:
            raise ValueError(f"`{imports[0]}` needs `tokenizer`: the sentencepiece model it was trained with")
        if self.tokenizer is not None and not imports:
            raise ValueError("`tokenizer` belongs to an imported model; a trained one gets its own")
        chosen = [
            name
            for name, field in type(self).model_fields.items()
            if name not in (*imports, "tokenizer")
            and getattr(self, name) != field.get_default(call_default_factory=True)
        ]
        if imports and chosen:
            raise ValueError(f"{', '.join(chosen)} can not be chosen for an imported model; remove them")
        return self


class Thresholds(Section):
    """What the label checks call too long, too different and so on."""

    max_characters: int = Field(1000, ge=1, description="Longest side, in characters.")
    max_words: int = Field(200, ge=1, description="Longest side, in words between white space.")
    length_deviations: float = Field(
        5.5, gt=0, description="A length ratio beyond this many spreads from the corpus' median is an outlier."
    )
    length_spread_floor: float = Field(0.2, gt=0, description="Least spread of log(target length / source length).")
    length_min_characters: int = Field(30, ge=1, description="Pairs shorter than this are not judged by their ratio.")
    identical_min_words: int = Field(4, ge=1, description="From how many words on a copied source is a defect.")


class TranslationDistill(Distill):
    """How a student is made from the trained model."""

    student_sizes: ClassVar[tuple[str, ...]] = (
        "width",
        "heads",
        "feed_forward",
        "encoder_layers",
        "decoder_layers",
        "dropout",
    )

    student: dict[str, Any] = Field(
        default_factory=lambda: {"decoder_layers": 1},
        description="Sizes of the student that differ from the model's, for example `decoder_layers: 1`.",
    )

    @classmethod
    def has_default(cls, model: TranslationModel) -> bool:
        """Returns whether a model has decoder layers to spare."""
        return model.decoder_layers > 1

    @model_validator(mode="after")
    def _is_smaller_than_the_model(self, info: ValidationInfo) -> Self:
        model = (info.context or {}).get("model")
        described = "student" in self.model_fields_set
        if isinstance(model, TranslationModel) and not described and not self.has_default(model):
            raise ValueError(
                "the model has one decoder layer, which its student would have too; name other sizes in `student`, or "
                "write `off`"
            )
        return self

    @model_validator(mode="after")
    def _starts_from_layers_that_there_are(self, info: ValidationInfo) -> Self:
        model = (info.context or {}).get("model")
        if not isinstance(model, TranslationModel) or not self.initialize:
            return self
        theirs = model.model_dump()
        sizes = {**theirs, **self.student}
        if any(sizes[name] != theirs[name] for name in ("width", "heads")):
            return self  # a student of another width starts afresh
        parts = {
            "encoder_layers": "encoder layers",
            "decoder_layers": "decoder layers",
            "feed_forward": "feed_forward units",
        }
        self.refuse_larger((name, sizes[size], theirs[size]) for size, name in parts.items())
        return self


class TranslationPrune(Prune):
    """How pruning makes Transformers smaller; each learns from what it was before."""

    structured_only: ClassVar[tuple[str, ...]] = (
        "encoder_layers",
        "decoder_layers",
        "outputs",
        "heads",
        *Prune.structured_only,
    )

    encoder_layers: int = Field(0, ge=0, description="Encoder layers to leave out first, those that are missed least.")
    decoder_layers: int = Field(0, ge=0, description="Decoder layers to leave out first, those that are missed least.")
    outputs: bool = Field(True, description="Take words that occur in no training target out of the output layer.")
    heads: bool = Field(True, description="Remove attention heads too, not only feed-forward units.")

    @field_validator("encoder_layers", "decoder_layers")
    @classmethod
    def _leaves_a_layer(cls, value: int, info: ValidationInfo) -> int:
        model = (info.context or {}).get("model")
        return refuse_all_layers(value, getattr(model, str(info.field_name), None))
