"""Labels: colours and places sort hair from neck and clothes."""

import cv2
import numpy as np
from support.drawn_person import CLOTH, HAIR, ROOM, SIZE, landmarks, portrait

from ntalker_ns.capture import colours, parsing
from ntalker_ns.data.head_removal import BACKGROUND, HEAD, LIPS, MOUTH_INTERIOR, TORSO
from ntalker_ns.face import mesh_indices


def parse(hair_to: int) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    frames = [portrait(hair_to, seed, shift) for seed, shift in enumerate((-6.0, -2.0, 2.0, 6.0))]
    parser = parsing.fit_head_parser([f[0] for f in frames], [f[1] for f in frames], [f[2] for f in frames])
    return [(parser(image, person, points), person, head) for image, person, points, head in frames]


def test_long_hair_is_head_and_neck_and_cloth_are_torso():
    for labels, person, head in parse(hair_to=225):
        found = labels >= HEAD
        assert (found & head).sum() / (found | head).sum() > 0.93
        neck = np.zeros_like(person)
        neck[165:195, 115:140] = True
        assert (labels[neck] == TORSO).mean() > 0.95
        assert (labels[240:, 60:200] == TORSO).mean() > 0.95
        assert (labels[~person] == BACKGROUND).mean() > 0.995


def test_short_hair_ends_at_the_jaw():
    for labels, _, head in parse(hair_to=120):
        found = labels >= HEAD
        assert (found & head).sum() / (found | head).sum() > 0.93


def test_the_mouth_is_painted_from_its_outlines():
    labels = parsing.paint_mouth(np.full((SIZE, SIZE), HEAD, np.uint8), landmarks())
    assert labels[138, 128] == MOUTH_INTERIOR and labels[133, 128] == LIPS and labels[120, 128] == HEAD
    assert (labels == LIPS).sum() + (labels == MOUTH_INTERIOR).sum() < np.pi * 15 * 7


def test_a_closed_mouth_has_no_inside():
    points = landmarks()
    points[mesh_indices.INNER_LIPS, 1] = 138.0
    assert not (parsing.paint_mouth(np.zeros((SIZE, SIZE), np.uint8), points) == MOUTH_INTERIOR).any()


def test_a_filled_polygon_has_its_area_and_pixel_centres():
    square = np.array([[10.0, 20.0], [30.0, 20.0], [30.0, 50.0], [10.0, 50.0]])
    mask = parsing.fill_polygon(square, 64)
    assert abs(int(mask.sum()) - 600) <= 60
    assert mask[35, 20] and not mask[35, 31] and not mask[18, 20]


def test_the_map_reads_the_same_from_pictures_and_from_lists():
    rng = np.random.default_rng(0)
    hair_map = rng.normal(size=(len(parsing.MAP_UP), len(parsing.MAP_ACROSS))).astype(np.float32)
    across, up = rng.uniform(-1.3, 1.3, (2, 8, 8)).astype(np.float32) * np.array([1.0, 0.7], np.float32).reshape(
        2, 1, 1
    )
    grid = parsing.look_up(hair_map, parsing.FaceCoordinates(across, up))
    flat = parsing.look_up(hair_map, parsing.FaceCoordinates(across.ravel(), up.ravel()))
    assert np.allclose(grid.ravel(), flat, atol=0.1)  # cv2 interpolates in steps of 1/32 cell


def test_trimming_removes_background_at_the_rim_only():
    image, person, _, _ = portrait(120, 0)
    plate = np.full_like(image, ROOM)
    loose = cv2.dilate(person.astype(np.uint8), np.ones((13, 13), np.uint8)).astype(bool)
    image[100:104, 120:124] = ROOM  # looks like the room, but lies inside the face
    trimmed = parsing.trim_matte(loose, image, plate, np.ones_like(person))
    assert (trimmed ^ person).mean() < 0.5 * (loose ^ person).mean()
    assert trimmed[100:104, 120:124].all()
    unseen = parsing.trim_matte(loose, image, plate, np.zeros_like(person))
    assert (unseen ^ loose).mean() < 0.005


def test_colours_seen_only_on_one_side_decide_and_others_do_not():
    lab = colours.to_lab(np.array([[HAIR, CLOTH, (0, 255, 0)]], np.uint8))
    examples = np.repeat(lab[0, :2], 100, axis=0)
    model = colours.fit_colour_model(examples, np.repeat([1.0, 0.0], 100), np.repeat([0.0, 1.0], 100))
    odds = model(lab)[0]
    assert odds[0] > 3 and odds[1] < -3 and abs(odds[2]) < 1e-3
