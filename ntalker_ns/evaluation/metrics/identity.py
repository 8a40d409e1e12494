"""Identity distance: distance of ArcFace's embeddings of the faces before and after an edit.

Faces are brought to ArcFace's template by eyes, nose and mouth corners and embedded (Deng et al., "ArcFace", 2019); two
pictures' distance is that of their unit embeddings. The paper does not say which distance its column shows; its values
go up to 2.86, which no cosine distance reaches, so the column is not comparable with either of ours.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from ntalker_ns.evaluation.metrics.onnx_input import input_scaling
from ntalker_ns.evaluation.metrics.weights import Unavailable, transformers_model, weight_file
from ntalker_ns.evaluation.options import Range
from ntalker_ns.face import mesh_indices

SIZE = 112
"""Side of an aligned face, px."""
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
"""Where ArcFace expects the eye on the left of the picture, the other eye, the tip of the nose and the mouth's corners,
in px of the aligned face; pixel centres are whole numbers."""

Embedder = Callable[[UInt8[np.ndarray, "112 112 3"]], Float[np.ndarray, " width"]]
"""An aligned RGB face becomes an embedding of any length."""


@dataclass(frozen=True)
class IdentityDistances:
    """How far the faces of two pictures are apart, frame by frame; NaN where either has no face."""

    cosine: Float[np.ndarray, " n"]
    """1 - cosine of the embeddings: 0 for the same picture, about 0.6 and more for different people."""
    squared_l2: Float[np.ndarray, " n"]
    """Squared Euclidean distance of the unit embeddings: twice the cosine distance."""


def load_arcface(place: str | None, takes: Range = "auto") -> Embedder:
    """A face network.

    Args:
        place: an .onnx file (path or OWNER/REPOSITORY/FILE on the hub) that takes one RGB face of 112 px; or a
            transformers model, by folder or hub id, whose pooled output is the embedding.
        takes: what the .onnx file takes. By itself: as ArcFace's published ones, (pixel - 127.5) / 127.5, unless the
            network begins by shifting and scaling its input.

    Raises:
        Unavailable: nothing was named, or it cannot be had or used.
    """
    option = "--arcface"
    if place is not None and not place.endswith(".onnx"):
        return _transformers_embedder(place, option)
    return _onnx_embedder(weight_file(place, "ArcFace as an .onnx file", option), takes, option)


def _onnx_embedder(file: Path, takes: Range, option: str) -> Embedder:
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(str(file), providers=onnxruntime.get_available_providers())
        (given,) = session.get_inputs()
    except Exception as error:  # onnxruntime's own kinds share no base but Exception.
        raise Unavailable(f"{option}: {file} cannot be used as a face network ({error})") from error
    if list(given.shape[1:]) != [3, SIZE, SIZE]:
        raise Unavailable(f"{option}: {file} takes {given.shape}, not pictures of (3, {SIZE}, {SIZE})")
    scaling = input_scaling(file, given.name)
    if takes == "auto" and scaling == "unclear":
        raise Unavailable(
            f"{option}: {file} begins with a shift or a scale, but not both, so it does not say whether it takes "
            "levels from 0 to 255 or colours from -1 to 1: give --arcface-takes levels or scaled"
        )
    levels = takes == "levels" or (takes == "auto" and scaling == "inside")

    def embed(face: UInt8[np.ndarray, "112 112 3"]) -> Float[np.ndarray, " width"]:
        planes = face.transpose(2, 0, 1)[None].astype(np.float32)
        planes = planes if levels else (planes - 127.5) / 127.5
        return np.asarray(session.run(None, {given.name: planes})[0], np.float64).reshape(-1)

    return embed


def _transformers_embedder(place: str, option: str) -> Embedder:
    import torch
    from transformers import AutoImageProcessor, AutoModel

    network = transformers_model(AutoModel, place, option).eval()
    processor = transformers_model(AutoImageProcessor, place, option)

    @torch.inference_mode()
    def embed(face: UInt8[np.ndarray, "112 112 3"]) -> Float[np.ndarray, " width"]:
        inputs = processor(images=face, return_tensors="pt", input_data_format="channels_last")
        pooled = getattr(network(**inputs), "pooler_output", None)
        if pooled is None:
            raise Unavailable(f"{option}: the model '{place}' gives no pooled output to take as an embedding")
        return pooled.flatten().double().numpy()

    return embed


def aligned_face(
    picture: UInt8[np.ndarray, "h w 3"], landmarks: Float[np.ndarray, "478 2"]
) -> UInt8[np.ndarray, "112 112 3"]:
    """The face brought to ArcFace's template by the nearest turn, size and shift.

    Args:
        picture: RGB.
        landmarks: face-mesh landmarks in px of it, pixel centres at .5.
    """
    matrix = nearest_similarity(five_points(landmarks) - 0.5, TEMPLATE)
    return np.asarray(cv2.warpAffine(picture, matrix, (SIZE, SIZE)), np.uint8)


def five_points(landmarks: Float[np.ndarray, "478 2"]) -> Float[np.ndarray, "5 2"]:
    """The eyes' centres, the tip of the nose and the corners of the mouth, in the template's order."""
    eyes = [
        landmarks[list(corners)].mean(axis=0)
        for corners in (mesh_indices.RIGHT_EYE_CORNERS, mesh_indices.LEFT_EYE_CORNERS)
    ]
    return np.stack([*eyes, landmarks[mesh_indices.NOSE_TIP], *landmarks[list(mesh_indices.MOUTH_CORNERS)]])


def nearest_similarity(source: Float[np.ndarray, "n 2"], target: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "2 3"]:
    """The turn, size and shift that bring points closest to others, in least squares.

    With points as complex numbers that is one linear equation, target = a source + b.

    Args:
        source: points to move.
        target: where to.

    Returns:
        A matrix for homogeneous points.
    """
    x, y = (points @ np.array([1.0, 1.0j]) for points in (source, target))
    spread = x - x.mean()
    a = np.vdot(spread, y - y.mean()) / np.vdot(spread, spread).real
    b = y.mean() - a * x.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def identity_distances(
    embed: Embedder,
    before: Iterable[UInt8[np.ndarray, "h w 3"]],
    after: Iterable[UInt8[np.ndarray, "h w 3"]],
    before_landmarks: Float[np.ndarray, "n 478 2"],
    after_landmarks: Float[np.ndarray, "n 478 2"],
) -> IdentityDistances:
    """Distances between the faces of two pictures of each frame, see `described_faces`.

    Args:
        embed: of `load_arcface`.
        before: RGB pictures.
        after: pictures after the edit, as many.
        before_landmarks: in px of the pictures; NaN where there is no face.
        after_landmarks: in px of the pictures after.

    Raises:
        Unavailable: no frame has a face in both pictures.
    """

    def describe(picture: UInt8[np.ndarray, "h w 3"], landmarks: Float[np.ndarray, "478 2"]) -> np.ndarray:
        return embed(aligned_face(picture, landmarks))

    faces = described_faces(describe, before, after, before_landmarks, after_landmarks)
    unit = faces / np.linalg.norm(faces, axis=-1, keepdims=True)
    cosines = (unit[:, 0] * unit[:, 1]).sum(axis=-1)
    return IdentityDistances(cosine=1.0 - cosines, squared_l2=2.0 - 2.0 * cosines)


Describer = Callable[[UInt8[np.ndarray, "h w 3"], Float[np.ndarray, "478 2"]], Float[np.ndarray, " width"]]
"""A picture and the face's landmarks in px of it become a description of the face."""


def described_faces(
    describe: Describer,
    before: Iterable[UInt8[np.ndarray, "h w 3"]],
    after: Iterable[UInt8[np.ndarray, "h w 3"]],
    before_landmarks: Float[np.ndarray, "n 478 2"],
    after_landmarks: Float[np.ndarray, "n 478 2"],
) -> Float[np.ndarray, "n 2 width"]:
    """The faces of two pictures of each frame, described; NaN where either has no face.

    Args:
        describe: describes one.
        before: RGB pictures.
        after: pictures after the edit, as many.
        before_landmarks: in px of the pictures; NaN where there is no face.
        after_landmarks: in px of the pictures after.

    Raises:
        Unavailable: no frame has a face in both pictures.
    """
    known = np.isfinite(before_landmarks).all(axis=(1, 2)) & np.isfinite(after_landmarks).all(axis=(1, 2))
    if not known.any():
        raise Unavailable("no frame has a face in both pictures")
    faces = {
        index: np.stack([describe(old, before_landmarks[index]), describe(new, after_landmarks[index])])
        for index, (old, new) in enumerate(zip(before, after, strict=True))
        if known[index]
    }
    described = np.full((len(known), *next(iter(faces.values())).shape), np.nan)
    for index, pair in faces.items():
        described[index] = pair
    return described
