"""Lip shapes of a stream."""

import numpy as np
import pytest
import torch

from ntalker_ns.audio.features import FeatureInfo
from ntalker_ns.audio.whisper import load_whisper
from ntalker_ns.demo.clip import make_clip
from ntalker_ns.errors import NTalkerError
from ntalker_ns.media.sound import read_audio
from ntalker_ns.speech.adaptation import AdaptedPrior
from ntalker_ns.speech.closures import load_readout
from ntalker_ns.speech.prior import load_prior
from ntalker_ns.speech.silence import room_sounds, silence_examples
from ntalker_ns.speech.stream import LipStream

INFO = FeatureInfo("whisper", None, 64)


@pytest.fixture(scope="module")
def talker(tmp_path_factory: pytest.TempPathFactory) -> tuple[AdaptedPrior, np.ndarray]:
    """A model of the made-up clip's first 7 s, whose first component opens the mouth, and all 10 s of its sound."""
    path = tmp_path_factory.mktemp("stream") / "clip.mp4"
    openings = make_clip(path, 10.0, 64, seed=2).mouth_opening
    waveform = read_audio(path)
    basis = load_prior().basis[:6]
    shapes = torch.zeros(250, 6)
    shapes[:, 0] = torch.from_numpy(openings - openings.mean())
    shapes[:, 1:] = 0.1 * torch.randn(250, 5, generator=torch.Generator().manual_seed(0)) * shapes[:, 0].std()
    windows = torch.from_numpy(load_whisper().windows(waveform, 250))
    model = AdaptedPrior(64, basis, load_readout())
    model.fit(windows[:175], shapes[:175], silence_examples(INFO, shapes[:175].numpy(), openings[:175]))
    return model, waveform


def test_lips_of_a_stream_follow_those_of_the_whole_sound(talker: tuple[AdaptedPrior, np.ndarray]):
    model, waveform = talker
    whole = model.lip_shapes(torch.from_numpy(load_whisper().windows(waveform, 250)))[:, 0]
    stream = LipStream(model, INFO, look_ahead=160)
    pieces = [stream.push(piece) for piece in np.array_split(waveform, 50)]
    shapes = torch.cat([*pieces, stream.flush()])
    assert shapes.shape == (250, 6)
    agreement = np.corrcoef(shapes[:, 0].numpy(), whole.numpy())[0, 1]
    assert agreement > 0.85
    one_frame_late = np.corrcoef(shapes[1:, 0].numpy(), whole[:-1].numpy())[0, 1]
    assert agreement > one_frame_late


def test_lips_close_when_the_voice_stops(talker: tuple[AdaptedPrior, np.ndarray]):
    model, waveform = talker
    silence, noise, *_ = room_sounds(3.0)
    for room, least in ((silence, 0.3), (noise, 0.0)):
        stream = LipStream(model, INFO)
        spoken = stream.push(waveform)[:, 0]
        after = stream.push(room)[25:, 0]
        spread = float(spoken.std())
        assert float(after.mean()) < float(spoken.mean()) - least * spread
        assert float(after.std()) < 0.7 * spread


def test_features_that_cannot_be_streamed_are_said(talker: tuple[AdaptedPrior, np.ndarray]):
    with pytest.raises(NTalkerError, match="whisper features, not mel"):
        LipStream(talker[0], FeatureInfo("mel", None, 32))
