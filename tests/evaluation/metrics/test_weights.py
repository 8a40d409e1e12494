"""Weights are found where they are; where they are not, the sentence says what would help."""

from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from ntalker_ns.evaluation.metrics import weights
from ntalker_ns.evaluation.metrics.weights import Unavailable, answers, weight_file


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(weights, "answers", lambda address: False)


def test_a_file_is_found(tmp_path: Path):
    path = tmp_path / "weights.pt"
    path.touch()
    assert weight_file(str(path), "a network", "--net") == path


def test_nothing_named_says_what_to_give():
    with pytest.raises(Unavailable, match="--net names no weights \\(a network\\): give a path"):
        weight_file(None, "a network", "--net")


@pytest.mark.parametrize("place", ["weights.pt", "/no/such/place/weights.pt", "folder/weights.pt"])
def test_a_file_that_is_not_there_is_named(place: str):
    with pytest.raises(Unavailable, match=f"--net: there is no file at '{place}'"):
        weight_file(place, "a network", "--net")


def test_a_hub_that_does_not_answer_is_said(no_hub: None):
    with pytest.raises(Unavailable, match=r"'owner/repo/w\.pt' is not on this machine and the hub does not answer"):
        weight_file("owner/repo/w.pt", "a network", "--net")


def test_a_file_in_the_hubs_cache_is_found_without_asking(no_hub: None, tmp_path: Path):
    commit = "0" * 40
    folder = tmp_path / "cache" / "models--owner--repo"
    (folder / "snapshots" / commit / "sub").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(commit)
    (folder / "snapshots" / commit / "sub" / "w.pt").write_text("weights")
    assert weight_file("owner/repo/sub/w.pt", "a network", "--net").read_text() == "weights"


def test_a_server_answers_or_not():
    class Yes(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            """Silent."""

    with HTTPServer(("127.0.0.1", 0), Yes) as server:
        Thread(target=server.handle_request, daemon=True).start()
        assert answers(f"http://127.0.0.1:{server.server_port}/")
        port = server.server_port
    assert not answers(f"http://127.0.0.1:{port}/other")
    assert not answers("no address")
