"""How numbers are printed: differences with their sign, never a negative zero, and p-values, everywhere alike."""

from __future__ import annotations

import math

NOT_KNOWN = "-"


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
