"""What an operator may set about reading files that strangers send."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from data.sandbox import AT_ONCE_MAX, Limits
from data.settings import Settings

#: Of a file of facilities, what is allowed beside the limits once more for each such size …
INVENTORY_STEP_BYTES: Final = 20 << 20
#: … of the file as it would be unpacked, which is not asked of the file itself …
PACKED_TIMES: Final = 8
#: … up to so many times in all, which is a file of 200 MiB.
INVENTORY_TIMES_MAX: Final = 11.0
#: What the libraries that read such files take before the file is opened.
INVENTORY_LIBRARIES_MIB: Final = 240


class ParseSettings(Settings):
    """Limits on one file and on the process that reads it; published in the README.

    `seconds` by the clock, `cpu_seconds` of computing, `memory_mib` resident, `rows` and
    `file_mib` of one file of incidents, `at_once` files per server process.
    """

    model_config = SettingsConfigDict(env_prefix="YUTU_PARSE_")

    seconds: float = Field(60.0, gt=0, le=3_600)
    cpu_seconds: int = Field(30, ge=1, le=3_600)
    memory_mib: int = Field(240, ge=192, le=65_536)
    rows: int = Field(10_000, ge=1, le=1_000_000)
    file_mib: int = Field(32, ge=1, le=1_024)
    at_once: int = Field(2, ge=1, le=AT_ONCE_MAX)

    @property
    def limits(self) -> Limits:
        return Limits(
            seconds=self.seconds,
            cpu_seconds=self.cpu_seconds,
            memory_mib=self.memory_mib,
            at_once=self.at_once,
        )

    def inventory_limits(self, path: Path) -> Limits:
        """Those for a file of facilities: they grow with its size, so that a small one made to do
        harm gets no more than any file. Such files wait for each other and hold up no others."""
        with path.open("rb") as file:
            packed = file.read(4) in (b"PK\3\4", b"PAR1")
        size = path.stat().st_size * (PACKED_TIMES if packed else 1)
        times = min(1 + size / INVENTORY_STEP_BYTES, INVENTORY_TIMES_MAX)
        return Limits(
            seconds=self.seconds * times,
            cpu_seconds=round(self.cpu_seconds * times),
            memory_mib=round(self.memory_mib * times) + INVENTORY_LIBRARIES_MIB,
            answer_mib=round(Limits.answer_mib * times),
            written_mib=round(Limits.written_mib * times),
            at_once=self.at_once,
            lane="inventory",
        )
