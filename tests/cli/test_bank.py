"""`ntalker bank`."""

from pathlib import Path

import numpy as np
import pytest

from ntalker_ns.cli.main import run
from ntalker_ns.speech.local_bank import entry_of, write_entry
from ntalker_ns.speech.prior import load_prior


def test_entries_are_listed_and_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    rng, prior = np.random.default_rng(0), load_prior()
    features = rng.normal(size=(30, 16, 64)).astype(np.float32)
    entry = entry_of(features, rng.normal(size=(30, 6)).astype(np.float32), prior.basis[:6].numpy(), prior)
    write_entry(entry, tmp_path / "anna.npz")
    (tmp_path / "ben.npz").write_bytes(b"broken")
    assert run(["bank", "list", "--folder", str(tmp_path)]) == 0
    listed = capsys.readouterr().out
    assert "2 entries" in listed
    assert "anna: 30 frames" in listed
    assert "ben: not used" in listed
    assert run(["bank", "remove", "anna", "--folder", str(tmp_path)]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["ben.npz"]
    assert run(["bank", "remove", "anna", "--folder", str(tmp_path)]) == 1
    assert "There is no entry anna" in capsys.readouterr().err


def test_what_is_no_data_set_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert run(["bank", "add", str(tmp_path / "nothing"), "--folder", str(tmp_path)]) == 1
    assert "nothing" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
