"""What a password may be: long enough, also without the words that anybody would try here.

ASVS 6.1.2 and 6.2.11: `WORDS` and the account's own name count for nothing in its length.
"""

from __future__ import annotations

import unicodedata
from typing import Final

from geo.errors import Fault

CHARACTERS_MIN: Final = 12
CHARACTERS_MAX: Final = 1024
WORDS: Final = (
    "yutu", "渝图", "chongqing", "重庆", "cqyj", "yingji", "应急", "emergency", "zhihui", "指挥",
    "commander", "password", "密码", "mima", "admin", "welcome", "qwerty", "abcdef", "123456",
    "111111", "000000", "888888",
)  # fmt: skip


def password_faults(password: str, username: str) -> list[Fault]:
    """Why a password is refused; empty when it may be used."""
    if not CHARACTERS_MIN <= len(password) <= CHARACTERS_MAX:
        return [Fault(f"has at least {CHARACTERS_MIN} characters", None, "password")]
    left = unicodedata.normalize("NFKC", password).casefold()
    for word in sorted((*WORDS, username.casefold()), key=len, reverse=True):
        left = left.replace(word, "")
    if len(left) < CHARACTERS_MIN:
        reason = (
            f"has fewer than {CHARACTERS_MIN} characters without the account's name and words"
            " that anybody would try, such as yutu, chongqing or 123456"
        )
        return [Fault(reason, None, "password")]
    return []
