"""The command: sentences and exit codes, a quick start, and a doctor that says what is there."""

import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from ntalker_ns.capture.dataset import DatasetWriter
from ntalker_ns.capture.process import Report
from ntalker_ns.cli import doctor
from ntalker_ns.cli.main import run
from ntalker_ns.cli.process import print_summary
from ntalker_ns.cli.run import run_command
from ntalker_ns.errors import NTalkerError


@dataclass
class Fails:
    error: BaseException

    def main(self) -> None:
        raise self.error


def test_an_error_is_one_sentence_and_exit_code_1(capsys: pytest.CaptureFixture[str]):
    assert run_command(Fails(NTalkerError("There is no [clip] at here.mp4."))) == 1
    captured = capsys.readouterr()
    assert captured.err == "Error: There is no [clip] at here.mp4.\n"
    assert captured.out == ""


def test_an_interruption_is_exit_code_130(capsys: pytest.CaptureFixture[str]):
    assert run_command(Fails(KeyboardInterrupt())) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_a_process_that_is_told_to_end_tidies_up(tmp_path: Path):
    @dataclass
    class Writes:
        def main(self) -> None:
            with DatasetWriter(tmp_path / "anna"):
                signal.raise_signal(signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended:
        run_command(Writes())
    assert ended.value.code == 143
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_fault_of_ours_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run_command(Fails(ZeroDivisionError()))


def test_a_file_that_the_machine_refuses_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    full = Fails(OSError(28, "No space left on device", "videos/out.mp4"))
    assert run_command(full) == 1
    assert capsys.readouterr().err == "Error: videos/out.mp4: No space left on device.\n"
    with pytest.raises(OSError):
        run_command(Fails(OSError("of a library")))
    monkeypatch.setattr("ntalker_ns.cli.run.DEVELOPING", True)
    with pytest.raises(OSError):
        run_command(full)


@pytest.mark.parametrize("arguments", [[], ["process"], ["no-such-command"], ["render", "--audio", "x.wav"]])
def test_arguments_that_do_not_parse_end_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        run(arguments)
    assert ended.value.code == 2
    capsys.readouterr()


@pytest.mark.parametrize("command", ["process", "render", "demo", "doctor"])
def test_every_command_has_its_help(command: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        run([command, "--help"])
    assert ended.value.code == 0
    assert f"ntalker {command}" in capsys.readouterr().out


def test_brackets_in_names_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]):
    from rich.console import Console

    figures = ("residual_px", "rotation_jitter_deg", "landmarks_only_residual_px", "landmarks_only_rotation_jitter_deg")
    more = ("texture_deviation", "texture_deviation_landmarks_only", "plate_observed_share", "focal_px")
    more += ("mouth_lag_ms", "mouth_lag_correlation")
    report = Report(
        Path("data [red]/anna [/x]"), 50, {"survey": 1.0}, ["[/b] moves"], dict.fromkeys(figures + more, 1.0)
    )
    print_summary(Console(width=200), report)
    shown = capsys.readouterr().out
    assert "Data set in data [red]/anna [/x]" in shown and "Note: [/b] moves" in shown
    assert "Look at data [red]/anna [/x]/preview.png" in shown


def test_a_clip_that_is_not_there_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    missing = tmp_path / "none.mp4"
    assert run(["process", str(missing), "--output-dir", str(tmp_path / "data")]) == 1
    message = capsys.readouterr().err
    assert str(missing) in message
    assert "Traceback" not in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "option", [("--seconds", "1"), ("--size", "129"), ("--steps", "0"), ("--output-dir", __file__)]
)
def test_the_demo_says_at_once_what_cannot_be(
    option: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert run(["demo", "--output-dir", str(tmp_path / "demo"), *option]) == 1
    assert option[0] in capsys.readouterr().err
    assert not (tmp_path / "demo").exists()


def test_the_command_starts_without_the_heavy_libraries():
    heavy = "torch nerfstudio mediapipe librosa transformers numba av cv2"
    code = f"import sys, ntalker_ns.cli.main; print([m for m in {heavy.split()} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_doctor_finds_what_the_tests_need():
    states = {finding.subject: finding.state for finding in doctor.examine()}
    for subject in ("python", "torch", "backend", "mediapipe", "video and sound", "speech synthesis"):
        assert states[subject] == "ok", subject
    assert "missing" not in states.values()


@pytest.mark.parametrize(
    ("libraries", "found"),
    [
        (
            {"triton": None, "tinycudann": None},
            "reference on cuda; Triton's fused kernels .* but triton cannot be imported",
        ),
        ({"tinycudann": None}, "triton on cuda; tiny-cuda-nn is the alternative, but tinycudann cannot be imported"),
        ({"tinycudann": object()}, "triton on cuda; tiny-cuda-nn is there too and is not chosen"),
    ],
)
def test_the_doctor_says_why_no_faster_backend_is_used(
    libraries: dict[str, object], found: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    for name, module in libraries.items():
        monkeypatch.setitem(sys.modules, name, module)
    finding = next(doctor.CHECKS["kernels"]())
    assert finding.state == "ok"
    assert re.match(found, finding.found)


def test_the_doctor_lists_what_computes_each_operation(monkeypatch: pytest.MonkeyPatch):
    found = {finding.subject.strip(): finding.found for finding in doctor.CHECKS["kernels"]()}
    assert found["fused_field"] == "numba" and found["gate"] == "numba, else reference"
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("ntalker_ns.kernels.triton.sizes.widest_on", lambda device: 0)
    found = {finding.subject.strip(): finding.found for finding in doctor.CHECKS["kernels"]()}
    assert found["march"].startswith("triton") and "too little shared memory" in found["run_mlp"]


def test_the_doctor_reports_a_broken_part_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def broken():
        raise OSError("libsomething.so: cannot open shared object file")
        yield

    monkeypatch.setitem(doctor.CHECKS, "mediapipe", broken)
    assert run(["doctor"]) == 1
    captured = capsys.readouterr()
    assert "libsomething.so" in captured.out
    assert "disk" in captured.out
    assert captured.err.startswith("Error: This installation lacks mediapipe")


def test_the_doctor_finds_weights_in_the_hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert doctor.hub_folder("some/model") == tmp_path / "models--some--model" / "snapshots"
    before = {finding.subject: finding.state for finding in doctor.CHECKS["weights"]()}
    doctor.hub_folder("cpierse/wav2vec2-large-xlsr-53-esperanto").mkdir(parents=True)
    after = {finding.subject: finding.state for finding in doctor.CHECKS["weights"]()}
    assert (before["wav2vec2"], after["wav2vec2"]) == ("optional", "ok")
