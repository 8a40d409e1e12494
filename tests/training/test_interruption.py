"""Ctrl-C and SIGTERM, also while kernels are compiled."""

import signal
import subprocess
import sys
import threading
import time

import pytest

from ntalker_ns.training.interruption import Interrupted, interruptible

COMPILING = """
import sys
import numba
from ntalker_ns.training.interruption import interruptible
lines = "".join(f"    x += (x * {i} + x ** {i % 7}) % {i + 3}\\n" for i in range(4000))
exec(f"def kernel(x):\\n{lines}    return x\\n")
with interruptible() as interruption:
    interruption.in_steps = sys.argv[1] == "True"
    print("begin", flush=True)
    numba.njit(kernel)(1.0)
print("compiled")
"""


@pytest.mark.parametrize(
    ("number", "in_steps"), [(signal.SIGTERM, False), (signal.SIGTERM, True), (signal.SIGINT, True)]
)
def test_a_compilation_is_ended(number: signal.Signals, in_steps: bool):
    arguments = [sys.executable, "-c", COMPILING, str(in_steps)]
    program = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    assert program.stdout is not None and program.stdout.readline() == "begin\n"
    time.sleep(1.5)
    program.send_signal(number)
    assert program.wait(timeout=60) == 128 + number
    assert program.stdout.read() == ""


def test_within_steps_the_first_signal_waits_for_the_check_and_the_second_does_not():
    with interruptible() as interruption:
        interruption.in_steps = True
        signal.raise_signal(signal.SIGINT)
        assert interruption.number == signal.SIGINT
        with pytest.raises(Interrupted) as ended:
            interruption.check()
        assert ended.value.code == 130
        with pytest.raises(Interrupted):
            signal.raise_signal(signal.SIGINT)


def test_outside_of_the_main_thread_signals_are_left_alone():
    handlers: list[object] = []

    def look() -> None:
        with interruptible():
            handlers.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert handlers == [before]
