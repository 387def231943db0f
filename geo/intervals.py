"""Numbers not exactly known: a span of possible values, and truth in three values.

Everything is exact: numbers are `int` or `Fraction`, floats are read by their shortest decimal form
(0.15 is 3/20), and no comparison is made on a rounded share. Truth is NO < MAYBE < YES, so that
"all of" is `min` and "any of" is `max`.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from numbers import Integral, Rational

Number = int | Fraction
Truth = int
NO: Truth = 0
MAYBE: Truth = 1
YES: Truth = 2


def exact(value: object) -> Number:
    """The exact number meant by an int, Fraction, Decimal or float; ValueError for anything else.

    A float stands for its shortest decimal form. NaN, infinities and booleans are refused.
    """
    if type(value) is int:
        return value
    if isinstance(value, bool):
        raise ValueError("a truth value is not a number")
    if type(value) is not float:
        if isinstance(value, Integral):
            return int(value)
        if isinstance(value, Rational):
            return _whole(Fraction(int(value.numerator), int(value.denominator)))
    if not isinstance(value, Decimal):
        try:
            value = Decimal(repr(float(value)))  # type: ignore[arg-type]
        except (TypeError, OverflowError) as error:
            raise ValueError("not a number") from error
    if not value.is_finite():
        raise ValueError("not finite")
    return _whole(Fraction(*value.as_integer_ratio()))


def _whole(value: Fraction) -> Number:
    return value.numerator if value.denominator == 1 else value


def plain(value: Number) -> int | float:
    """The number as JSON has it: an int where it is whole, else the nearest float."""
    return int(value) if value.denominator == 1 else float(value)


def divide(part: Number, whole: Number) -> Number:
    """`part / whole`, exact."""
    return Fraction(part.numerator * whole.denominator, part.denominator * whole.numerator)


def round_up(value: Number, step: Number) -> Number:
    """The smallest multiple of `step` that is not less than `value`."""
    return _whole(Fraction(-(-value // step) * step))


@dataclass(frozen=True, slots=True)
class Span:
    """All numbers from `low` to `high`, both included; `high` None is no upper limit.

    `below_high` leaves `high` itself out, for a class such as "under 150 MW".
    """

    low: Number
    high: Number | None
    below_high: bool = False

    @property
    def known(self) -> bool:
        """Only one value is possible."""
        return self.low is self.high or (self.high is not None and self.low == self.high)

    @property
    def empty(self) -> bool:
        """No value is possible."""
        if self.high is None:
            return False
        return self.low > self.high or (self.below_high and self.low == self.high)

    def at_least(self, bound: Number) -> Truth:
        """Whether the number is ≥ `bound`."""
        low = self.low
        if low.numerator * bound.denominator >= bound.numerator * low.denominator:
            return YES
        if self.high is low:
            return NO
        if self.high is None or self.high > bound or (self.high == bound and not self.below_high):
            return MAYBE
        return NO

    def below(self, bound: Number) -> Truth:
        """Whether the number is < `bound`."""
        return YES - self.at_least(bound)

    def split(self, cutoffs: tuple[Number, ...]) -> list[Span]:
        """The span cut at each cutoff into [a, cutoff) and [cutoff, b]; empty pieces left out."""
        pieces, rest = [], self
        for cutoff in cutoffs:
            if rest.below(cutoff) == MAYBE:
                pieces.append(Span(rest.low, cutoff, below_high=True))
                rest = Span(cutoff, rest.high, rest.below_high)
        return [piece for piece in [*pieces, rest] if not piece.empty]


def share(part: Span, whole: Span) -> Span | None:
    """The possible values of part ÷ whole where part ≤ whole; None where there can be no share.

    0 of 0 is no share. A lower limit that is only approached (the whole has no upper limit, or its
    upper limit is left out) is given as the limit: a share above it is at least it all the same.
    """
    if whole.high is not None and whole.high <= 0:
        return None
    low: Number = 0 if whole.high is None else divide(part.low, whole.high)
    if part.known and whole.known:
        return Span(low, low)
    smallest = max(whole.low, part.low)
    if part.high is None or part.high >= smallest > 0 or (smallest <= 0 and part.high > 0):
        return Span(min(low, 1), 1)
    if smallest <= 0:
        return Span(0, 0)
    return Span(low, divide(part.high, smallest))
