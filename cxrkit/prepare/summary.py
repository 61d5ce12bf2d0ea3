"""What a preparation says when it is done."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from cxrkit.base.contracts import Note
from cxrkit.base.progress import duration, size_text
from cxrkit.base.words import count
from cxrkit.prepare.worker import STAGES
from cxrkit.shards.index import DESCRIPTION

_SHOWN = 20  # damaged images named in a message


@dataclass
class PrepareSummary:
    """What a preparation did."""

    data: Path
    """The prepared folder."""

    workers: int
    """Processes."""

    images: int = 0
    """Prepared images, of which `reused` were there from an earlier run."""

    reused: int = 0
    """Images that were kept from an earlier run."""

    missing: int = 0
    """Listed, but not at hand."""

    listed: int = 0
    """Images in the tables, where these alone were prepared; else 0."""

    notes: tuple[Note, ...] = ()
    """What of the raw folder was passed over."""

    damaged: dict[str, str] = field(default_factory=dict)
    """image_id -> why it was left out."""

    converted: Counter[str] = field(default_factory=Counter)
    """What was converted to gray -> how many images, in this run."""

    level_bytes: dict[int, int] = field(default_factory=dict)
    """Level -> its stored bytes."""

    shards: int = 0
    """Shard files, of which `shards_reused` were there."""

    shards_reused: int = 0
    """Shard files that were kept from an earlier run."""

    seconds: float = 0.0
    """Wall clock."""

    stage_seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    """Processor time per stage, all workers together."""

    @property
    def images_per_second(self) -> float:
        """Images made in this run, per second of wall clock, starting and finishing included."""
        return (self.images - self.reused) / self.seconds if self.seconds else 0.0

    @property
    def decoding_share(self) -> float:
        """Share of the workers' busy time that was spent decoding PNGs."""
        busy = sum(self.stage_seconds.values())
        return self.stage_seconds["decode"] / busy if busy else 0.0

    def text(self) -> str:
        """Return the closing lines for the terminal: what is peculiar, and in the end what was made."""
        if self.listed:
            made = f"tables of {count(self.listed, 'image')} in {self.data}, no pixels ({duration(self.seconds)})"
            return "\n".join([*self._notes(), made])
        lines = []
        for kind, number in sorted(self.converted.items()):
            into = "8 bits" if kind.endswith("bits") else "gray"
            lines.append(f"  converted to {into}: {number:,} from {kind}")
        if self.missing:
            lines.append(f"  missing: {count(self.missing, 'listed image')} not in the raw folder")
        lines += self._notes()
        if self.damaged:
            lines.append(f"  left out as damaged: {len(self.damaged):,} (see {DESCRIPTION})")
            lines += damage_list(self.damaged)
        sizes = ", ".join(f"{level} px {size_text(number)}" for level, number in self.level_bytes.items())
        lines.append(f"  {size_text(sum(self.level_bytes.values()))}: {sizes}")
        lines.append(f"{count(self.images, 'image')} in {count(self.shards, 'shard')} in {self.data}")
        return "\n".join([*lines, *self._work()])

    def _work(self) -> list[str]:
        """Return one line on what of it was made in this run, and how fast; none where nothing was asked for."""
        parts = []
        if made := self.images - self.reused:
            speed = f"{self.images_per_second:,.0f} images/s, " if self.images_per_second >= 0.5 else ""
            parts.append(f"made {made:,} in {duration(self.seconds)} ({speed}{count(self.workers, 'worker')})")
        if self.reused:
            parts.append(f"kept {self.reused:,} from an earlier run ({count(self.shards_reused, 'shard')})")
        return [f"  {', '.join(parts)}"] if parts else []

    def _notes(self) -> list[str]:
        return [line for note in self.notes for line in (f"  note: {note.found}", f"    remedy: {note.remedy}")]


def damage_list(damaged: dict[str, str]) -> list[str]:
    """Return one line per damaged image, for the first of them, and how many more there are."""
    lines = [f"    {image_id}: {why}" for image_id, why in sorted(damaged.items())[:_SHOWN]]
    return [*lines, f"    and {len(damaged) - _SHOWN:,} more"] if len(damaged) > _SHOWN else lines
