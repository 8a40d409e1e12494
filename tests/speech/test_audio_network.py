"""RAD-NeRF's audio network by itself."""

import torch

from ntalker_ns.speech.audio_network import NEIGHBOURS, AudioNetwork, neighbours

CHANNELS, CODE = 12, 10


def network(seed: int = 0) -> AudioNetwork:
    torch.manual_seed(seed)
    return AudioNetwork(CHANNELS, CODE)


def test_neighbours_surround_a_frame_and_end_with_the_sequence() -> None:
    found = neighbours(torch.tensor([0, 10, 19]), 20)
    assert found[1].tolist() == list(range(6, 14))
    assert found[0].tolist() == [0, 0, 0, 0, 0, 1, 2, 3]
    assert found[2].tolist() == [15, 16, 17, 18, 19, 19, 19, 19]


def test_a_code_is_a_mean_of_the_codes_of_its_windows() -> None:
    audio = network()
    windows = torch.randn(5, NEIGHBOURS, 16, CHANNELS)
    each = torch.stack([audio(one.expand(1, NEIGHBOURS, -1, -1))[0] for one in windows.flatten(0, 1)])
    codes = each.unflatten(0, (5, NEIGHBOURS))
    found = audio(windows)
    # Weights that are positive and sum to 1 keep each channel between its least and its largest.
    assert (found <= codes.amax(dim=1) + 1e-6).all() and (found >= codes.amin(dim=1) - 1e-6).all()
    weights = torch.linalg.lstsq(codes[0].T.double(), found[0].double()[:, None]).solution
    assert torch.allclose(weights.sum(), torch.ones((), dtype=torch.float64), atol=1e-4)


def test_its_size_is_that_of_the_published_network() -> None:
    # The published one for 44 channels and codes of 64 has these parameters, by its layers.
    convolutions = 44 * 32 * 3 + 32 + 32 * 32 * 3 + 32 + 32 * 64 * 3 + 64 + 64 * 64 * 3 + 64
    linear = 2 * (64 * 64 + 64)
    attention = sum(a * b * 3 + b for a, b in ((64, 16), (16, 8), (8, 4), (4, 2), (2, 1))) + 8 * 8 + 8
    assert sum(p.numel() for p in AudioNetwork(44, 64).parameters()) == convolutions + linear + attention


def test_it_starts_with_what_a_regression_knows() -> None:
    """Lip shapes that follow the features linearly are read from the codes of frames that were not trained on."""
    torch.manual_seed(1)
    smooth = torch.nn.functional.avg_pool1d(torch.randn(CHANNELS, 608), 9, stride=1).T * 3.0
    windows = smooth.unfold(0, 16, 1)[:400].transpose(1, 2)
    shapes = windows.mean(dim=1) @ torch.randn(CHANNELS, 3)
    trained, held_out = torch.arange(300), torch.arange(310, 390)

    def unexplained(audio: AudioNetwork) -> float:
        codes = audio(windows[neighbours(torch.arange(400), 400)]).detach()
        ones = torch.cat([codes, torch.ones(400, 1)], dim=1)
        readout = torch.linalg.lstsq(ones[trained], shapes[trained]).solution
        error = (ones[held_out] @ readout - shapes[held_out]).square().mean()
        return float(error / shapes[held_out].var(dim=0).mean())

    started, again, untrained = network(), network(), network()
    started.start_from(windows, shapes, trained)
    again.start_from(windows, shapes, trained)
    assert unexplained(started) < 0.3 < unexplained(untrained)
    assert all(torch.equal(a, b) for a, b in zip(started.parameters(), again.parameters(), strict=True))
