"""What an operator may set, one small class per concern, each from `YUTU_…` in the environment.

`Class.load()` reads the environment and raises `WrongSetting` with one fault per variable that
cannot be used; the fault names the variable, what it holds (never of a secret or a database's
address) and what would be right. An empty variable means "not set", except `YUTU_SECRET`, whose
emptiness is always a mistake.
"""

from __future__ import annotations

import ipaddress
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from geo.errors import Fault, InvalidInput

CHECKOUT = Path(__file__).resolve().parent.parent
SECRET_BYTES_MIN = 32
DRIVER = "postgresql+psycopg"
VALUE_CHARACTERS_SHOWN = 60


class WrongSetting(InvalidInput):
    """What an operator set cannot be used."""


class Settings(BaseSettings):
    """Base of the classes below: frozen, from the environment, every fault at once."""

    model_config = SettingsConfigDict(
        env_prefix="YUTU_", frozen=True, extra="ignore", env_ignore_empty=True
    )

    @classmethod
    def load(cls) -> Self:
        """The settings of this environment. Raises WrongSetting naming each bad variable."""
        try:
            return cls()
        except ValidationError as error:
            found = error.errors(include_url=False)
            # a default that follows from a wrong setting is no fault of its own
            own = [one for one in found if one["type"] != "default_factory_not_called"]
            raise WrongSetting(map(cls._fault, own)) from None
        except SettingsError:  # only a table of values, such as YUTU_REACH_M, is read as JSON
            raise WrongSetting(
                Fault(
                    f"{_shown(os.environ.get(cls.variable(name), ''))} is not a JSON object"
                    + _such_as(cls.model_fields[name].default),
                    field=cls.variable(name),
                )
                for name in cls._tables()
            ) from None

    @classmethod
    def _fault(cls, error: Mapping[str, Any]) -> Fault:
        """One error of pydantic's in the words of whoever set the variable."""
        said = str(error["msg"]).removeprefix("Value error, ")
        if not error["loc"]:  # of several together
            return Fault(said)
        place = str(error["loc"][0])
        variable = cls.variable(place)
        name = next(n for n in cls.model_fields if n == place or cls.variable(n) == variable)
        field = cls.model_fields[name]
        if error["type"] == "value_error":
            right = said
        elif len(error["loc"]) > 1 and "float" in str(field.annotation):
            right = f"must be numbers, as in {json.dumps(field.default)}"
        elif len(error["loc"]) > 1:
            right = f"{'.'.join(map(str, error['loc'][1:]))}: {said}"
        else:
            right = _expected(str(field.annotation), field.metadata)
        if "SecretStr" in str(field.annotation):
            return Fault(right, field=variable)
        return Fault(f"{_shown(os.environ.get(variable, ''))}: {right}", field=variable)

    @classmethod
    def variable(cls, field: str) -> str:
        """The environment variable that `field`, or the alias pydantic reports it by, is set by."""
        for name, known in cls.model_fields.items():
            alias = known.validation_alias
            if isinstance(alias, AliasChoices) and (name == field or field in alias.choices):
                names = [str(choice) for choice in alias.choices]
                return next((one for one in names if os.environ.get(one)), names[0])
        return f"{cls.model_config['env_prefix']}{field}".upper()

    @classmethod
    def _tables(cls) -> list[str]:
        return [name for name, known in cls.model_fields.items() if "dict" in str(known.annotation)]


class PathsSettings(Settings):
    """Where this installation keeps what it must not lose.

    `YUTU_VAR` (default `<checkout>/var`), `YUTU_RUNTIME` (the short folder of the database's
    socket; chosen by `data.cluster` when not set).
    """

    var: Path = CHECKOUT / "var"
    runtime: Path | None = None

    @field_validator("var", "runtime")
    @classmethod
    def _absolute(cls, folder: Path | None) -> Path | None:
        return None if folder is None else folder.expanduser().absolute()

    @property
    def cluster(self) -> Path:
        return self.var / "postgres"

    @property
    def cluster_log(self) -> Path:
        return self.var / "log" / "postgres.log"

    @property
    def secret(self) -> Path:
        return self.var / "secret"

    @property
    def credentials(self) -> Path:
        return self.var / "credentials.json"

    @property
    def tls(self) -> Path:
        return self.var / "tls"


class DatabaseSettings(Settings):
    """Which database, and how long anyone may wait for it.

    Without `YUTU_DATABASE_URL` the private cluster under `var/` is used. The password may stand in
    a file named by `YUTU_DATABASE_PASSWORD_FILE` instead of in the URL (container secrets).
    """

    model_config = SettingsConfigDict(env_prefix="YUTU_DATABASE_")

    url: SecretStr | None = None
    password_file: Path | None = None
    pool_size: int = Field(10, ge=1, le=200)
    pool_overflow: int = Field(5, ge=0, le=200)
    health_pool_size: int = Field(1, ge=1, le=5)
    acquire_timeout_s: float = Field(1.0, gt=0, le=30)
    connect_timeout_s: int = Field(2, ge=1, le=30)
    statement_timeout_ms: int = Field(10_000, ge=100, le=600_000)
    lock_timeout_ms: int = Field(5_000, ge=100, le=600_000)

    @field_validator("url")
    @classmethod
    def _driver(cls, url: SecretStr | None) -> SecretStr | None:
        if url is None:
            return None
        try:
            parsed = make_url(url.get_secret_value())
        except (ArgumentError, ValueError):
            raise ValueError("is not a database URL: postgresql://user@host:5432/name") from None
        if parsed.drivername not in {"postgres", "postgresql", DRIVER}:
            raise ValueError("must begin with postgresql://")
        if not parsed.database:
            raise ValueError("names no database: postgresql://user@host/name")
        return SecretStr(parsed.set(drivername=DRIVER).render_as_string(hide_password=False))

    @property
    def sqlalchemy_url(self) -> str | None:
        """The URL for SQLAlchemy's psycopg driver, password included; None: the private cluster."""
        if self.url is None:
            return None
        url = make_url(self.url.get_secret_value())
        if self.password_file is not None:
            url = url.set(
                password=_read_secret_file("YUTU_DATABASE_PASSWORD_FILE", self.password_file)
            )
        return url.render_as_string(hide_password=False)


class ServerSettings(Settings):
    """Where it listens. `PORT` is what `make run` documents; `YUTU_PORT` wins over it.

    `YUTU_HOST` is this machine alone, and with `TLS=1`, which is for phones, every address it has.
    `YUTU_TLS_NAMES`: more host names and addresses for the certificate, separated by commas.
    `YUTU_TRUSTED_PROXIES`: whose word on the caller's address and on HTTPS is taken, addresses and
    networks separated by commas; `none`: nobody's.
    """

    tls: bool = Field(False, validation_alias=AliasChoices("YUTU_TLS", "TLS"))
    tls_names: str = ""
    host: str = Field(default_factory=lambda known: "0.0.0.0" if known.get("tls") else "127.0.0.1")  # noqa: S104
    port: int = Field(8000, ge=0, le=65_535, validation_alias=AliasChoices("YUTU_PORT", "PORT"))
    workers: int = Field(2, ge=1, le=64)
    trusted_proxies: str = "127.0.0.1"

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, said: str) -> str:
        try:
            _proxies(said)
        except ValueError:
            raise ValueError(
                "must be IP addresses or networks, separated by commas, or none"
            ) from None
        return said

    @property
    def proxies(self) -> list[str]:
        """Networks of `trusted_proxies`, also as an IPv6 socket names IPv4 addresses."""
        return [str(network) for network in _proxies(self.trusted_proxies)]

    @property
    def more_names(self) -> list[str]:
        return [name for one in self.tls_names.split(",") if (name := one.strip())]


class SecuritySettings(Settings):
    """The key that signs tokens and sessions, and how long those live.

    From `YUTU_SECRET`, or the file named by `YUTU_SECRET_FILE`, or `var/secret`, made at first
    use with 256 random bits and mode 0600. Under 32 bytes is refused, and so is an empty one.
    """

    secret: SecretStr | None = None
    secret_file: Path | None = None
    token_minutes: int = Field(60, ge=1, le=1_440)
    session_hours: int = Field(12, ge=1, le=168)

    @field_validator("secret")
    @classmethod
    def _long_enough(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is not None:
            _check_secret(secret.get_secret_value())
        elif (
            os.environ.get("YUTU_SECRET") == ""
        ):  # a deployment that lost its secret, not a default
            _check_secret("")
        return secret

    def signing_secret(self, paths: PathsSettings) -> str:
        """The secret in force; creates `var/secret` only when nothing else says one.

        Raises WrongSetting when it is empty, too short, or readable by others.
        """
        if self.secret is not None:
            return self.secret.get_secret_value()
        if self.secret_file is not None:
            secret = _read_secret_file("YUTU_SECRET_FILE", self.secret_file)
            return _checked("YUTU_SECRET_FILE", secret)
        return _own_secret(paths.secret)


class DemoSettings(Settings):
    """Whether the demonstration is loaded; None: into the private database only.

    `YUTU_DEMO=0` starts empty, `YUTU_DEMO=1` allows it into `YUTU_DATABASE_URL` too.
    """

    demo: bool | None = None

    def wanted(self, database: DatabaseSettings) -> bool:
        return self.demo if self.demo is not None else database.url is None


class SituationSettings(Settings):
    """How the situation is read.

    `silent_after_minutes`: an operator unheard for longer has its facilities unknown, in bounds.
    `noise_floor_sites`, `noise_floor_share`: fewer sites *and* a smaller share (0–1) in every unit
    named set `below_noise_floor`. `reach_m`: how far a service cell extends from its facility, in
    metres on the ground; a kind not listed has no cell.
    """

    silent_after_minutes: int = Field(15, ge=1, le=1_440)
    noise_floor_sites: int = Field(3, ge=0)
    noise_floor_share: float = Field(0.01, ge=0, le=1)
    builds_per_second: float = Field(5.0, gt=0, le=50)
    reach_m: dict[str, float] = Field(
        default={"base_station": 3_000.0, "exchange": 10_000.0, "substation": 20_000.0}
    )

    @field_validator("reach_m")
    @classmethod
    def _on_the_ground(cls, reach_m: dict[str, float]) -> dict[str, float]:
        if any(not 0 < reach <= 500_000 for reach in reach_m.values()):
            raise ValueError("a reach is between 0 and 500000 metres")
        return reach_m


class AdmissionSettings(Settings):
    """How much one server process takes on at once.

    `reads_at_once`, `writes_at_once`: requests being worked on; more wait `place_wait_s` for a
    place, then get 503. `bodies_mib`: all bodies of requests not yet answered. `disk_free_mib`:
    writes get 507 while less is free where the data lies; 0 looks at no disk.
    """

    reads_at_once: int = Field(12, ge=1, le=200)
    writes_at_once: int = Field(12, ge=1, le=200)
    place_wait_s: float = Field(1.2, gt=0, le=30)
    bodies_mib: int = Field(512, ge=1, le=65_536)
    disk_free_mib: int = Field(256, ge=0, le=1_048_576)


def _proxies(said: str) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    """Raises ValueError for what is no address and no network."""
    if said.strip() == "none":
        return []
    found: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
    for one in said.split(","):
        network = ipaddress.ip_network(one.strip())
        found.append(network)
        if isinstance(network, ipaddress.IPv4Network):
            mapped = f"::ffff:{network.network_address}/{96 + network.prefixlen}"
            found.append(ipaddress.ip_network(mapped))
    return found


def _shown(value: str) -> str:
    """A value for people: what no screen shows escaped, its end left out when it is long."""
    cut = value[:VALUE_CHARACTERS_SHOWN]
    return repr(cut) if cut == value else f"{cut!r}…"


def _such_as(default: Any) -> str:
    return f" such as {json.dumps(default)}" if isinstance(default, dict) else ""


def _expected(annotation: str, limits: list[Any]) -> str:
    """What would be right for a field of that type within its limits."""
    if "bool" in annotation:
        return "must be 1 or 0"
    if "int" not in annotation and "float" not in annotation:
        return "must be a text"
    kind = "a whole number" if "int" in annotation else "a number"
    held = {name: getattr(one, name) for one in limits for name in _LIMITS if hasattr(one, name)}
    if {"ge", "le"} <= held.keys():
        return f"must be {kind} from {held['ge']:g} to {held['le']:g}"
    said = [f"{word} {held[name]:g}" for name, word in _LIMITS.items() if name in held]
    return f"must be {kind} {' and '.join(said)}".rstrip()


_LIMITS = {"ge": "from", "gt": "above", "le": "up to", "lt": "below"}


def _check_secret(secret: str) -> None:
    if not secret.strip():
        raise ValueError("is empty; unset it to have one made, or give at least 32 random bytes")
    if len(secret.encode()) < SECRET_BYTES_MIN:
        raise ValueError("is shorter than 32 bytes; make one with: openssl rand -hex 32")


def _checked(name: str, secret: str) -> str:
    try:
        _check_secret(secret)
    except ValueError as error:
        raise WrongSetting([Fault(str(error), field=name)]) from None
    return secret


def _read_secret_file(name: str, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise WrongSetting([Fault(f"{path} cannot be read: {reason}", field=name)]) from None


def _own_secret(path: Path) -> str:
    """Read `path`, or make it. Two first starts at once end with one secret, wholly written."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(secrets.token_hex(32) + "\n")
                file.flush()
                os.fsync(file.fileno())
            os.link(draft, path)  # fails when another start was first: then its secret counts
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    secret = _checked(str(path), _read_secret_file(str(path), path))
    if path.stat().st_mode & 0o077:
        raise WrongSetting([Fault(f"others may read it; chmod 600 {path}", field=str(path))])
    return secret
