"""A bank of one's own."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.speakers import CHANNELS, made_up_prior, person, windows_of

from ntalker_ns.errors import NTalkerError
from ntalker_ns.speech.local_bank import (
    BankEntry,
    bank_folder,
    entry_of,
    read_entry,
    refined,
    refined_by_bank,
    write_entry,
)
from ntalker_ns.speech.prior import window_inputs

PRIOR = made_up_prior(frames=200)


def film(seed: int, frames: int = 150, size: float = 0.02) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, lip shapes and basis of somebody whose lips follow sound as another prior says."""
    basis, codes = person(PRIOR, size)
    windows = windows_of(frames, seed)
    shapes = made_up_prior(seed=5).codes(window_inputs(windows.double())) @ codes
    return windows.numpy(), shapes.float().numpy(), basis.float().numpy()


def entry(seed: int = 1) -> BankEntry:
    return entry_of(*film(seed), PRIOR)


def test_the_refined_prior_is_the_posterior_of_all_frames():
    """Against augmented least squares; films of any size count alike."""
    seeds, sizes = (1, 2), (0.02, 0.5)
    entries = [entry_of(*film(seed, size=size), PRIOR) for seed, size in zip(seeds, sizes, strict=True)]
    root = torch.linalg.cholesky(PRIOR.precision).T
    rows, values = [root], [root @ PRIOR.weights]
    for seed in seeds:
        features, shapes, basis = (torch.from_numpy(each).double() for each in film(seed))
        inputs, moved = window_inputs(features), (shapes - shapes.mean(dim=0)) @ basis.flatten(1)
        inputs = inputs - inputs.mean(dim=0)
        rows.append(inputs)
        codes = moved @ PRIOR.basis.flatten(1).T / moved.square().sum(dim=1).mean().sqrt()
        values.append(codes - PRIOR.network(inputs))
    expected = np.linalg.lstsq(torch.cat(rows).numpy(), torch.cat(values).numpy(), rcond=None)[0]
    np.testing.assert_allclose(refined(PRIOR, entries).weights.numpy(), expected, atol=1e-6)


def test_what_is_written_is_read(tmp_path: Path):
    write_entry(entry(), tmp_path / "bank" / "anna.npz")
    read = read_entry(tmp_path / "bank" / "anna.npz", PRIOR)
    for name in ("gram", "moment", "frames"):
        np.testing.assert_array_equal(getattr(read, name), getattr(entry(), name))
    assert [path.name for path in (tmp_path / "bank").iterdir()] == ["anna.npz"]


def test_a_film_does_not_learn_from_itself(tmp_path: Path):
    """Frames held out of its training are in its entry."""
    write_entry(entry(1), tmp_path / "anna.npz")
    features = film(1)[0]
    own, sentences = refined_by_bank(PRIOR, tmp_path, features[:60])
    assert own is PRIOR
    assert sentences == []
    other, sentences = refined_by_bank(PRIOR, tmp_path, film(2)[0])
    assert not torch.equal(other.weights, PRIOR.weights)
    assert "1 more" in sentences[0]


def test_without_a_bank_the_prior_stays(tmp_path: Path):
    assert refined_by_bank(PRIOR, tmp_path / "nothing", film(1)[0]) == (PRIOR, [])


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        (lambda good: replace(good, format=0), "another version"),
        (lambda good: replace(good, prior=good.prior ^ 1), "another version"),
        (lambda good: replace(good, gram=np.full_like(good.gram, np.nan)), "not numbers"),
        (lambda good: replace(good, gram=good.gram[:-1, :-1]), "another width"),
        (lambda good: replace(good, moment=good.moment[:, :-1]), "another width"),
        (lambda good: replace(good, frames=good.frames[:0]), "is empty"),
        (lambda good: replace(good, gram=0.0 * good.gram), "is empty"),
    ],
)
def test_entries_that_cannot_be_used_are_said_and_left_out(tmp_path: Path, broken, sentence: str):
    write_entry(broken(entry()), tmp_path / "bad.npz")
    with pytest.raises(NTalkerError, match=sentence):
        read_entry(tmp_path / "bad.npz", PRIOR)
    prior, sentences = refined_by_bank(PRIOR, tmp_path, film(2)[0])
    assert prior is PRIOR
    assert len(sentences) == 1
    assert sentence in sentences[0]


def test_files_that_are_no_entries_are_said(tmp_path: Path):
    for name, content in (("text.npz", b"hello"), ("empty.npz", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(NTalkerError, match="no entry of a bank"):
            read_entry(tmp_path / name, PRIOR)
    np.savez(tmp_path / "other.npz", gram=np.zeros(3))
    with pytest.raises(NTalkerError, match="no entry of a bank"):
        read_entry(tmp_path / "other.npz", PRIOR)


def test_the_bank_is_in_the_users_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert bank_folder() == tmp_path / "ntalker" / "bank"
    assert bank_folder(tmp_path / "other") == tmp_path / "other"
    assert len(entry().gram) == CHANNELS * 8
