"""What a section of a recipe is, and what may stand in its place. Light enough to be read while Airflow parses."""

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

if TYPE_CHECKING:
    from pydantic import GetJsonSchemaHandler
    from pydantic_core import CoreSchema

OFF: Literal["off"] = "off"
ON: Literal["on"] = "on"


def read_switch(value: Any) -> Any:
    """Returns `off`, or the section that stands there, whatever YAML made of the word."""
    # YAML 1.1 reads a bare `off` as False and `on` as True.
    if value is False or value == OFF:
        return OFF
    return {} if value is True or value is None or value == ON else value


def switch(section: type[BaseModel]) -> BeforeValidator:
    """Returns what lets `off` and `on`, however YAML reads them, stand in place of a section, in JSON schemas too."""
    return BeforeValidator(read_switch, json_schema_input_type=section | Literal["off", "on"] | bool | None)


Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,99}$")]
Share = Annotated[float, Field(ge=0, le=1)]

NAMES_CODE = "names code"
"""Marks a field, `Annotated[str, NAMES_CODE]`, in which no run can name code to call (`package.module:function`)."""


class Section(BaseModel):
    """A part of the recipe: unknown keys are refused, values never change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


class NamedSection(Section):
    """A section that its main key may stand for, in JSON schemas too: `train: a.tsv` is `train: {source: a.tsv}`."""

    main_key: ClassVar[str]

    @model_validator(mode="before")
    @classmethod
    def _accept_the_main_key_alone(cls, value: Any) -> Any:
        return {cls.main_key: value} if isinstance(value, str) else value

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: "CoreSchema", handler: "GetJsonSchemaHandler") -> dict[str, Any]:
        """Returns what text, or the section, conforms to."""
        return or_else(handler.resolve_ref_schema(handler(core_schema)), {"type": "string"})


def or_else(section: dict[str, Any], *written: dict[str, Any]) -> dict[str, Any]:
    """Returns a JSON schema of a section and of what else may be written in its place."""
    return {"description": section.pop("description", ""), "anyOf": [*written, section]}
