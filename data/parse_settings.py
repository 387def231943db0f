"""What an operator may set about reading files that strangers send."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from data.sandbox import AT_ONCE_MAX, Limits
from data.settings import Settings


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
