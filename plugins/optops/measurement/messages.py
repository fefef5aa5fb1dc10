"""Length-prefixed JSON messages over a pipe, between the process that times and its workers."""

import json
import os
from typing import Any

HEADER_BYTES = 4
MAXIMUM_BYTES = 64 * 2**20


def send(descriptor: int, message: dict[str, Any]) -> None:
    """Writes one message.

    Args:
        descriptor: writable file descriptor of a pipe.
        message: JSON-compatible content.

    Raises:
        BrokenPipeError: the other side is gone.
    """
    payload = json.dumps(message).encode()
    remaining = memoryview(len(payload).to_bytes(HEADER_BYTES, "big") + payload)
    while remaining:
        remaining = remaining[os.write(descriptor, remaining) :]


def receive(descriptor: int) -> dict[str, Any] | None:
    """Reads one message; blocks until it is there.

    Args:
        descriptor: readable file descriptor of a pipe.

    Returns:
        The message, or None where the other side closed the pipe.

    Raises:
        ValueError: the bytes are no message.
    """
    header = _read_exactly(descriptor, HEADER_BYTES)
    if header is None:
        return None
    size = int.from_bytes(header, "big")
    if size > MAXIMUM_BYTES:
        raise ValueError(f"a message of {size} bytes was announced, {MAXIMUM_BYTES} are allowed: the pipe is corrupt")
    payload = _read_exactly(descriptor, size)
    if payload is None:
        return None
    message = json.loads(payload)
    if not isinstance(message, dict):
        raise ValueError(f"a message must be a JSON object, got {type(message).__name__}")
    return message


def _read_exactly(descriptor: int, count: int) -> bytes | None:
    chunks = bytearray()
    while len(chunks) < count:
        chunk = os.read(descriptor, count - len(chunks))
        if not chunk:
            return None
        chunks += chunk
    return bytes(chunks)
