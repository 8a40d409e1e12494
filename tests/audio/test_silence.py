"""Pauses: how they sound, and which lips go with them."""

from dataclasses import replace

import numpy as np
import torch
from support.sequences import make_sequence

from ntalker_ns.audio import mel
from ntalker_ns.audio.silence import LOUDER, pauses
from ntalker_ns.driving.sequence import DrivingSequence
from ntalker_ns.speech.lip_regression import LipReader

FRAMES = 40


def sequence(extractor: str = "mel") -> DrivingSequence:
    rng = np.random.default_rng(0)
    openings = np.linspace(0.0, 0.1, FRAMES)
    openings[3] = np.nan
    return replace(
        make_sequence(FRAMES),
        feature_info={"extractor": extractor},
        mouth_opening=openings,
        features=rng.standard_normal((FRAMES, 16, 4)).astype(np.float32),
        lip_shapes=np.stack([openings, *rng.standard_normal((5, FRAMES))], axis=1).astype(np.float32),
    )


def test_silence_goes_with_the_lips_of_the_most_closed_frames() -> None:
    driving = sequence()
    windows, shapes = pauses(driving, np.arange(1, FRAMES))
    assert len(windows) == len(LOUDER) == 3
    silent = torch.from_numpy(mel.mel_windows(np.zeros(6400, np.float32), 10))
    torch.testing.assert_close(windows[0], silent[4, :, :4])
    torch.testing.assert_close(windows[2] - windows[0], torch.full((16, 4), 0.6))
    # Of 38 known openings two are within the lowest twentieth.
    torch.testing.assert_close(shapes, torch.from_numpy(driving.lip_shapes[[1, 2]].mean(axis=0)).expand(3, -1))


def test_what_other_features_make_of_silence_is_not_known() -> None:
    windows, shapes = pauses(sequence("hubert"), np.arange(FRAMES))
    assert windows.shape == (0, 16, 4) and shapes.shape == (0, 6)
    unknown = sequence()
    unknown.mouth_opening[:] = np.nan
    assert len(pauses(unknown, np.arange(FRAMES))[0]) == 0


def test_who_never_pauses_closes_the_mouth_in_silence() -> None:
    driving = replace(sequence(), mouth_opening=np.linspace(0.0, 0.1, FRAMES))
    # The louder, the more closed, as chance has it in seconds of speech.
    driving.features[:] += np.linspace(2.0, 0.0, FRAMES, dtype=np.float32)[:, None, None]
    driving.lip_shapes[:, 0] = driving.mouth_opening
    told = [torch.from_numpy(each) for each in (driving.features, driving.lip_shapes)]
    silent, closed = pauses(driving, np.arange(FRAMES))
    openings = []
    for extra in ((), (silent, closed)):
        reader = LipReader(4, 6, FRAMES + 1)
        reader.fit(*(torch.cat([one, *extra[i : i + 1]]) for i, one in enumerate(told)))
        openings.append(float(reader(silent)[0, 0]))
    assert openings[1] < 0.6 * openings[0]
