"""How numbers are printed: AUCs, differences with their sign, never a negative zero, and p-values, everywhere alike."""

from __future__ import annotations

import math
from decimal import ROUND_HALF_UP, Decimal

NOT_KNOWN = "-"


def rounded(value: float, decimals: int = 3, factor: int = 1) -> str:
    """Return a number, times a power of ten, as it is printed: a half goes up, as on paper.

    What is rounded is the number's shortest decimal text, for a published one that of its source: 0.8005 is 0.801,
    though the binary number lies just below it.
    """
    return str((Decimal(str(float(value))) * factor).quantize(Decimal(10) ** -decimals, ROUND_HALF_UP))


def signed(value: float, decimals: int = 3) -> str:
    """Return a difference with its sign: "+0.012", "-0.012"; what rounds to zero has none: "0.000"."""
    text = f"{value:+z.{decimals}f}"
    return text.removeprefix("+") if float(text) == 0 else text


def p_text(p_value: float) -> str:
    """Return a p-value in three decimals, "<0.001" below them, "-" where there is none (NaN)."""
    if math.isnan(p_value):
        return NOT_KNOWN
    return "<0.001" if p_value < 0.0005 else f"{p_value:.3f}"


def p_words(p_value: float) -> str:
    """Return a p-value for a sentence: "p = 0.012", "p <0.001"."""
    text = p_text(p_value)
    return f"p {text}" if text.startswith("<") else f"p = {text}"
