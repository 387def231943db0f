"""Folders in passing are private, gone when done, and swept when their process was killed."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from data.scratch import make_scratch, remove_scratch, scratch_folder, sweep_scratch


@pytest.fixture(autouse=True)
def _own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_a_folder_is_private_and_gone_after_its_block_also_on_an_error(tmp_path: Path) -> None:
    def read() -> None:
        with scratch_folder("import") as folder:
            (folder / "upload.csv").write_text("13800000001", encoding="utf-8")
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
            assert folder.parent == tmp_path
            raise RuntimeError

    with pytest.raises(RuntimeError):
        read()
    assert list(tmp_path.iterdir()) == []
    remove_scratch(tmp_path / "gone")


def test_what_a_killed_process_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    code = (
        "import os, signal, tempfile, sys; tempfile.tempdir = sys.argv[1]\n"
        "from data.scratch import make_scratch\n"
        "(make_scratch('import') / 'upload.csv').write_text('x')\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    for _ in range(2):
        subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)],
            cwd=Path(__file__).resolve().parents[2],
            timeout=30,
            check=False,
        )
    mine = make_scratch("import")
    foreign = tmp_path / "yutu-tls-a1b2"
    foreign.mkdir()
    target = tmp_path / "elsewhere"
    target.mkdir()
    (tmp_path / "yutu-import-1-0-link").symlink_to(target)
    reused = tmp_path / f"yutu-import-{os.getpid()}-1-old"  # another process had this number
    reused.mkdir()
    assert len(list(tmp_path.iterdir())) == 7
    assert sweep_scratch() == 3
    assert {one.name for one in tmp_path.iterdir()} == {
        mine.name,
        foreign.name,
        target.name,
        "yutu-import-1-0-link",
    }
    assert sweep_scratch() == 0
