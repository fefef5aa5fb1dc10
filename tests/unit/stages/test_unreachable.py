"""Which errors of the stores a retry may help against, and which errors need no traceback."""

import sqlite3

import pytest
import requests
from mlflow import MlflowException
from sqlalchemy.exc import OperationalError

from optops.stages.base import StageError
from optops.stages.execution import is_expected, is_unreachable
from optops.workloads.arrays.reading import ArraysError


class BotoCoreError(Exception):
    """As botocore derives its own, which is not among the requirements."""


class HTTPClientError(BotoCoreError):
    """Of botocore."""


class ReadTimeoutError(HTTPClientError):
    """Of botocore."""


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError(),
        requests.exceptions.ReadTimeout(),
        requests.exceptions.SSLError(),
        ReadTimeoutError(),
        OperationalError("select 1", {}, sqlite3.OperationalError("locked")),
        MlflowException("API request to http://host failed with exception too many 503 error responses"),
    ],
)
def test_a_store_that_does_not_answer_is_tried_again(error):
    assert is_unreachable(error)
    wrapped = StageError("the champion can not answer")
    wrapped.__cause__ = error
    assert is_unreachable(wrapped)


@pytest.mark.parametrize(
    "error", [ValueError("no"), MlflowException("no such run"), BotoCoreError(), OSError(28, "full")]
)
def test_what_will_not_pass_by_itself_is_not(error):
    assert not is_unreachable(error)


def test_errors_of_ours_speak_for_themselves_and_those_of_libraries_do_not():
    assert all(map(is_expected, (ArraysError("x.npz holds no arrays"), ValueError("no"), StageError("no"))))
    assert not any(map(is_expected, (UnicodeDecodeError("utf-8", b"x", 0, 1, "no"), KeyError("x"), TypeError("x"))))
