"""Which MetaGraph of a SavedModel is served: those of TensorFlow 1 may have several, for training or other devices."""

from pathlib import Path
from typing import Any

PROTO = "saved_model.pb"
SERVED: tuple[set[str], ...] = ({"serve"}, set())
"""Tags of what is served, the first that there is; TensorFlow Hub's modules have none."""


def read_served(saved_model: Path) -> Any:
    """Returns the message in `saved_model.pb` with the MetaGraph that is served alone; the only one, whatever its tags.

    Raises:
        ValueError: If it can not be parsed, or there are several MetaGraphs and none has the tags of `SERVED`.
    """
    proto = _read(saved_model)
    tags = [set(meta_graph.meta_info_def.tags) for meta_graph in proto.meta_graphs]
    if len(tags) > 1:
        place = next((tags.index(wanted) for wanted in SERVED if wanted in tags), None)
        if place is None:
            have = ", ".join("{" + ", ".join(sorted(each)) + "}" for each in tags)
            raise ValueError(
                f"{saved_model} has {len(tags)} MetaGraphs, tagged {have}: none is tagged {{serve}} alone or not at "
                "all; export the one that is to be served by itself"
            )
        del proto.meta_graphs[place + 1 :]
        del proto.meta_graphs[:place]
    return proto


def keep_served(saved_model: Path) -> None:
    """Removes all MetaGraphs but the one that is served from a SavedModel's folder.

    Raises:
        ValueError: As `read_served` does.
    """
    if len(_read(saved_model).meta_graphs) > 1:
        (saved_model / PROTO).write_bytes(read_served(saved_model).SerializeToString())


def _read(saved_model: Path) -> Any:
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    try:
        return SavedModel.FromString((saved_model / PROTO).read_bytes())
    except DecodeError as error:
        raise ValueError(f"{saved_model / PROTO} is no SavedModel: {error}") from error
