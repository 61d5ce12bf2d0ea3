"""What a preparation says when it is done."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from cxrkit.base.contracts import Note
from cxrkit.base.progress import duration
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
        """Return the closing lines for the terminal."""
        if self.listed:
            lines = [f"tables of {self.listed:,} images in {self.data}, no pixels ({duration(self.seconds)})"]
            return "\n".join([*lines, *self._notes()])
        made = self.images - self.reused
        lines = [f"{self.images:,} images in {self.shards:,} shards in {self.data}"]
        if made:
            speed = f"{self.images_per_second:,.0f} images/s"
            processes = f"{self.workers} worker{'s' if self.workers > 1 else ''}"
            lines.append(
                f"  made {made:,} in {duration(self.seconds)} ({speed}, {processes}; "
                f"PNG decoding {self.decoding_share:.0%} of the busy time)"
            )
        if self.reused:
            lines.append(f"  kept {self.reused:,} from an earlier run ({self.shards_reused:,} shards)")
        sizes = ", ".join(f"{level} px {_size(count)}" for level, count in self.level_bytes.items())
        lines.append(f"  {_size(sum(self.level_bytes.values()))}: {sizes}")
        for kind, count in sorted(self.converted.items()):
            into = "8 bits" if kind.endswith("bits") else "gray"
            lines.append(f"  converted to {into}: {count:,} from {kind}")
        if self.missing:
            lines.append(f"  missing: {self.missing:,} listed images are not in the raw folder")
        lines += self._notes()
        if self.damaged:
            lines.append(f"  left out as damaged: {len(self.damaged):,} (see {DESCRIPTION})")
            lines += damage_list(self.damaged)
        return "\n".join(lines)

    def _notes(self) -> list[str]:
        return [line for note in self.notes for line in (f"  note: {note.found}", f"    remedy: {note.remedy}")]


def damage_list(damaged: dict[str, str]) -> list[str]:
    """Return one line per damaged image, for the first of them, and how many more there are."""
    lines = [f"    {image_id}: {why}" for image_id, why in sorted(damaged.items())[:_SHOWN]]
    return [*lines, f"    and {len(damaged) - _SHOWN:,} more"] if len(damaged) > _SHOWN else lines


def _size(count: int) -> str:
    """Return a number of bytes with its unit, in powers of 1000."""
    for unit in ("GB", "MB"):
        scale = {"GB": 1e9, "MB": 1e6}[unit]
        if count >= scale:
            return f"{count / scale:,.1f} {unit}"
    return f"{count / 1e3:,.1f} kB"
