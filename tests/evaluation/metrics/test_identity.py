"""Identity distance: the same face is 0, the alignment puts eyes and mouth where ArcFace wants them."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tiny_onnx import mean_colours, write_face_network

from ntalker_ns.evaluation.metrics.identity import (
    TEMPLATE,
    aligned_face,
    five_points,
    identity_distances,
    load_arcface,
    nearest_similarity,
)
from ntalker_ns.evaluation.metrics.weights import Unavailable
from ntalker_ns.face.mesh_indices import MOUTH_CORNERS, NOSE_TIP

RNG = np.random.default_rng(0)


def landmarks_at(five: np.ndarray) -> np.ndarray:
    """A face mesh whose five points are given, pixel centres at .5."""
    points = np.full((478, 2), 50.0)
    for corners, eye in (((33, 133), five[0]), ((362, 263), five[1])):
        points[list(corners)] = eye + np.array([[-5.0, 0.0], [5.0, 0.0]])
    points[NOSE_TIP] = five[2]
    points[list(MOUTH_CORNERS)] = five[3:]
    return points


@pytest.fixture(scope="module")
def matrix() -> np.ndarray:
    return np.random.default_rng(3).normal(size=(147, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory, matrix: np.ndarray) -> Path:
    return write_face_network(tmp_path_factory.mktemp("arcface") / "arcface.onnx", matrix)


def test_the_network_sees_scaled_rgb(network: Path, matrix: np.ndarray):
    face = RNG.integers(0, 256, (112, 112, 3), np.uint8)
    np.testing.assert_allclose(load_arcface(str(network))(face), mean_colours(face) @ matrix, rtol=1e-4, atol=1e-4)


def test_a_network_that_scales_its_input_itself_gets_levels(tmp_path: Path, matrix: np.ndarray):
    """As ArcFace's older files do: scaled twice, all faces would be nearly the same grey."""
    face = RNG.integers(0, 256, (112, 112, 3), np.uint8)
    inside = write_face_network(tmp_path / "inside.onnx", matrix, scaling=("Sub", "Mul"))
    np.testing.assert_allclose(load_arcface(str(inside))(face), mean_colours(face) @ matrix, rtol=1e-3, atol=1e-3)
    half = write_face_network(tmp_path / "half.onnx", matrix, scaling=("Mul",))
    with pytest.raises(Unavailable, match="give --arcface-takes levels or scaled"):
        load_arcface(str(half))
    levels = load_arcface(str(half), "levels")(face)
    np.testing.assert_allclose(levels, (mean_colours(face) + 1.0) @ matrix, rtol=1e-3, atol=1e-3)


def test_a_face_is_no_distance_from_itself(network: Path):
    embed = load_arcface(str(network))
    pictures = list(RNG.integers(0, 256, (3, 130, 120, 3), np.uint8))
    points = np.stack([landmarks_at(TEMPLATE + 5.0)] * 3)
    same = identity_distances(embed, pictures, pictures, points, points)
    np.testing.assert_allclose(same.cosine, 0.0, atol=1e-12)
    np.testing.assert_allclose(same.squared_l2, 0.0, atol=1e-12)


def test_distances_are_those_of_the_unit_embeddings(network: Path):
    embed = load_arcface(str(network))
    old, new = (
        list(RNG.integers(0, 256, (2, 112, 112, 3), np.uint8)),
        list(RNG.integers(0, 256, (2, 112, 112, 3), np.uint8)),
    )
    points = np.stack([landmarks_at(TEMPLATE + 0.5)] * 2)
    points[1] = np.nan
    distances = identity_distances(embed, old, new, points, points)
    first, second = (embed(pictures[0]) for pictures in (old, new))
    first, second = first / np.linalg.norm(first), second / np.linalg.norm(second)
    assert distances.cosine[0] == pytest.approx(1 - first @ second, abs=1e-6)
    assert distances.squared_l2[0] == pytest.approx(np.square(first - second).sum(), abs=1e-6)
    assert np.isnan(distances.cosine[1]) and np.isnan(distances.squared_l2[1])
    with pytest.raises(Unavailable, match="no frame has a face"):
        identity_distances(embed, old, new, points * np.nan, points)


def test_a_face_at_the_template_stays_as_it_is():
    picture = RNG.integers(0, 256, (112, 112, 3), np.uint8)
    np.testing.assert_array_equal(aligned_face(picture, landmarks_at(TEMPLATE + 0.5)), picture)


def test_alignment_undoes_turn_size_and_shift():
    picture = np.zeros((300, 300, 3), np.uint8)
    angle, scale = np.deg2rad(20.0), 1.6
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = TEMPLATE @ turn.T + [90.0, 60.0]
    for x, y in points:
        picture[round(y) - 2 : round(y) + 3, round(x) - 2 : round(x) + 3] = 255
    face = aligned_face(picture, landmarks_at(points + 0.5))
    for x, y in TEMPLATE:
        assert face[round(y), round(x), 0] > 200
    assert (face[..., 0] > 100).mean() < 0.01


@given(st.floats(-3.1, 3.1), st.floats(0.1, 10.0), st.floats(-50, 50), st.floats(-50, 50))
def test_a_similarity_is_recovered_exactly(angle: float, scale: float, x: float, y: float):
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = nearest_similarity(TEMPLATE, TEMPLATE @ turn.T + [x, y])
    np.testing.assert_allclose(matrix, np.column_stack([turn, [x, y]]), atol=1e-8)


def test_a_similarity_is_the_best_in_least_squares():
    target = TEMPLATE + RNG.normal(0, 3, TEMPLATE.shape)
    ones = np.column_stack([TEMPLATE, np.ones(5)])

    def error(matrix: np.ndarray) -> float:
        return float(np.square(ones @ matrix.T - target).sum())

    # The linear least squares over (a, -b, x; b, a, y) by the normal equations.
    rows = np.concatenate(
        [
            np.column_stack([TEMPLATE[:, 0], -TEMPLATE[:, 1], np.ones(5), np.zeros(5)]),
            np.column_stack([TEMPLATE[:, 1], TEMPLATE[:, 0], np.zeros(5), np.ones(5)]),
        ]
    )
    a, b, x, y = np.linalg.lstsq(rows, target.T.reshape(-1), rcond=None)[0]
    assert error(nearest_similarity(TEMPLATE, target)) == pytest.approx(error(np.array([[a, -b, x], [b, a, y]])))


def test_the_five_points_are_where_the_template_has_them():
    np.testing.assert_allclose(five_points(landmarks_at(TEMPLATE)), TEMPLATE)


def test_without_weights_it_is_unavailable_by_name(tmp_path: Path):
    with pytest.raises(Unavailable, match="--arcface names no weights"):
        load_arcface(None)
    with pytest.raises(Unavailable, match=r"no file at '.*arcface\.onnx'"):
        load_arcface(str(tmp_path / "arcface.onnx"))
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"nothing")
    with pytest.raises(Unavailable, match=r"broken\.onnx cannot be used"):
        load_arcface(str(broken))


def test_networks_for_other_sizes_are_refused(tmp_path: Path, matrix: np.ndarray):
    other = write_face_network(tmp_path / "other.onnx", matrix, size=140)
    with pytest.raises(Unavailable, match="140"):
        load_arcface(str(other))


def test_a_transformers_model_gives_its_pooled_output(tmp_path: Path):
    import torch
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=16
    )
    model = ViTModel(config)
    model.save_pretrained(tmp_path)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    face = RNG.integers(0, 256, (112, 112, 3), np.uint8)
    embedding = load_arcface(str(tmp_path))(face)
    assert embedding.shape == (16,)
    assert not np.allclose(embedding, load_arcface(str(tmp_path))(255 - face))
