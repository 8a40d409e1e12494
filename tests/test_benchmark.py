"""The benchmark, each of its sections in miniature."""

import json
import math
from pathlib import Path

import pytest
import torch
from test_scripts import script

from ntalker_ns.errors import NTalkerError
from ntalker_ns.evaluation.speed import encodings, timing

CPU = torch.device("cpu")


def test_the_fastest_of_several_runs_counts(monkeypatch: pytest.MonkeyPatch):
    clock = iter([0.0, 9.0, 9.0, 12.0, 12.0, 14.0])
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock))
    runs: list[int] = []
    found = timing.fastest({"it": lambda: runs.append(1)}, repeats=2, device=CPU, title="test")
    assert found == {"it": 2000.0}
    assert len(runs) == 3


def test_encodings_beside_their_peer(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    benchmark = script("benchmark")
    sizes = encodings.EncodingSizes(points=100, levels=3, max_resolution=32, log2_hashmap_size=8)
    path = tmp_path / "speed.json"
    benchmark.Benchmark(sections=("encodings",), encodings=sizes, repeats=1, device="cpu", json=path).main()
    written = json.loads(path.read_text())
    found = written["sections"]["encodings"]
    assert {encodings.PEER, "torch 3D", "numba 3D", "numba 2D"} == set(found["milliseconds"])
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


def test_a_device_that_is_not_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(NTalkerError, match="no CUDA device"):
        script("benchmark").Benchmark(device="cuda").main()
