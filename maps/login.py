"""The sign-in page."""

from __future__ import annotations

from urllib.parse import urlencode

from maps.assets import LOGIN_STYLE_URL
from maps.page import Page, render
from maps.text import HTML_LANGS, WORDS, Lang

ACTION = "/login"
SIGN_ON = "/login/oidc"


def render_login(
    lang: Lang, error: str | None, next: str | None, csrf: str, *, sign_on: bool = False
) -> Page:
    """The form that posts `username`, `password`, `csrf` and `next` to /login.

    With `sign_on` also a link to the city's accounts. `next` is where to go afterwards;
    anything that is not a path on this server becomes `/`.
    """
    other: Lang = "en" if lang == "zh" else "zh"
    target = local_path(next)
    return render(
        "login.html",
        html_lang=HTML_LANGS[lang],
        words=WORDS[lang],
        error=error,
        next=target,
        csrf=csrf,
        action=ACTION,
        other_lang=other,
        other_lang_url="?" + urlencode({"lang": other, "next": target}),
        sign_on_url=f"{SIGN_ON}?{urlencode({'next': target})}" if sign_on else None,
        style_url=LOGIN_STYLE_URL,
    )


def local_path(target: str | None) -> str:
    """The target if it is a path on this server, else `/`: no redirect to another host."""
    if not target or not target.startswith("/") or target[1:2] in ("/", "\\"):
        return "/"
    if any(ord(character) < 32 or character == "\\" for character in target):
        return "/"
    return target
