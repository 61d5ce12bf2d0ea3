"""`cxrkit verify`: read a prepared folder again, every byte, against its checksums."""

from __future__ import annotations

from collections import deque
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console

from cxrkit import codecs
from cxrkit.cores import available_cores
from cxrkit.errors import UserError
from cxrkit.files import read_json
from cxrkit.progress import progress_bar
from cxrkit.shard_check import CheckTask, Finding
from cxrkit.shard_file import FORMAT_VERSION
from cxrkit.shards import BOXES, DESCRIPTION, INDEX, read_records, read_table
from cxrkit.workers import Worker, Workers

_TARGET = "cxrkit.shard_check:check_shard"
_SHOWN = 20  # findings named in a message


@dataclass
class VerifyReport:
    """What was read, and everything that is wrong with it.

    images, shards, bytes: read. deep: every image was decoded too. findings: sorted by file; empty when all is well.
    """

    data: Path
    deep: bool
    images: int = 0
    shards: int = 0
    bytes: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings

    def text(self) -> str:
        """Return the closing line for the terminal, or the list of what is wrong."""
        read = f"{self.data}: {self.images:,} images in {self.shards:,} shards, {self.bytes / 1e9:,.2f} GB read"
        read += ", every image decoded" if self.deep else ""
        if self.ok:
            return f"{read}: all as it was written"
        lines = [f"  {finding.text()}" for finding in self.findings[:_SHOWN]]
        more = [f"  and {len(self.findings) - _SHOWN:,} more"] if len(self.findings) > _SHOWN else []
        count = f"{len(self.findings):,} thing{'s' if len(self.findings) > 1 else ''} wrong"
        return "\n".join([f"{read}: {count}", *lines, *more])

    def raise_if_damaged(self) -> None:
        """Raise a UserError that lists what is wrong and says how to repair it, if anything is."""
        if self.ok:
            return
        files = sorted({finding.file for finding in self.findings if finding.file.startswith("shard-")})
        named = ", ".join(files[:_SHOWN]) + (f" and {len(files) - _SHOWN:,} more" if len(files) > _SHOWN else "")
        remedy = "run `cxrkit prepare` again with the same settings; it writes what is missing"
        raise UserError(self.text(), remedy=f"delete {named} in {self.data}, then {remedy}" if files else remedy)


def verify(
    data: Path, *, deep: bool = False, workers: int | None = None, console: Console | None = None
) -> VerifyReport:
    """Read every record of the prepared folder `data` and compare it with its checksum; return what is wrong.

    deep: decode every record too. workers: processes; None: one per core. Raises UserError when the folder has no
    readable description or index: there is nothing to compare with then.
    """
    about = _description(data)
    levels = tuple(about["levels"])
    codecs.check(about["codec"])
    index = read_table(data / INDEX)
    report = VerifyReport(data, deep, bytes=sum(shard["bytes"] for shard in about["shards"]))
    report.findings = _check_tables(data, about, index)
    tasks = _tasks(data, about, index, levels, deep)
    report.images, report.shards = len(index), len(tasks)
    pending = deque(tasks)

    def take(_: Worker) -> CheckTask | None:
        try:
            return pending.popleft()
        except IndexError:
            return None

    count = min(workers or available_cores(), max(1, len(tasks)))
    with (
        progress_bar("verify", len(tasks), console=console, unit="shards") as bar,
        Workers(count, _TARGET) as pool,
        closing(pool.run(take)) as results,
    ):
        for findings in results:
            report.findings += findings
            bar.advance()
    report.findings.sort(key=lambda finding: (finding.file, finding.image_id, -finding.level))
    return report


def _description(data: Path) -> dict[str, Any]:
    remedy = f"run `cxrkit prepare --data {data}` again, or name the prepared folder with --data"
    about: dict[str, Any] = read_json(data / DESCRIPTION, "the description of a prepared folder", remedy)
    if about.get("format_version") != FORMAT_VERSION:
        raise UserError(
            f"{data / DESCRIPTION}: format version {about.get('format_version')}, this cxrkit reads {FORMAT_VERSION}",
            remedy="prepare the folder again with this version",
        )
    return about


def _check_tables(data: Path, about: dict[str, Any], index: pl.DataFrame) -> list[Finding]:
    """Compare the description with the tables and with the files that are there."""
    findings = []
    if len(index) != about["prepared_images"]:
        findings.append(Finding(INDEX, f"{len(index):,} images, but {about['prepared_images']:,} were prepared"))
    if not index["image_id"].is_sorted() or index["image_id"].n_unique() != len(index):
        findings.append(Finding(INDEX, "its images are not sorted, or not all different"))
    try:
        records = read_records(data)
        if len(records) != about["listed_images"] or not index["image_id"].is_in(records["image_id"].implode()).all():
            findings.append(Finding("records.parquet", "does not list the images that were prepared"))
        if (data / BOXES).exists():
            read_table(data / BOXES)
    except UserError as error:
        findings.append(Finding(*_split(str(error), data)))
    known = {shard["file"] for shard in about["shards"]}
    for path in sorted(data.glob("shard-*.h5")):
        if path.name not in known:
            findings.append(Finding(path.name, f"is not a shard that {DESCRIPTION} lists"))
    return findings


def _split(message: str, data: Path) -> tuple[str, str]:
    file, _, what = message.splitlines()[0].removeprefix(f"{data}/").partition(": ")
    return file, what


def _tasks(
    data: Path, about: dict[str, Any], index: pl.DataFrame, levels: tuple[int, ...], deep: bool
) -> list[CheckTask]:
    parts = {int(key[0]): part for key, part in index.partition_by("shard", as_dict=True, maintain_order=True).items()}
    empty = index.clear()
    tasks = []
    for number, shard in enumerate(about["shards"]):
        rows = parts.get(number, empty)
        tasks.append(
            CheckTask(
                path=data / shard["file"],
                settings_digest=about["settings_digest"],
                bytes=shard["bytes"],
                codec=about["codec"],
                levels=levels,
                image_ids=rows["image_id"].to_list(),
                offset=rows.select(f"offset_{level}" for level in levels).to_numpy(),
                size=rows.select(f"size_{level}" for level in levels).to_numpy(),
                crc32=rows.select(f"crc32_{level}" for level in levels).to_numpy(),
                deep=deep,
            )
        )
    return tasks
