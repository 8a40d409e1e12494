"""Audio-to-lips regression against ridge regression written out, on predictable and on unpredictable lips."""

import numpy as np
import pytest
import torch

from ntalker_ns.speech import lip_regression
from ntalker_ns.speech.lip_regression import BINS, MAX_GAIN, LipRegression

CHANNELS, LIP_DIM = 3, 2


def clip(frames: int, noise: float = 0.0, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Windows, and shapes that follow from their middles but for noise."""
    torch.manual_seed(seed)
    windows = 2.0 + 3.0 * torch.randn(frames, 16, CHANNELS)
    shapes = windows[:, 6:10].mean(dim=1) @ torch.tensor([[1.0, 0.2], [0.5, -0.4], [0.0, 0.3]])
    return windows, shapes + noise * torch.randn_like(shapes)


def fitted(windows: torch.Tensor, shapes: torch.Tensor, frames: int | None = None) -> LipRegression:
    regression = LipRegression(windows.shape[-1], torch.zeros(shapes.shape[-1], 53, 2), frames or len(windows))
    regression.fit(windows, shapes)
    return regression


def written_out(windows, shapes, asked):
    """Kernel ridge regression in float64, number by number."""
    weights = np.interp(np.arange(BINS) / (BINS - 1), [0, 1 / 3, 2 / 3, 1], [0.2, 1, 1, 0.2])

    def inputs(window):
        return np.array([window[2 * bin : 2 * bin + 2, c].mean() for bin in range(BINS) for c in range(CHANNELS)])

    raw, raw_asked = (np.stack([inputs(each) for each in given.double().numpy()]) for given in (windows, asked))
    mean, spread = raw.mean(axis=0), raw.std(axis=0)
    weight = np.repeat(weights, CHANNELS)
    heard, new = (weight * np.clip((each - mean) / spread, -3, 3) for each in (raw, raw_asked))
    length = np.sqrt((heard**2).sum(axis=1).mean())

    def kernel(x, y):
        x, y = x / length, y / length
        return 0.6 * (x @ y) + 0.4 * np.exp(-((x - y) ** 2).sum() / 0.5)

    def predict(known, values, places):
        matrix = np.array([[kernel(a, b) for b in known] for a in known]) + 0.1 * np.eye(len(known))
        return np.array([[kernel(a, b) for b in known] for a in places]) @ np.linalg.solve(matrix, values)

    shapes = shapes.double().numpy()
    mean_shape = shapes.mean(axis=0)
    predicted, n = np.zeros_like(shapes), len(shapes)
    for part in np.array_split(np.arange(n), 5):
        others = [i for i in range(n) if i < part[0] - 8 or i > part[-1] + 8]
        predicted[part] = predict(heard[others], shapes[others] - mean_shape, heard[part])
    louder = np.clip(np.sqrt(shapes.std(axis=0) / predicted.std(axis=0)), 1, 2)
    return np.clip(
        mean_shape + louder * predict(heard, shapes - mean_shape, new), shapes.min(axis=0), shapes.max(axis=0)
    )


def test_equals_ridge_regression_written_out() -> None:
    windows, shapes = clip(60, noise=1.0)
    asked = clip(9, seed=1)[0]
    expected = torch.from_numpy(written_out(windows, shapes, asked)).float()
    torch.testing.assert_close(fitted(windows, shapes).lip_shapes(asked), expected, rtol=0, atol=2e-5)


def test_predicts_lips_that_follow_from_the_audio() -> None:
    regression = fitted(*clip(400))
    windows, shapes = clip(100, seed=1)
    off = (regression.lip_shapes(windows) - shapes).std(dim=0) / shapes.std(dim=0)
    assert (off < 0.35).all()


def test_predictions_move_more_than_those_of_least_error_and_less_than_the_lips() -> None:
    windows, shapes = clip(400, noise=1.5)
    regression = fitted(windows, shapes)
    moves = regression.lip_shapes(clip(400, seed=1)[0]).std(dim=0) / shapes.std(dim=0)
    least = clip(400, seed=1)[1].std(dim=0) / shapes.std(dim=0)
    # The motion of the prediction of least error over that of the lips is its correlation with them.
    assert (moves > least).all() and (moves < 1.0).all()


def test_unpredictable_lips_are_predicted_to_move_less() -> None:
    windows = clip(400)[0]
    regression = fitted(windows, torch.randn(400, LIP_DIM))
    assert (regression.lip_shapes(clip(100, seed=1)[0]).std(dim=0) < 0.7).all()


def test_predictions_stay_within_the_range_of_the_clip() -> None:
    windows, shapes = clip(100)
    heard = fitted(windows, shapes).lip_shapes(100.0 * clip(50, seed=1)[0])
    assert (heard >= shapes.amin(dim=0)).all() and (heard <= shapes.amax(dim=0)).all()


def test_a_channel_that_is_constant_in_the_clip_is_ignored() -> None:
    windows, shapes = clip(100)
    windows[..., 2] = 1.0
    regression, asked = fitted(windows, shapes), clip(5, seed=1)[0]
    louder = asked.clone()
    louder[..., 2] = 50.0
    torch.testing.assert_close(regression.lip_shapes(asked), regression.lip_shapes(louder))


def test_a_long_clip_keeps_some_of_its_frames_as_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lip_regression, "MAX_EXAMPLES", 50)
    windows, shapes = clip(148)
    regression = fitted(windows, shapes)
    assert regression.examples.shape == (50, BINS * CHANNELS)
    alone = fitted(windows[::3], shapes[::3])
    torch.testing.assert_close(regression.lip_shapes(windows), alone.lip_shapes(windows))


def test_unused_examples_change_nothing() -> None:
    windows, shapes = clip(40)
    torch.testing.assert_close(
        fitted(windows, shapes, frames=50).lip_shapes(windows), fitted(windows, shapes).lip_shapes(windows)
    )


@pytest.mark.parametrize("frames", [1, 2, 12])
def test_few_frames_suffice(frames: int) -> None:
    windows, shapes = clip(frames)
    heard = fitted(windows, shapes).lip_shapes(clip(4, seed=1)[0])
    assert torch.isfinite(heard).all()
    if frames == 1:
        torch.testing.assert_close(heard, shapes.expand(4, -1))


def test_constant_features_predict_the_mean_shape() -> None:
    shapes = torch.randn(30, LIP_DIM)
    regression = fitted(torch.zeros(30, 16, CHANNELS), shapes)
    torch.testing.assert_close(regression.lip_shapes(torch.randn(4, 16, CHANNELS)), shapes.mean(dim=0).expand(4, -1))


def test_predicts_zeros_before_it_is_fitted_and_the_same_after_loading() -> None:
    windows, shapes = clip(30)
    regression = LipRegression(CHANNELS, torch.zeros(LIP_DIM, 53, 2), 30)
    assert not regression.lip_shapes(windows).any()
    saved = fitted(windows, shapes)
    regression.load_state_dict(saved.state_dict())
    torch.testing.assert_close(regression.lip_shapes(windows), saved.lip_shapes(windows))


def test_gains_are_bounded() -> None:
    shapes = torch.randn(40, 2).double()
    assert lip_regression.gains(1e-3 * torch.randn(40, 2).double(), shapes).tolist() == [MAX_GAIN, MAX_GAIN]
    assert lip_regression.gains(3.0 * shapes, shapes).tolist() == [1.0, 1.0]


def test_folds_are_predicted_from_frames_beyond_a_guard() -> None:
    pairs = []

    def predict(fold: np.ndarray, others: np.ndarray) -> torch.Tensor:
        pairs.append((fold, others))
        return torch.zeros(len(fold), 2)

    lip_regression.cross_validated(predict, torch.zeros(60, 2))
    assert np.concatenate([fold for fold, _ in pairs]).tolist() == list(range(60))
    for fold, others in pairs:
        assert np.abs(fold[:, None] - others).min() == lip_regression.GUARD + 1
