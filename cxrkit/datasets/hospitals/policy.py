"""How labels that leave a choice are read: named, declared with the results, and with a default that is argued for.

uncertain   CheXpert, MIMIC-CXR: a report that hedges ("may represent pneumonia", -1). Unknown by default: the report
            says neither, and counting it either way would charge the network with the radiologist's doubt. Irvin et al.
            2019 call these U-Ignore, U-Ones and U-Zeros.
blank       CheXpert, MIMIC-CXR: a finding that the report does not mention. Negative by default: so it was when
            ChestX-ray14 was labelled, and only abnormal findings are mentioned as a rule; the negatives of `unknown`
            are the findings that somebody looked for and ruled out.
readers     VinDr-CXR's training images, which three radiologists read: positive by the majority, by any, or by all of
            them. Its test images have one consensus of five.
method      PadChest: labels of all reports, or of the 27 % alone that physicians labelled; those of a network are
            unknown then.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal, get_type_hints

from cxrkit.base import typed
from cxrkit.base.errors import UserError


@dataclass(frozen=True)
class LabelPolicy:
    """What is chosen."""

    uncertain: Literal["unknown", "positive", "negative"] = "unknown"
    """What a report that hedges counts as."""

    blank: Literal["negative", "unknown"] = "negative"
    """What a finding that is not mentioned counts as."""

    readers: Literal["majority", "any", "all"] = "majority"
    """How many of the readers of an image must have marked a finding."""

    method: Literal["any", "physician"] = "any"
    """Whose labels count."""

    def said(self, *choices: str) -> str:
        """Return the choices that a data set leaves, for its label release: "uncertain unknown, blank negative"."""
        return ", ".join(f"{name} {getattr(self, name)}" for name in choices)


def read_policy(text: str, dataset: str, *choices: str) -> LabelPolicy:
    """Return the policy in "uncertain=positive,blank=unknown"; choices: what `dataset` leaves to be chosen.

    Raises UserError for another word, with those that there are.
    """
    allowed = {item.name: get_type_hints(LabelPolicy)[item.name] for item in fields(LabelPolicy)}
    allowed = {name: allowed[name] for name in choices}
    words = "; ".join(f"{name}={' or '.join(kind.__args__)}" for name, kind in allowed.items())
    values: dict[str, Any] = {}
    for item in filter(None, text.split(",")):
        name, _, value = (part.strip() for part in item.partition("="))
        if name not in allowed or value not in allowed[name].__args__:
            raise UserError(f"--label-policy {item.strip()}: not a choice of {dataset}", remedy=f"choose from {words}")
        values[name] = value
    found: LabelPolicy = typed.build(LabelPolicy, values)
    return found
