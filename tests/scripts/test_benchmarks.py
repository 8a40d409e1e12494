"""The benchmark, each of its sections in miniature."""

import json
import math
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from support.tiny_clip import write_tiny_clip
from support.tiny_run import tiny_config
from torch.autograd import DeviceType  # pyright: ignore[reportPrivateImportUsage]

from ntalker_ns import runs
from ntalker_ns.errors import NTalkerError
from scripts.benchmarks import ceilings, encodings, kernels, run, steps, timing
from scripts.benchmarks.ceilings import Ceilings, Work, kernel_milliseconds, measure_ceilings
from scripts.benchmarks.curve import CurveSizes, held_out, measure_curves, scores
from scripts.benchmarks.frames import MOVING, REFINED, STILL, FrameSizes, pixel_rays, resized
from scripts.benchmarks.gaussians import PASSES, GaussianSizes
from scripts.benchmarks.kernels import KernelResult
from scripts.benchmarks.precision import PrecisionSizes
from scripts.benchmarks.steps import OURS, PEER, StepSizes
from scripts.benchmarks.training import resume_ours

CPU = torch.device("cpu")


def test_the_fastest_of_several_runs_counts(monkeypatch: pytest.MonkeyPatch):
    clock = iter([0.0, 9.0, 9.0, 12.0, 12.0, 14.0])
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock))
    runs: list[int] = []
    found = timing.fastest({"it": lambda: runs.append(1)}, repeats=2, device=CPU, title="test")
    assert found == {"it": 2000.0}
    assert len(runs) == 3


def test_encodings_beside_their_peer(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    benchmark = run
    sizes = encodings.EncodingSizes(points=100, levels=3, max_resolution=32, log2_hashmap_size=8)
    path = tmp_path / "speed.json"
    benchmark.Benchmark(sections=("encodings",), encodings=sizes, repeats=1, device="cpu", json=path).main()
    written = json.loads(path.read_text())
    found = written["sections"]["encodings"]
    assert {encodings.PEER, "reference 3D", "numba 3D", "numba 2D"} == set(found["milliseconds"])
    assert set(found["left_out"]) == {"triton", "tcnn"}
    for name, passes in found["milliseconds"].items():
        for title, milliseconds in passes.items():
            assert milliseconds > 0
            ratio = found["milliseconds"][encodings.PEER][title] / milliseconds
            assert math.isclose(found["times_the_speed_of_nerfstudio"][name][title], ratio)
    assert torch.__version__.startswith(written["machine"]["versions"]["torch"])
    assert written["machine"]["date"] and written["settings"]["repeats"] == "1"
    assert "numba 3D" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == [path]


def test_gaussians_of_each_number_and_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "speed.json"
    sizes = GaussianSizes(counts=(20, 30), pictures=(24,))
    run.Benchmark(sections=("gaussians",), gaussians=sizes, repeats=1, device="cpu", json=path).main()
    found = json.loads(path.read_text())["sections"]["gaussians"]
    names = {f"{count} Gaussians, 24 px, {name}" for count in (20, 30) for name in PASSES[:2]}
    assert set(found) == names and min(found.values()) > 0
    assert "Gaussians rasterised" in capsys.readouterr().out


def test_a_device_that_is_not_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(NTalkerError, match="no CUDA device"):
        run.Benchmark(sections=("encodings",), device="cuda").main()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run of a tiny head; gives its config.yml."""
    folder = tmp_path_factory.mktemp("benchmark")
    config = tiny_config(write_tiny_clip(folder / "data"), folder / "outputs")
    config.pipeline.model.backend = "numba"
    config.data = config.pipeline.datamanager.data
    return runs.train_config(config)


def test_step_and_frames_of_a_run_beside_nerfacto(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "speed.json"
    run.Benchmark(
        sections=("step", "frames"),
        load_config=tiny,
        step=StepSizes(rays=64, steps=2, peer_steps=1),
        frames=FrameSizes(sizes=(16, 24), frames=2, peer_rays=16),
        device="cpu",
        json=path,
    ).main()
    sections = json.loads(path.read_text())["sections"]
    steps = sections["step"]["steps"]
    assert steps[OURS]["rays"] == steps[PEER]["rays"] == 64
    assert steps[PEER]["samples"] == 64 * 400
    for speed in steps.values():
        assert math.isclose(speed["rays_per_second"], speed["rays"] / speed["seconds"])
        assert 0 < speed["added_gib"] <= speed["peak_gib"] or speed["added_gib"] == 0
    breakdown = sections["step"]["breakdown_of_our_step"]
    assert math.isclose(sum(breakdown.values()), 1.0)
    parts = {
        "matrix products",
        "encodings",
        "both in one kernel",
        "marching",
        "compositing",
        "drawing pixels",
        "optimiser",
        "everything else",
    }
    assert {name for name, fraction in breakdown.items() if fraction > 0} == parts
    breakdown = sections["frames"]["breakdown_of_our_frame"]
    assert math.isclose(sum(breakdown.values()), 1.0)
    # The torso is shown as a picture: no encoding is left outside of the head's kernel.
    parts = {"matrix products", "both in one kernel", "marching", "everything else"}
    assert {name for name, fraction in breakdown.items() if fraction > 0} == parts
    rates = sections["frames"]["frames_per_second"]
    assert set(rates) == {"16", "24"}
    assert all(rate > 0 for each in rates.values() for rate in each.values())
    assert all(set(each) == {MOVING, STILL, REFINED, "nerfacto"} for each in rates.values())
    out = capsys.readouterr().out
    assert "nerfacto" in out and "scaled from 16 rays" in out


def test_waits_of_the_host_are_what_torch_warns_of(monkeypatch: pytest.MonkeyPatch):
    assert timing.synchronisations(lambda: None, 2) is None or torch.cuda.is_available()
    modes: list[object] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: 0)
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)

    def step() -> None:
        assert modes == ["warn"]
        warnings.warn("called a synchronizing CUDA operation", stacklevel=1)
        warnings.warn("something else", stacklevel=1)

    assert timing.synchronisations(step, 3) == 1.0
    assert modes == ["warn", 0]


def test_a_continued_run_has_a_folder_of_its_own(tiny: Path, tmp_path: Path):
    before = {path: path.read_bytes() for path in tiny.parent.rglob("*") if path.is_file()}
    training = resume_ours(tiny, tmp_path, CPU)
    assert training.config.get_base_dir().is_relative_to(tmp_path)
    assert {path: path.read_bytes() for path in tiny.parent.rglob("*") if path.is_file()} == before


def test_pictures_in_half_precision(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "precision.json"
    run.Benchmark(
        sections=("precision",),
        load_config=tiny,
        precision=PrecisionSizes(sizes=(16, 24), frames=2),
        device="cpu",
        json=path,
    ).main()
    found = json.loads(path.read_text())["sections"]["precision"]
    assert set(found) == {"16", "24"}
    for each in found.values():
        assert list(each) == ["float32", "float16", "bfloat16"]
        assert each["float32"]["worst"] == 0 and each["float32"]["to_float32"] == 100
        # float16 has three bits more than bfloat16: a factor of eight, 18 dB.
        assert 0 < each["float16"]["worst"] < each["bfloat16"]["worst"] < 10
        assert each["bfloat16"]["to_float32"] + 10 < each["float16"]["to_float32"] < 100
        for loss in each.values():
            assert loss["truth"] == pytest.approx(each["float32"]["truth"], abs=0.2)
            assert loss["truth_on_head"] == pytest.approx(each["float32"]["truth_on_head"], abs=0.2)
    assert "bfloat16" in capsys.readouterr().out


@pytest.mark.parametrize("room", [16, 1, 0])
def test_nerfacto_takes_as_many_rays_as_a_gpu_has_room_for(room: int, monkeypatch: pytest.MonkeyPatch):
    asked: list[int] = []

    def measured(ours: object, rays: int, count: int) -> int:
        asked.append(rays)
        if rays > room:
            raise torch.cuda.OutOfMemoryError("no room")
        return rays

    monkeypatch.setattr(steps, "nerfacto_speed", measured)
    ours: Any = None
    if room:
        assert steps.fitting_nerfacto(ours, StepSizes(rays=64)) == room
    else:
        with pytest.raises(NTalkerError, match="does not fit"):
            steps.fitting_nerfacto(ours, StepSizes(rays=64))
    assert asked == [rays for rays in (64, 32, 16, 8, 4, 2, 1) if 2 * rays > room]


def test_curves_of_ours_and_nerfacto(tiny: Path, tmp_path: Path):
    training = resume_ours(tiny, tmp_path, CPU)
    assert training.steps == 8
    curves = measure_curves(training, CurveSizes(seconds=0.2, points=2, peer_rays=16, frames=2, pixels=50)).to_dict()
    assert list(curves) == ["ours", "nerfacto (torch)"]
    for points in curves.values():
        assert isinstance(points, list) and len(points) == 2
        assert points[1]["seconds"] >= 0.2 and points[0]["seconds"] >= 0.1
        assert points[1]["steps"] >= points[0]["steps"] > 0
        assert all(0 < point[name] < 60 for point in points for name in ("psnr", "head_psnr"))


def test_scored_pixels_of_a_perfect_head(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Whoever renders the true frames, off by a tenth, has 20 dB everywhere."""
    training = resume_ours(tiny, tmp_path, CPU)
    frames = held_out(training.pipeline, CurveSizes(frames=2, pixels=60))
    dataset = training.pipeline.datamanager.eval_dataset
    assert [frame.index for frame in frames] == [0, len(dataset) - 1]
    truths = iter([dataset[frame.index]["image"] for frame in frames])
    off = [torch.where(truth > 0.5, truth - 0.1, truth + 0.1) for truth in truths]
    pictures = iter([{"rgb": each} for each in off])
    monkeypatch.setattr(training.model, "get_outputs_for_camera", lambda camera: next(pictures))
    psnr, head_psnr = scores(training.pipeline, frames)
    assert psnr == pytest.approx(20.0) and head_psnr == pytest.approx(20.0)


def test_the_same_view_in_another_size(tiny: Path, tmp_path: Path):
    camera = resume_ours(tiny, tmp_path, CPU).pipeline.datamanager.eval_dataset.cameras[:1]
    small = resized(camera, 20)
    assert (int(small.width), int(small.height)) == (20, 20)
    assert float(small.fx) == pytest.approx(float(camera.fx) / 2)
    every = small.generate_rays(camera_indices=0).flatten()
    some = pixel_rays(small, np.array([0, 27, 399]))
    torch.testing.assert_close(some.directions, every.directions[[0, 27, 399]])


@pytest.mark.parametrize("section", ["curve", "step", "frames", "precision"])
def test_what_a_section_needs_is_a_sentence(section: run.Section):
    with pytest.raises(NTalkerError, match="--data"):
        run.Benchmark(sections=(section,)).main()


def test_kernels_need_a_gpu(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(NTalkerError, match="CUDA"):
        run.Benchmark(sections=("kernels",), device="cpu").main()


def test_a_kernel_that_differs_is_an_error():
    def results(**differences: float) -> kernels.KernelResults:
        found = {name: KernelResult(each, 1e-4, 1.0, 2.0, None, None) for name, each in differences.items()}
        return kernels.KernelResults(found, None)

    with pytest.raises(NTalkerError, match="references: bad;"):
        results(good=1e-5, bad=1.0).require_agreement()
    with pytest.raises(NTalkerError, match="odd"):
        results(odd=math.nan).require_agreement()


def test_what_bounds_a_kernel_is_the_slower_of_memory_and_products():
    measured = Ceilings(bytes_per_second=1e12, float32_flops=1e13, float16_flops=1e14)
    # 4e9 bytes take 4 ms at least, 2e10 operations 2 ms in float32 and 0.2 ms in float16.
    assert measured.fraction(Work(4_000_000_000, 20_000_000_000), milliseconds=8.0) == ("memory", pytest.approx(0.5))
    assert measured.fraction(Work(1_000_000_000, 20_000_000_000), milliseconds=8.0) == ("products", pytest.approx(0.25))
    half = Work(100_000_000, 20_000_000_000, half=True)
    assert measured.fraction(half, milliseconds=0.8) == ("products", pytest.approx(0.25))


def test_ceilings_and_the_time_of_kernels_are_measured():
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found = measure_ceilings(device, repeats=1, width=64)
    assert min(found.bytes_per_second, found.float32_flops, found.float16_flops) > 0
    ones = torch.ones(1000, device=device)
    alone = kernel_milliseconds({"add": lambda: ones + 1}, device, times=3)
    assert not alone if device.type == "cpu" else alone["add"] > 0


def test_kernels_count_for_the_case_that_ran_when_they_started():
    def event(name: str, where: DeviceType, start: float, end: float) -> SimpleNamespace:
        span = SimpleNamespace(start=start, end=end, elapsed_us=lambda: end - start)
        return SimpleNamespace(name=name, device_type=where, time_range=span)

    events = [
        *(event("case: one", where, 0.0, 100.0) for where in (DeviceType.CPU, DeviceType.CUDA)),
        event("case: two", DeviceType.CPU, 100.0, 900.0),
        event("kernel", DeviceType.CUDA, 20.0, 60.0),
        event("kernel", DeviceType.CUDA, 60.0, 80.0),
        event("other", DeviceType.CUDA, 100.0, 880.0),
    ]
    assert ceilings.milliseconds_by_case(events, times=2) == {"one": pytest.approx(0.03), "two": pytest.approx(0.39)}


def test_the_table_names_the_ceiling():
    found = KernelResult(1e-5, 1e-4, 1.0, 2.0, 0.5, ("memory", 0.42))
    table = kernels.KernelResults({"one": found}, Ceilings(3e12, 5e13, 8e14)).table()
    assert list(table.columns[-1].cells) == ["42% memory"]
    assert "3,000 GB/s" in str(table.caption) and "800 TFLOP/s" in str(table.caption)
