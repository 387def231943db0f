"""A certificate authority of this installation's own, so that phones in the room get HTTPS.

Made once with the program `openssl` under `var/tls` (mode 0700) and kept: `ca.pem` (key and
certificate, 0600), `ca.crt` (the certificate alone, for phones), `server.pem` (0600). The server's
certificate names this machine as phones may reach it and is renewed at a start when those names
have changed or it has less than 30 days left.
"""

from __future__ import annotations

import fcntl
import hashlib
import ipaddress
import os
import re
import socket
import ssl
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from geo.errors import Fault, InvalidInput, Unavailable

CA_DAYS = 3650
SERVER_DAYS = 397
"""Phones refuse a server's certificate that is valid for much longer than a year."""
RENEW_DAYS = 30
OPENSSL_S = 30
DNS_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9-]{1,63})*")
_PEM = re.compile(
    r"-----BEGIN CERTIFICATE-----\r?\n.+?-----END CERTIFICATE-----\r?\n", re.DOTALL | re.ASCII
)
_LOCAL_V4 = re.compile(r"\|-- (\d+\.\d+\.\d+\.\d+)\n\s+/32 host LOCAL")

_CA_CONFIG = """
[req]
distinguished_name = subject
x509_extensions = extensions
prompt = no
[subject]
O = Yutu
CN = {name}
[extensions]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
"""
_SERVER_CONFIG = """
[req]
distinguished_name = subject
prompt = no
[subject]
O = Yutu
CN = {name}
[extensions]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = {names}
"""


@dataclass(frozen=True)
class Certificates:
    """What the server needs to speak TLS, and what a phone needs to trust it."""

    server: Path
    ca: Path
    names: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the CA's certificate as phones show it: AB:CD:…"""
        digest = hashlib.sha256(ca_der(self.ca)).hexdigest().upper()
        return ":".join(digest[n : n + 2] for n in range(0, 64, 2))


def ca_der(path: Path) -> bytes:
    """The CA's certificate as a phone installs it (DER). Raises OSError without one."""
    return ssl.PEM_cert_to_DER_cert(path.read_text(encoding="ascii"))


def ensure_certificates(folder: Path, names: Iterable[str]) -> Certificates:
    """The CA, made if there is none, and a server certificate for exactly these names.

    Host names and IP addresses. Raises InvalidInput for what is neither, Unavailable without
    openssl or a folder to write to.
    """
    wanted = tuple(sorted({_checked(name) for name in names}))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        with _locked(folder / "lock"):
            authority = folder / "ca.pem"
            if not authority.exists():
                _replace(authority, _make_ca(), 0o600)
            (certificate,) = _PEM.findall(authority.read_text(encoding="ascii"))
            public = folder / "ca.crt"
            if not public.exists() or public.read_text(encoding="ascii") != certificate:
                _replace(public, certificate, 0o644)
            server = folder / "server.pem"
            if not _good(server, public, wanted):
                _replace(server, _make_server(authority, wanted), 0o600)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it holds no certificate"
        raise Unavailable(f"the certificates in {folder} cannot be used: {reason}") from None
    return Certificates(server, public, wanted)


def machine_names(more: Iterable[str] = ()) -> list[str]:
    """How this machine may be called: loopback, host names, its own addresses, and `more`."""
    host = socket.gethostname().lower().rstrip(".")
    found = ["localhost", "127.0.0.1", "::1"]
    found += [
        name for name in (host, f"{host.partition('.')[0]}.local") if DNS_NAME.fullmatch(name)
    ]
    return list(dict.fromkeys([*found, *lan_addresses(), *more]))


def lan_addresses() -> list[str]:
    """The IPv4 addresses of this machine that others may reach, in numeric order."""
    try:
        table = Path("/proc/net/fib_trie").read_text(encoding="ascii")
    except OSError:
        return []
    own = {ipaddress.IPv4Address(one) for one in _LOCAL_V4.findall(table)}
    return [str(one) for one in sorted(own) if not (one.is_loopback or one.is_link_local)]


def _checked(name: str) -> str:
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        lower = name.lower().rstrip(".")
        if DNS_NAME.fullmatch(lower):
            return lower
        reason = "must be host names and IP addresses, separated by commas"
        raise InvalidInput([Fault(reason, None, "YUTU_TLS_NAMES")]) from None


def _is_address(name: str) -> bool:
    return ":" in name or re.fullmatch(r"[0-9.]+", name) is not None


def _good(server: Path, ca: Path, wanted: tuple[str, ...]) -> bool:
    """Whether the certificate is ours, for these names, with its key, and good for a while."""
    if not server.exists() or server.stat().st_mode & 0o077:
        return False
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(server)
        _openssl("verify", "-CAfile", str(ca), str(server))
        _openssl("x509", "-in", str(server), "-noout", "-checkend", str(RENEW_DAYS * 86_400))
    except (ssl.SSLError, _Refused):
        return False
    return _names_of(server) == wanted


def _names_of(certificate: Path) -> tuple[str, ...]:
    said = _openssl("x509", "-in", str(certificate), "-noout", "-ext", "subjectAltName")
    names = re.findall(r"(?:DNS|IP Address):([^\s,]+)", said)
    return tuple(sorted(_checked(name) for name in names))


def _make_ca() -> str:
    """A new key and the certificate that signs itself with it, as PEM."""
    name = f"Yutu {socket.gethostname()[:40]} {os.urandom(3).hex()}"
    with tempfile.TemporaryDirectory(prefix="yutu-ca-") as made:
        config, key = Path(made, "config"), Path(made, "key")
        config.write_text(_CA_CONFIG.format(name=name), encoding="utf-8")
        _make_key(key)
        certificate = _openssl(
            *("req", "-x509", "-new", "-utf8", "-sha256", "-days", str(CA_DAYS)),
            *("-config", str(config), "-key", str(key)),
        )
        return key.read_text(encoding="ascii") + certificate


def _make_server(authority: Path, names: tuple[str, ...]) -> str:
    """A new key and a certificate for these names signed by the CA, as PEM."""
    listed = ", ".join(f"{'IP' if _is_address(name) else 'DNS'}:{name}" for name in names)
    subject = next((n for n in names if not _is_address(n) and len(n) <= 64), "yutu")
    with tempfile.TemporaryDirectory(prefix="yutu-tls-") as made:
        config, key, request = Path(made, "config"), Path(made, "key"), Path(made, "request")
        config.write_text(_SERVER_CONFIG.format(name=subject, names=listed), encoding="utf-8")
        _make_key(key)
        asked = ("req", "-new", "-utf8", "-sha256", "-config", str(config), "-key", str(key))
        request.write_text(_openssl(*asked), encoding="ascii")
        certificate = _openssl(
            *("x509", "-req", "-sha256", "-in", str(request), "-days", str(SERVER_DAYS)),
            *("-CA", str(authority), "-CAkey", str(authority)),
            *("-set_serial", f"0x{os.urandom(16).hex()}"),
            *("-extfile", str(config), "-extensions", "extensions"),
        )
        return key.read_text(encoding="ascii") + certificate


def _make_key(path: Path) -> None:
    """An ECDSA key on P-256; the folder is of this process alone."""
    path.touch(mode=0o600)
    curve = ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
    path.write_text(_openssl("genpkey", *curve), encoding="ascii")


class _Refused(Exception):
    """openssl ended with an error: for a check, no."""


def _openssl(*arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "OPENSSL_CONF"}
    try:
        ended = subprocess.run(
            ["openssl", *arguments],
            capture_output=True,
            check=False,
            text=True,
            timeout=OPENSSL_S,
            stdin=subprocess.DEVNULL,
            env=environment,
        )
    except FileNotFoundError:
        raise Unavailable("TLS=1 needs the program openssl: apt-get install openssl") from None
    except subprocess.TimeoutExpired:
        raise Unavailable("openssl does not end; is the machine out of memory?") from None
    if ended.returncode != 0:
        if arguments[0] in {"verify", "x509"} and "-req" not in arguments:
            raise _Refused
        raise Unavailable(f"openssl {arguments[0]} could not make a certificate")
    return ended.stdout


def _replace(path: Path, content: str, mode: int) -> None:
    """Put the whole file in place, or nothing; never readable by others in between."""
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        os.fchmod(descriptor, mode)
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    draft.replace(path)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time; two first starts end with one CA."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
