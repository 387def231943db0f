"""What is sent to a browser: the bytes, their ETag, and the policy that keeps stored text inert.

No inline script runs but those whose SHA-256 stands in the policy, and no request leaves the host.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).resolve().parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
)

# Only elements without attributes are executed inline; data blocks carry a type and external
# scripts a src, and neither needs a hash.
_INLINE_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)
_INLINE_STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Page:
    """HTML ready to send; `csp` is the value of Content-Security-Policy, `etag` is quoted."""

    html: bytes
    csp: str
    etag: str


def render(template: str, **values: object) -> Page:
    """Fill `maps/templates/<template>` and derive the policy from what came out."""
    html = _TEMPLATES.get_template(template).render(**values).replace("\r\n", "\n")
    html = html.replace("\r", "\n")  # a browser hashes what it parsed, which has no CR
    body = html.encode()
    return Page(body, policy(html), f'"{hashlib.sha256(body).hexdigest()[:32]}"')


def policy(html: str) -> str:
    """The content security policy under which exactly this page works."""
    scripts = " ".join(_hashes(_INLINE_SCRIPT, html))
    styles = " ".join(_hashes(_INLINE_STYLE, html))
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src 'self' {scripts}".rstrip(),
            f"style-src 'self' {styles}".rstrip(),
            "img-src 'self' data:",
            "connect-src 'self'",
            "font-src 'self'",
            "form-action 'self'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
            "object-src 'none'",
        )
    )


def _hashes(pattern: re.Pattern[str], html: str) -> list[str]:
    digests = dict.fromkeys(
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for text in pattern.findall(html)
    )
    return [f"'sha256-{digest}'" for digest in digests]
