"""The audio encoder: its receptive field, its attention weights, and silence outside the clip."""

import torch

from ntalker_ns.field.audio_encoder import ATTENTION_FRAMES, AudioEncoder, neighbour_indices


def test_neighbours_are_four_before_itself_and_three_after() -> None:
    neighbours = neighbour_indices(torch.tensor([5, 1, 9]), num_frames=10)
    assert neighbours[0].tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert neighbours[1].tolist() == [0, 0, 0, 0, 1, 2, 3, 4]
    assert neighbours[2].tolist() == [5, 6, 7, 8, 9, 9, 9, 9]


def test_code_is_a_convex_combination_of_window_codes() -> None:
    encoder = AudioEncoder(feature_channels=6, code_dim=5)
    windows = torch.randn(3, ATTENTION_FRAMES, 16, 6)
    singles = encoder.window_encoder(windows.flatten(0, 1)).view(3, ATTENTION_FRAMES, 5)
    codes = encoder(windows)
    assert (codes <= singles.amax(dim=1) + 1e-6).all()
    assert (codes >= singles.amin(dim=1) - 1e-6).all()


def test_each_frame_depends_on_its_own_windows_alone() -> None:
    encoder = AudioEncoder(feature_channels=4)
    windows = torch.randn(2, ATTENTION_FRAMES, 16, 4)
    changed = windows.clone()
    changed[1] += 1.0
    before, after = encoder(windows), encoder(changed)
    torch.testing.assert_close(before[0], after[0])
    assert not torch.allclose(before[1], after[1])
