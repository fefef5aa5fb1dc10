"""Which errors of the stores a retry may help against."""

import sqlite3
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests
from mlflow import MlflowException
from mlflow.artifacts import download_artifacts
from sqlalchemy.exc import OperationalError

from optops.stages.base import StageError
from optops.unreachable import is_unreachable


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


class Store(BaseHTTPRequestHandler):
    """An artifact store that goes away in the middle of a file, and has another no longer."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path.endswith("/missing"):
            self.send_error(404)
            return
        listing = b'{"files": []}'
        promised = 1000 if self.path.endswith("/broken") else len(listing)
        self.send_response(200)
        self.send_header("Content-Length", str(promised))
        self.end_headers()
        self.wfile.write(listing)
        self.close_connection = True

    def log_message(self, *arguments):
        """Says nothing."""


@pytest.fixture
def store():
    with ThreadingHTTPServer(("127.0.0.1", 0), Store) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}/api/2.0/mlflow-artifacts/artifacts"
        server.shutdown()


def test_a_download_that_breaks_off_is_tried_again_and_one_of_a_missing_file_is_not(store, tmp_path):
    for name, gone in (("broken", True), ("missing", False)):
        with pytest.raises(MlflowException, match="while downloading") as caught:
            download_artifacts(f"{store}/{name}", dst_path=str(tmp_path))
        assert is_unreachable(caught.value) == gone
