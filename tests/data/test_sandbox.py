"""The child process: it computes, and can do nothing else."""

from __future__ import annotations

import os
import socket
import threading
import time
from pathlib import Path

import pytest

from data import sandbox
from data.parse_settings import ParseSettings
from data.sandbox import Limits, run_sandboxed
from geo.errors import CrsError, Fault, InvalidInput, TooLarge, Unavailable
from tests.data.incident_files import deeds

HERE = [sandbox.ROOT / "tests"]


def run(function, *args, **options):
    return run_sandboxed(function, *args, files=HERE + options.pop("files", []), **options)


def test_a_result_comes_back_as_plain_data():
    assert run(deeds.echo, {"a": [1, 2.5, None, "渝"]}) == {"a": [1, 2.5, None, "渝"]}


def test_refusals_arrive_with_every_fault():
    with pytest.raises(CrsError) as caught:
        run(deeds.refuse, "CrsError")
    assert caught.value.faults == (Fault("one", 3, "crs"), Fault("two"))
    with pytest.raises(TooLarge):
        run(deeds.refuse, "TooLarge")


@pytest.mark.parametrize(
    ("deed", "args", "word"),
    [(deeds.die, (11,), "stopped its reader"), (deeds.die, (6,), "stopped its reader"),
     (deeds.raise_key_error, (), "stopped its reader"), (deeds.eat, (1 << 30,), "more memory than the 240 MiB"),
     (deeds.eat_slowly, (), "more memory than the 240 MiB"), (deeds.spin, (), "2 seconds of computing"),
     (deeds.sleep, (60.0,), "longer than 4 seconds"), (deeds.leave, (), "stopped its reader")],
)  # fmt: skip
def test_whatever_ends_the_child_is_told_as_the_file_s_fault(deed, args, word):
    begun = time.monotonic()
    # On a busy machine two seconds of computing take longer than four by the clock.
    seconds = 4 if deed is deeds.sleep else 30
    with pytest.raises(InvalidInput, match=word):
        run(deed, *args, limits=Limits(seconds=seconds, cpu_seconds=2))
    assert time.monotonic() - begun < seconds + 2


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "unix"])
def test_there_is_no_network(address):
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        said = run(deeds.connect, address, listening.getsockname()[1])
    assert said.startswith("PermissionError")


def test_it_is_in_a_network_of_its_own_and_filtered():
    assert {"namespace", "seccomp"} & set(run(deeds.status)["in_force"])
    status = run(deeds.status)
    assert status["no_new_privs"] == 1
    if "seccomp" in status["in_force"]:
        assert status["seccomp"] == 2


@pytest.mark.parametrize(
    "deed", [deeds.start_program, deeds.fork, deeds.kill_parent, deeds.leave_group]
)
def test_no_other_process_is_started_or_touched(deed):
    assert run(deed, os.getpid()).startswith("PermissionError")


def test_only_the_files_named_can_be_read_and_only_scratch_written(tmp_path):
    (tmp_path / "named").write_text("yes")
    (tmp_path / "other").write_text("no")
    files = [tmp_path / "named"]
    assert run(deeds.read, str(tmp_path / "named"), files=files) == "yes"
    if "landlock" not in run(deeds.status)["in_force"]:
        pytest.skip("this kernel has no Landlock")
    for path in (
        str(tmp_path / "other"),
        "/etc/passwd",
        "/proc/1/environ",
        str(sandbox.ROOT / "README.md"),
    ):
        assert run(deeds.read, path, files=files).startswith("PermissionError")
    assert run(deeds.write, str(tmp_path / "new"), files=files).startswith("PermissionError")
    assert run(deeds.write, str(tmp_path / "named"), files=files).startswith("PermissionError")
    assert run(deeds.write_scratch, 10) == 10


def test_a_file_it_writes_has_a_limit():
    assert run(deeds.write_scratch, 5 << 20, limits=Limits(written_mib=1)).startswith("OSError")


def test_the_environment_holds_nothing_of_ours(monkeypatch):
    monkeypatch.setenv("YUTU_SECRET", "x" * 40)
    names = run(deeds.environment)
    assert not [name for name in names if name.startswith("YUTU")]
    assert {"OGR_SKIP", "GDAL_SKIP"} <= set(names)


@pytest.mark.parametrize(
    "line",
    [b"not json", b"[1]", b'{"answer"', b"[" * 100_000, b'{"refused": ["SystemExit", [["x", null, null]]]}',
     b'{"refused": ["InvalidInput", []]}', b'{"something": 1}', b""],
)  # fmt: skip
def test_a_child_that_was_taken_over_can_only_be_a_damaged_file(line):
    with pytest.raises(InvalidInput, match="could not be read"):
        run(deeds.say_raw, line.decode())


def test_an_answer_has_a_limit():
    with pytest.raises(TooLarge, match="over 1 MiB"):
        run(deeds.say_much, limits=Limits(answer_mib=1))


def test_what_it_prints_is_not_taken_for_its_answer():
    assert run(deeds.print_then_answer) == "answer"


def test_nothing_is_left_of_a_child_or_its_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    pid = run(deeds.pid)
    with pytest.raises(InvalidInput):
        run(deeds.sleep, 60.0, limits=Limits(seconds=0.5))
    assert not Path(f"/proc/{pid}").exists()
    assert list(tmp_path.iterdir()) == []


def test_progress_is_told_as_it_is_made():
    steps: list[tuple[int, int]] = []
    run(deeds.count_slowly, 3, progress=lambda done, of: steps.append((done, of)))
    assert steps == [(1, 3), (2, 3), (3, 3)]


def test_children_beyond_the_limit_wait_and_then_are_refused():
    limits = Limits(at_once=1, wait_seconds=0.2, seconds=10)
    first = threading.Thread(target=lambda: run(deeds.sleep, 1.5, limits=limits))
    first.start()
    time.sleep(0.5)
    with pytest.raises(Unavailable):
        run(deeds.echo, 1, limits=limits)
    first.join()
    assert run(deeds.echo, 1, limits=limits) == 1


def test_without_any_way_to_take_the_network_nothing_is_read():
    assert run(deeds.confine_without_ways).startswith("NotConfined")
    with pytest.raises(Unavailable, match="safely"):
        run(deeds.say_raw, '{"unconfined": true}')


def test_a_child_is_ready_in_time():
    run(deeds.echo, 1)
    begun = time.monotonic()
    run(deeds.echo, 1)
    assert time.monotonic() - begun < 1.5


def test_settings_are_the_limits(monkeypatch):
    monkeypatch.setenv("YUTU_PARSE_SECONDS", "7")
    monkeypatch.setenv("YUTU_PARSE_MEMORY_MIB", "300")
    limits = ParseSettings.load().limits
    assert (limits.seconds, limits.memory_mib) == (7, 300)
    monkeypatch.setenv("YUTU_PARSE_MEMORY_MIB", "1")
    with pytest.raises(InvalidInput) as caught:
        ParseSettings.load()
    assert caught.value.faults[0].field == "YUTU_PARSE_MEMORY_MIB"
