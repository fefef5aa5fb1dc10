"""The shared library of compiled operators: found, loaded, its functions declared, its errors raised."""

import ctypes
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

LIBRARY = Path(__file__).with_name("liboptops_kernels.so")

# OPTOPS_INTERFACE of kernels.h, which what is declared here is written after.
INTERFACE = 1
INVALID = 1
KINDS = ("product", "encoder", "translator")


class KernelsUnavailableError(ImportError):
    """The compiled operators are not here, or can not be loaded; all else works without them."""


class KernelError(RuntimeError):
    """An operator could not do what it was asked to."""


def int32(name: str, value: int) -> int:
    """Returns a whole number that the library reads as one of 32 bits.

    Raises:
        ValueError: If the value called `name` does not fit.
    """
    if not -(2**31) <= value < 2**31:
        raise ValueError(f"{name} is {value}; it must be an integer of 32 bits")
    return value


class Status(ctypes.Structure):
    """`optops_status` of the C interface."""

    _fields_ = (("code", ctypes.c_int32), ("message", ctypes.c_char * 256))


class Config(ctypes.Structure):
    """A struct of the C interface; ctypes alone would cut whole numbers to 32 bits without a word.

    Raises:
        ValueError: If one does not fit.
    """

    def __init__(self, **values: Any) -> None:
        for name, kind, *_ in self._fields_:
            if kind is ctypes.c_int32:
                int32(name, values.get(name, 0))
        super().__init__(**values)


class EncoderConfig(Config):
    """`optops_encoder_config` of the C interface."""

    _fields_ = (
        ("width", ctypes.c_int32),
        ("head_size", ctypes.c_int32),
        ("layers", ctypes.c_int32),
        ("heads", ctypes.POINTER(ctypes.c_int32)),
        ("feed_forward", ctypes.POINTER(ctypes.c_int32)),
        ("norm_first", ctypes.c_int32),
        ("epsilon", ctypes.c_float),
        ("activation", ctypes.c_int32),
        ("precision", ctypes.c_int32),
        ("precisions", ctypes.POINTER(ctypes.c_int32)),
    )


class DecoderConfig(Config):
    """`optops_decoder_config` of the C interface."""

    _fields_ = (
        ("width", ctypes.c_int32),
        ("head_size", ctypes.c_int32),
        ("layers", ctypes.c_int32),
        ("self_heads", ctypes.POINTER(ctypes.c_int32)),
        ("cross_heads", ctypes.POINTER(ctypes.c_int32)),
        ("feed_forward", ctypes.POINTER(ctypes.c_int32)),
        ("norm_first", ctypes.c_int32),
        ("epsilon", ctypes.c_float),
        ("activation", ctypes.c_int32),
        ("outputs", ctypes.c_int32),
        ("precision", ctypes.c_int32),
        ("precisions", ctypes.POINTER(ctypes.c_int32)),
    )


class TranslatorConfig(Config):
    """`optops_translator_config` of the C interface."""

    _fields_ = (
        ("encoder", EncoderConfig),
        ("decoder", DecoderConfig),
        ("vocabulary", ctypes.c_int32),
        ("positions", ctypes.c_int32),
        ("padding", ctypes.c_int32),
        ("begin", ctypes.c_int32),
        ("end", ctypes.c_int32),
        ("shared_embedding", ctypes.c_int32),
    )


class Search(Config):
    """`optops_search` of the C interface."""

    _fields_ = (
        ("beam", ctypes.c_int32),
        ("results", ctypes.c_int32),
        ("minimum_length", ctypes.c_int32),
        ("length_penalty", ctypes.c_float),
        ("limits", ctypes.c_void_p),
        ("capacity", ctypes.c_int32),
    )


class AttentionConfig(Config):
    """`optops_attention_config` of the C interface."""

    _fields_ = (
        ("sentences", ctypes.c_int64),
        ("query_time", ctypes.c_int64),
        ("memory_time", ctypes.c_int64),
        ("heads", ctypes.c_int32),
        ("head_size", ctypes.c_int32),
        ("causal", ctypes.c_int32),
        ("scale", ctypes.c_float),
    )


Pointer, Size, Int = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32
Arrays, StatusPointer = ctypes.POINTER(Pointer), ctypes.POINTER(Status)
SearchPointer = ctypes.POINTER(Search)
FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "optops_interface": (Int, ()),
    "optops_isa": (ctypes.c_char_p, ()),
    "optops_isas": (ctypes.c_char_p, ()),
    "optops_threads": (Int, ()),
    "optops_set_threads": (None, (Int,)),
    "optops_bias_activation": (Int, (Pointer, Size, Size, Pointer, Int, Pointer, Int, StatusPointer)),
    "optops_residual_norm": (
        Int,
        (Pointer, Pointer, Size, Size, Pointer, Pointer, ctypes.c_float, Pointer, Int, StatusPointer),
    ),
    "optops_masked_softmax": (Int, (Pointer, Size, Size, Pointer, Pointer, Int, StatusPointer)),
    "optops_attention": (
        Int,
        (ctypes.POINTER(AttentionConfig), Pointer, Pointer, Pointer, Pointer, Pointer, Int, StatusPointer),
    ),
    "optops_product_pack": (Pointer, (Pointer, Pointer, Size, Size, Int, StatusPointer)),
    "optops_product_run": (Int, (Pointer, Pointer, Size, Int, Pointer, Pointer, Int, StatusPointer)),
    "optops_encoder_pack": (Pointer, (ctypes.POINTER(EncoderConfig), Arrays, Size, StatusPointer)),
    "optops_encoder_run": (Int, (Pointer, Pointer, Pointer, Size, Pointer, Int, StatusPointer)),
    "optops_translator_pack": (Pointer, (ctypes.POINTER(TranslatorConfig), Arrays, Size, StatusPointer)),
    "optops_translator_check": (Int, (Pointer, SearchPointer, Size, StatusPointer)),
    "optops_translator_encode": (Int, (Pointer, Pointer, Pointer, Size, Pointer, Int, StatusPointer)),
    "optops_translator_decode": (
        Int,
        (Pointer, Pointer, Pointer, Size, SearchPointer, Pointer, Pointer, Pointer, Int, StatusPointer),
    ),
    "optops_translator_run": (
        Int,
        (Pointer, Pointer, Pointer, Size, SearchPointer, Pointer, Pointer, Pointer, Int, StatusPointer),
    ),
    **{f"optops_{kind}_free": (None, (Pointer,)) for kind in KINDS},
    **{f"optops_{kind}_sizes": (None, (Pointer, Pointer)) for kind in KINDS},
    **{f"optops_{kind}_blob": (Pointer, (Pointer, ctypes.POINTER(Size))) for kind in KINDS},
    **{f"optops_{kind}_open": (Pointer, (Pointer, Size, StatusPointer)) for kind in KINDS},
}


@lru_cache(maxsize=1)
def library() -> Any:
    """Returns the loaded library.

    Raises:
        KernelsUnavailableError: If it was not built, or from other sources, or this machine can not load it.
    """
    if not LIBRARY.is_file():
        raise KernelsUnavailableError(
            f"{LIBRARY} is missing: this copy of optops was installed without its compiled operators; install it with "
            "`pip install .` or `uv sync` where there are g++ and cmake"
        )
    try:
        loaded = ctypes.CDLL(str(LIBRARY))
    except OSError as error:
        raise KernelsUnavailableError(f"{LIBRARY} can not be loaded: {error}; build it anew on this machine") from error
    try:
        for name, (result, arguments) in FUNCTIONS.items():
            function = getattr(loaded, name)
            function.restype, function.argtypes = result, arguments
        fits = loaded.optops_interface() == INTERFACE
    except AttributeError:
        fits = False
    if not fits:
        raise KernelsUnavailableError(
            f"{LIBRARY} was built from other sources than this copy of optops; install it anew with `pip install .` or "
            "`uv sync`"
        )
    return loaded


def call(function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls a function of the library whose last argument is a status, and returns its result.

    Raises:
        ValueError: If an argument is wrong.
        KernelError: If it could not be done for another reason.
    """
    status = Status()
    result = function(*arguments, ctypes.byref(status))
    if status.code:
        message = status.message.decode("utf-8", "replace")
        raise ValueError(message) if status.code == INVALID else KernelError(message)
    return result


def run(function: Callable[..., Any], *arguments: Any, threads: int) -> None:
    """Calls a function of the library whose last arguments are threads and a status; see `call`."""
    call(function, *arguments, int32("threads", threads))


def instruction_set() -> str:
    """Returns the instruction set in use, for example `avx512_vnni`; empty if OPTOPS_ISA names one that is not here."""
    return str(library().optops_isa().decode())


def instruction_sets() -> list[str]:
    """Returns the instruction sets that the library has and this processor can run, best first."""
    return str(library().optops_isas().decode()).split(",")


def threads() -> int:
    """Returns how many threads a call uses if it is not told; 0 if OPTOPS_THREADS is no number."""
    return int(library().optops_threads())


def set_threads(count: int) -> None:
    """Sets how many threads a call of this process uses if it is not told; 0 sets the default again."""
    library().optops_set_threads(int32("threads", count))
