"""Data sets of AD-NeRF, RAD-NeRF and ER-NeRF: the same head as in our format must come out."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from support.synthetic_clip import KEYPOINTS, front, plate, poses, project, render, true_keypoints
from support.tiny_run import tiny_config

from ntalker_ns.audio.windows import windows_of_track
from ntalker_ns.data.head_removal import HEAD, LIPS, MOUTH_INTERIOR, TORSO
from ntalker_ns.data.radnerf import read_radnerf_clip, to_our_world
from ntalker_ns.data.readers import read_clip
from ntalker_ns.driving.build import write_driving
from ntalker_ns.errors import NTalkerError
from ntalker_ns.face.mesh_indices import IBUG
from ntalker_ns.talker_datamanager import TalkerDataManagerConfig
from ntalker_ns.talker_dataparser import TalkerDataParserConfig, read_training_clip

FRAMES, SIZE, HELD_OUT = 12, 64, 2
FOCAL = 1.9 * SIZE
THEIR_COLOURS = {"blue": {HEAD: (255, 0, 0), TORSO: (0, 0, 255)}, "red": {HEAD: (0, 0, 255), TORSO: (255, 0, 0)}}
"""Of head and torso in OpenCV's channel order, as tools write them."""


def landmark_points() -> np.ndarray:
    """68 points of the head: jaw, brows, eyes, nose and a mouth that is a little open."""
    points = np.array([front(*place) for place in np.random.default_rng(0).uniform(-0.3, 0.3, (68, 2))])
    for i in range(17):
        angle = np.pi * (i / 16 - 0.5)
        points[i] = front(0.42 * np.sin(angle), -0.7 * np.cos(angle))
    for name, indices in IBUG.keypoints.items():
        points[list(indices)] = front(*KEYPOINTS[name])
    for first, count, width, height in ((48, 12, 0.16, 0.08), (60, 8, 0.1, 0.04)):
        for i in range(count):
            angle = np.pi - 2 * np.pi * i / count
            points[first + i] = front(width * np.cos(angle), KEYPOINTS["mouth"][1] + height * np.sin(angle))
    for first, name in ((36, "right_eye"), (42, "left_eye")):
        for i, (dx, dz) in enumerate(
            ((-0.05, 0), (-0.02, 0.02), (0.02, 0.02), (0.05, 0), (0.02, -0.02), (-0.02, -0.02))
        ):
            points[first + i] = front(KEYPOINTS[name][0] + dx, KEYPOINTS[name][1] + dz)
    points[27] = front(0, 0.2)
    return points


def their_pose(pose: np.ndarray) -> list[list[float]]:
    """Our camera in their world: y up, face to +z, a quarter of the size."""
    turned = np.array([[1, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]]) @ pose
    turned[:3, 3] /= 4
    return turned.tolist()


NECK = (90, 60, 40)
"""What the torso pictures show behind the head, RGB."""


def torso_picture(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The torso alone, RGBA, a neck painted in below the middle of the head."""
    torso = np.zeros((SIZE, SIZE, 4), np.uint8)
    behind = (labels >= HEAD) & (np.arange(SIZE)[:, None] > SIZE / 2)
    torso[behind] = (*NECK, 255)
    torso[labels == TORSO] = np.append(image, np.full((SIZE, SIZE, 1), 255, np.uint8), axis=-1)[labels == TORSO]
    return torso


def write_radnerf_clip(folder: Path, head_colour: str = "blue", images: str = "gt_imgs", start: int = 3) -> Path:
    """Writes a data set as RAD-NeRF's process.py does; frames are numbered from `start`."""
    for name in (images, "ori_imgs", "parsing", "torso_imgs"):
        (folder / name).mkdir(parents=True)
    splits: dict[str, list] = {"train": [], "val": []}
    colours = THEIR_COLOURS[head_colour]
    for i, pose in enumerate(poses(FRAMES)):
        image, labels = render(pose, SIZE, FOCAL)
        parsing = np.full((SIZE, SIZE, 3), 255, np.uint8)
        parsing[labels >= HEAD], parsing[labels == TORSO] = colours[HEAD], colours[TORSO]
        parsing[(labels == TORSO) & (np.arange(SIZE)[:, None] < 0.8 * SIZE)] = (0, 255, 0)
        number = start + i
        cv2.imwrite(str(folder / images / f"{number}.jpg"), image[..., ::-1])
        cv2.imwrite(str(folder / "parsing" / f"{number}.png"), parsing)
        torso = torso_picture(image, labels)
        cv2.imwrite(str(folder / "torso_imgs" / f"{number}.png"), cv2.cvtColor(torso, cv2.COLOR_RGBA2BGRA))
        seen = project(landmark_points(), pose, FOCAL, (SIZE / 2, SIZE / 2))
        np.savetxt(folder / "ori_imgs" / f"{number}.lms", seen, "%f")
        frame = {"img_id": number, "aud_id": number, "transform_matrix": their_pose(pose)}
        splits["train" if i < FRAMES - HELD_OUT else "val"].append(frame)
    for name, frames in splits.items():
        meta = {"focal_len": FOCAL, "cx": SIZE / 2, "cy": SIZE / 2, "frames": frames[::-1]}
        (folder / f"transforms_{name}.json").write_text(json.dumps(meta))
    cv2.imwrite(str(folder / "bc.jpg"), plate(SIZE)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 100])
    rows = start + FRAMES - 1  # One fewer than frames: their audio often ends early.
    np.save(folder / "aud_eo.npy", np.random.default_rng(1).normal(size=(rows, 16, 44)))
    return folder


@pytest.fixture
def folder(tmp_path):
    return write_radnerf_clip(tmp_path / "obama")


def test_cameras_come_out_in_our_world(folder):
    clip = read_clip(folder)
    np.testing.assert_allclose(clip.camera_to_worlds, poses(FRAMES)[:, :3], atol=1e-5)
    assert clip.intrinsics == (FOCAL, FOCAL, SIZE / 2, SIZE / 2) and clip.size == (SIZE, SIZE)
    rotations = clip.camera_to_worlds[:, :, :3]
    np.testing.assert_allclose(np.linalg.det(rotations), 1, atol=1e-5)


def test_axes_and_scale_by_hand():
    matrix = np.eye(4)[None].copy()
    matrix[0, :3, 3] = (0.1, 0.2, 0.9)
    expected = [[1, 0, 0, 0.4], [0, 0, -1, -3.6], [0, 1, 0, 0.8]]
    np.testing.assert_allclose(to_our_world(matrix)[0], expected, atol=1e-6)


def test_keypoints_are_upright_and_face_us(folder):
    driving = TalkerDataParserConfig(data=folder).setup().get_dataparser_outputs("train").metadata["driving"]
    for name, point in true_keypoints().items():
        if name != "mouth":
            np.testing.assert_allclose(driving.rig.keypoints[name], point, atol=1e-2)
    eyes = (driving.rig.keypoints["left_eye"] + driving.rig.keypoints["right_eye"]) / 2
    assert eyes[2] > driving.rig.keypoints["mouth"][2] and driving.rig.keypoints["nose"][1] < eyes[1]


@pytest.mark.parametrize("head_colour", ["blue", "red"])
def test_labels_in_either_channel_order(tmp_path, head_colour):
    clip = read_clip(write_radnerf_clip(tmp_path / "obama", head_colour))
    labels = clip.labels(4)
    _, truth = render(poses(FRAMES)[4], SIZE, FOCAL)
    np.testing.assert_array_equal(labels >= HEAD, truth >= HEAD)
    np.testing.assert_array_equal(labels == TORSO, truth == TORSO)
    mouth = project(front(*KEYPOINTS["mouth"])[None], poses(FRAMES)[4], FOCAL, (SIZE / 2, SIZE / 2))[0]
    assert labels[int(mouth[1]), int(mouth[0])] == MOUTH_INTERIOR
    assert (labels == LIPS).sum() > (labels == MOUTH_INTERIOR).sum() > 0


def test_torso_pictures_say_what_is_behind_the_head(folder):
    clip = read_clip(folder)
    image, labels = render(poses(FRAMES)[4], SIZE, FOCAL)
    torso = clip.torso(4)
    assert torso is not None
    np.testing.assert_array_equal(torso, torso_picture(image, labels))
    driving = TalkerDataParserConfig(data=folder).setup().get_dataparser_outputs("train").metadata["driving"]
    headless_frame = driving.headless_frame(4)
    mouth = project(front(*KEYPOINTS["mouth"])[None], poses(FRAMES)[4], FOCAL, (32, 32))[0]
    assert headless_frame[int(mouth[1]), int(mouth[0])].tolist() == list(NECK)
    forehead = project(front(0, 0.5)[None], poses(FRAMES)[4], FOCAL, (SIZE / 2, SIZE / 2))[0].astype(int)
    np.testing.assert_allclose(headless_frame[forehead[1], forehead[0]], plate(SIZE)[forehead[1], forehead[0]], atol=3)


def test_without_torso_pictures_the_torso_is_continued(folder):
    shutil.rmtree(folder / "torso_imgs")
    clip = read_clip(folder)
    assert clip.torso(4) is None
    driving = TalkerDataParserConfig(data=folder).setup().get_dataparser_outputs("train").metadata["driving"]
    assert not (driving.headless_frame(4) == NECK).all(axis=-1).any()


@pytest.mark.slow
def test_such_a_data_set_trains_a_whole_portrait(folder, tmp_path):
    # Torso and background learn in every other step.
    config = tiny_config(folder, tmp_path / "outputs", max_num_iterations=120)
    config.set_timestamp()
    trainer = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    model = trainer.pipeline.model
    held_out = trainer.pipeline.datamanager.eval_dataset

    def error() -> tuple[float, float]:
        trainer.pipeline.eval()
        outputs, item = model.get_outputs_for_camera(held_out.cameras[0:1]), held_out[0]
        beside = item["labels"] < HEAD
        squared = (outputs["rgb"] - item["image"]).square().mean(dim=-1)[beside].mean()
        behind = (outputs["torso_opacity"][..., 0] - (item["labels"] == TORSO).float()).abs()[beside].mean()
        return float(squared), float(behind)

    before = error()
    trainer.pipeline.train()
    trainer.train()
    after = error()
    assert after[0] < 0.3 * before[0] and after[1] < 0.5 * before[1]


def test_their_split_is_kept(folder):
    parser = TalkerDataParserConfig(data=folder).setup()
    assert parser.get_dataparser_outputs("val").metadata["frame_indices"].tolist() == [10, 11]
    names = [path.name for path in parser.get_dataparser_outputs("train").image_filenames]
    assert names == [f"{number}.jpg" for number in range(3, 13)]


def test_features_are_looked_up_by_audio_number(folder):
    rows = np.load(folder / "aud_eo.npy").astype(np.float32)
    features, info = read_clip(folder).features(None)
    np.testing.assert_array_equal(features, rows[[*range(3, 14), 13]])
    assert info.extractor == "wav2vec2" and info.channels == 44
    assert info.model == "cpierse/wav2vec2-large-xlsr-53-esperanto"


@pytest.mark.parametrize(("name", "channels"), [("aud", 29), ("aud_ds", 29)])
def test_other_feature_files_are_recorded_by_name(folder, name, channels):
    (folder / "aud_eo.npy").unlink()
    np.save(folder / f"{name}.npy", np.zeros((20, 16, channels), np.float32))
    features, info = read_clip(folder).features(None)
    assert features.shape == (FRAMES, 16, channels) and info.extractor == name


def test_hubert_files_of_two_steps_a_frame_become_windows(folder):
    steps = np.random.default_rng(0).normal(size=(20, 2, 1024)).astype(np.float32)
    np.save(folder / "aud_hu.npy", steps)
    features, info = read_clip(folder).features("aud_hu")
    np.testing.assert_array_equal(features, windows_of_track(steps.reshape(40, 1024), 20)[3:15])
    assert info.extractor == "hubert" and info.window == 16 and info.channels == 1024


def test_blinks_come_from_action_units(folder):
    blink = np.linspace(0, 4, 3 + FRAMES)
    lines = ["frame, AU01_r, AU45_r", *(f"{i}, 0.5, {value}" for i, value in enumerate(blink))]
    (folder / "au.csv").write_text("\n".join(lines))
    np.testing.assert_allclose(read_clip(folder).eye_openness, 1 - np.clip(blink[3:], 0, 2) / 2, atol=1e-6)
    (folder / "au.csv").write_text("frame, AU01_r\n1, 2")
    with pytest.raises(NTalkerError, match="no column AU45_r"):
        read_clip(folder)


def test_mouth_opening_and_boxes_come_from_landmarks(folder):
    clip = read_clip(folder)
    seen = project(landmark_points(), poses(FRAMES)[5], FOCAL, (SIZE / 2, SIZE / 2))
    gap = np.mean([np.linalg.norm(seen[a] - seen[b]) for a, b in ((61, 67), (62, 66), (63, 65))])
    np.testing.assert_allclose(clip.mouth_opening[5], gap / np.linalg.norm(seen[27] - seen[8]), rtol=1e-4)
    x0, y0, x1, y1 = clip.lip_boxes[5]
    lips = seen[48:68]
    assert x0 < lips[:, 0].min() and y0 < lips[:, 1].min() and x1 > lips[:, 0].max() and y1 > lips[:, 1].max()


def test_without_action_units_eyes_come_from_landmarks(folder):
    assert (read_clip(folder).eye_openness >= 0).all() and (read_clip(folder).eye_openness <= 1).all()
    path = folder / "ori_imgs/8.lms"
    points = np.loadtxt(path)
    points[[41, 40, 47, 46]] = points[[37, 38, 43, 44]]
    np.savetxt(path, points, "%f")
    assert read_clip(folder).eye_openness.argmin() == 5


def test_without_a_blink_noise_of_the_landmarks_is_none(folder):
    rng = np.random.default_rng(0)
    for path in (folder / "ori_imgs").glob("*.lms"):
        points = np.loadtxt(path)
        for upper, lower in ((37, 41), (38, 40), (43, 47), (44, 46)):
            gap = points[lower] - points[upper]
            points[lower] += 0.03 * rng.normal() * gap
        np.savetxt(path, points, "%f")
    assert read_clip(folder).eye_openness.min() > 0.8


def test_frames_without_landmarks_are_bridged(folder):
    (folder / "ori_imgs/7.lms").unlink()
    clip = read_clip(folder)
    assert np.isnan(clip.landmarks[4]).all() and np.isnan(clip.mouth_opening[4])
    np.testing.assert_array_equal(clip.face_boxes[4], clip.face_boxes[3])
    assert (clip.labels(4) == HEAD).any() and not (clip.labels(4) > HEAD).any()


def test_ad_nerfs_image_folder(tmp_path):
    clip = read_clip(write_radnerf_clip(tmp_path / "obama", images="com_imgs"))
    assert clip.image_paths[0].parent.name == "com_imgs"


def test_a_run_can_be_prepared_and_sampled(folder, tmp_path):
    config = TalkerDataParserConfig(data=folder)
    write_driving(*read_training_clip(config), tmp_path / "driving")
    config.driving = tmp_path / "driving"
    rays, batch = TalkerDataManagerConfig(dataparser=config, rays_per_step=64).setup(device="cpu").next_train(0)
    assert len(rays) == 64 and bool((batch["labels"] >= HEAD).any())


def test_cut_clips_keep_their_audio(folder):
    clip = read_radnerf_clip(folder)
    np.testing.assert_array_equal(clip.first(4).features(None)[0], clip.features(None)[0][:4])


def rewrite(folder: Path, edit) -> None:
    path = folder / "transforms_train.json"
    meta = json.loads(path.read_text())
    edit(meta)
    path.write_text(json.dumps(meta))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda folder: (folder / "gt_imgs/5.jpg").unlink(), r"images .*5\.jpg \(frame 2\)"),
        (lambda folder: (folder / "parsing/6.png").unlink(), r"masks .*6\.png \(frame 3\)"),
        (lambda folder: (folder / "aud_eo.npy").unlink(), "no audio features"),
        (lambda folder: (folder / "torso_imgs/4.png").unlink(), r"torso_imgs.*4\.png .*frame 1"),
        (lambda folder: cv2.imwrite(str(folder / "torso_imgs/4.png"), np.zeros((SIZE, SIZE, 3))), "alpha"),
        (lambda folder: (folder / "ori_imgs/5.lms").write_text("1 2 3"), "68 landmarks"),
        (lambda folder: [path.unlink() for path in (folder / "ori_imgs").glob("*.lms")], "of none of the 12 frames"),
        (lambda folder: rewrite(folder, lambda meta: meta.pop("focal_len")), "focal_len"),
        (lambda folder: rewrite(folder, lambda meta: meta["frames"][0].pop("img_id")), "img_id"),
        (lambda folder: np.save(folder / "aud_eo.npy", np.zeros((20, 16), np.int64)), "shape"),
        (lambda folder: np.save(folder / "aud_eo.npy", np.zeros((20, 5, 44), np.float32)), "5 steps"),
        (
            lambda folder: np.save(folder / "aud_eo.npy", np.zeros((8, 16, 44), np.float32)),
            r"has 8 rows, and 7 of the 12 frames have none \(the last needs row 14\)",
        ),
        (lambda folder: (folder / "au.csv").write_text("AU45_r\n1\n0\n"), "au.csv has 2 rows, and 12 of the 12"),
    ],
)
def test_broken_data_sets_end_in_a_sentence(folder, edit, message):
    edit(folder)
    with pytest.raises(NTalkerError, match=message):
        clip = read_clip(folder)
        clip.features(None)
        clip.torso(1)
