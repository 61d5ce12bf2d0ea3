"""Which runs may stand beside published numbers: every reason against it, and every doubt that stays.

Reasons come out of the comparison of two Origins, the run's and that of the published table, and out of what the run's
own scores say: how much was trained and tested, what is undefined, whether they are those of its files.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, fields, replace
from itertools import takewhile

from cxrkit.base.origin import Difference, Origin, Part, differences
from cxrkit.report.document.tables import UNCHECKED
from cxrkit.report.evidence.reference import KnownSplit, known_splits, reference_origin
from cxrkit.report.evidence.runs import AUC, Run
from cxrkit.report.evidence.staleness import stale

_AUC_BY = {AUC, "youden"}  # the evaluators whose AUC is cxrkit's own
_ANYWHERE: tuple[Part, ...] = ("data set", "labels", "metadata", "pixels")
_ON_A_KNOWN_SPLIT: tuple[Part, ...] = (*_ANYWHERE, "split", "training images")


@dataclass(frozen=True)
class Verdict:
    """Whether a run's numbers may stand beside published ones."""

    run: Run
    """The run that is judged."""

    reasons: tuple[str, ...]
    """Why they may not; empty: they may."""

    doubts: tuple[str, ...]
    """What of their origin nobody has checked, or must be known with them; such a run is marked."""

    mended_by: tuple[str, ...] = ()
    """Commands after which some of the reasons are gone."""

    elsewhere: bool = False
    """Whether the one reason is that it is of another data set or label set: such runs compare with each other."""

    @property
    def comparable(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.reasons


def judge(runs: Iterable[Run], splits: Collection[str], label_release: str) -> list[Verdict]:
    """Return a verdict on each run, for a table of the known splits called `splits`, in the order of the runs."""
    return _same_boxes(_same_pixels([_verdict(run, splits, label_release) for run in runs]))


def doubt_notes(verdict: Verdict, name: str) -> list[str]:
    """Return what the mark in a run's heading stands for."""
    return [f"{UNCHECKED} {name}: {'; '.join(verdict.doubts)}"] if verdict.doubts else []


def _verdict(run: Run, splits: Collection[str], label_release: str) -> Verdict:
    found, known = _from_the_reference(run, splits, label_release)
    old = stale(run)
    of_its_own = (*_of_its_own(run, known, found), *(one.reason for one in old))
    reasons = (*(_words(difference, run.origin) for difference in found), *of_its_own)
    elsewhere = known is not None and not of_its_own and [item.part for item in found] == ["data set"]
    mended_by = dict.fromkeys(command for command in (*(one.mended_by for one in old), _with_auc(run)) if command)
    return Verdict(run, reasons, tuple(_doubts(run)), tuple(mended_by), elsewhere)


def _from_the_reference(
    run: Run, splits: Collection[str], label_release: str
) -> tuple[list[Difference], KnownSplit | None]:
    """Return in what a run differs from what is published, and the known split that its name is of."""
    known = known_splits()[run.split] if run.split in splits else None
    reference = reference_origin(run.split if known else next(iter(splits)), label_release)
    if run.scores.labels.metadata:  # what a probe learns from age, sex and view has their digest
        reference = replace(reference, label_set=run.origin.label_set, labels_digest="")
    parts = _ON_A_KNOWN_SPLIT if known else _ANYWHERE
    if run.origin.basis.training == "declared":  # a model from elsewhere: what must agree is what it was tested on
        parts = tuple(part for part in parts if part != "training images")
    found = differences(reference, run.origin, parts)
    if found and found[0].part == "data set":
        found = found[:1]  # everything else of another data set is another, too
    return found, known


def _of_its_own(run: Run, known: KnownSplit | None, found: Collection[Difference]) -> list[str]:
    """Return what speaks against a run whatever it is compared with."""
    split = ["another split"] if known is None else []
    return [
        *split,
        *_incomplete(run, found),
        *_other_images(run, known, found),
        *_seen_before(run),
        *_gaps(run),
    ]


def _with_auc(run: Run) -> str:
    """Return the command that adds the AUCs to scores of findings without any; "" where they are there."""
    if run.has_auc or run.scores.labels.unit:
        return ""
    evaluators = shlex.quote(f"{AUC},{run.scores.evaluator}")
    return f"cxrkit evaluate {shlex.quote(str(run.folder))} --evaluator {evaluators}"


def _words(difference: Difference, origin: Origin) -> str:
    match difference.part:
        case "data set" if difference.other == "synthetic":
            return f"synthetic images, not {difference.one}"
        case "data set":
            what = "data set" if difference.other == origin.dataset else "label set"
            return f"{what} {difference.other}, not {difference.one}"
        case "split":
            return f"split {origin.split} is not the known one (digest {origin.split_digest[:12]})"
        case "training images":
            return f"trained on {difference.other}, not {difference.one.split()[0]}"
        case _:
            return f"{difference.other}, not {_rest(difference.one, difference.other)}"


def _rest(text: str, said: str) -> str:
    """Return `text` without the words that it begins with as `said` does."""
    words = text.split()
    common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(words, said.split(), strict=False)))
    return " ".join(words[common:])


def _incomplete(run: Run, found: Collection[Difference]) -> list[str]:
    """Return how much of the run's own subsets was left out."""
    reasons = []
    if not run.test.complete:
        reasons.append(f"{run.test.images:,} of {run.test.subset_images:,} test images")
    said = any(difference.part == "training images" for difference in found)
    if run.origin.train_images and not run.origin.complete and not said:
        reasons.append(f"trained on {run.origin.train_images:,} of {run.origin.train_subset_images:,} images")
    return reasons


def _other_images(run: Run, known: KnownSplit | None, found: Collection[Difference]) -> list[str]:
    """Return a reason where a whole test set of the right name is not the known one, and nothing has said so yet."""
    said = any(difference.part in ("data set", "split") for difference in found)
    if known is None or said or not run.test.complete or run.test.images_digest == known.test_digest:
        return []
    return [f"its {run.test.images:,} test images are not the {known.test:,} of split {known.name}"]


def _gaps(run: Run) -> list[str]:
    """Return what the scores lack: AUCs, or the comparison with the training images."""
    reasons = []
    averaged = run.scores.labels.averaged
    undefined = [label for label in averaged if (metric := run.auc(label)) is None or metric.value is None]
    if run.scores.labels.unit:  # an amount has no AUC
        if run.test.metric("mae", run.scores.labels.labels[0]) is None:
            reasons.append(
                f"no mean absolute error: its evaluator {run.scores.evaluator} gives {', '.join(run.test.names)}"
            )
    elif not run.has_auc:
        reasons.append(f"no {AUC}: its evaluator {run.scores.evaluator} gives {', '.join(run.test.names)}")
    elif undefined:
        named = ", ".join(undefined) if len(undefined) <= 2 else f"{len(undefined)} of {len(averaged)} pathologies"
        reasons.append(f"AUC undefined for {named}")
    elif (mean := run.auc()) is None or mean.value is None:
        reasons.append(f"no mean {AUC} from its evaluator {run.scores.evaluator}")
    if not run.test.leakage_checked and run.origin.basis.training != "unknown":  # that is a doubt, see `_doubts`
        reasons.append("not checked against its training images (no split.parquet)")
    return reasons


def _seen_before(run: Run) -> list[str]:
    """Return a reason where the network had learned from the labels that it is tested by."""
    return ["its pretraining saw labels of its test images"] if run.origin.saw.test_images == "labels" else []


def _doubts(run: Run) -> list[str]:
    """Return which parts of the run's origin are declared only, or not known at all, and what must be known of it."""
    origin = run.origin
    how = {field.name: getattr(origin.basis, field.name) for field in fields(origin.basis)}
    # A digest that is not there was not checked, whatever the basis says.
    absent = {
        "labels": not origin.labels_digest,
        "pixels": not (origin.pixels_digest and origin.image_side),
        "split": not origin.split_digest,
        "training": not origin.train_images,
    }
    how |= {part: "unknown" for part, missing in absent.items() if missing and how[part] != "unused"}
    by_basis: dict[str, list[str]] = {}
    for part, basis in how.items():
        if basis not in ("checked", "unused"):
            by_basis.setdefault(basis, []).append("training images" if part == "training" else part)
    how_said = {"declared": "declared, not checked", "unknown": "unknown"}
    doubts = [f"{', '.join(parts)} {how_said[basis]}" for basis, parts in by_basis.items()]
    if run.has_auc and not _AUC_BY & set(run.scores.evaluators):
        doubts.append(f"{AUC} by evaluator {run.scores.evaluator}, not by cxrkit's own")
    # A probe learns from a network of ours: that this one knows the data set is the point of it.
    if run.origin.saw.of_data_set and not run.scores.labels.metadata:
        doubts.append(run.origin.saw.words)
    return doubts


def _same_pixels(verdicts: list[Verdict]) -> list[Verdict]:
    """Set apart complete runs on other source files than most of them; where there is no majority, say so on each."""
    digests = Counter(
        verdict.run.origin.pixels_digest
        for verdict in verdicts
        if verdict.comparable and verdict.run.origin.pixels_digest
    )
    if len(digests) < 2:
        return verdicts
    (most, count), (_, next_count) = digests.most_common(2)
    if count == next_count:
        doubt = "source files differ between the complete runs, and no version of them has a majority"
        return [replace(item, doubts=(*item.doubts, doubt)) if item.comparable else item for item in verdicts]
    return [_with_pixels(item, most, count) if item.comparable else item for item in verdicts]


def _same_boxes(verdicts: list[Verdict]) -> list[Verdict]:
    """Say so on each run that learned from boxes, where another of the same data set learned from another box list."""
    lists = Counter(data for data, boxes in {_learned_boxes(item.run) for item in verdicts} if boxes)
    doubt = "box lists differ between the runs that learned from boxes"
    found = []
    for item in verdicts:
        data, boxes = _learned_boxes(item.run)
        differ = boxes and lists[data] > 1
        found.append(replace(item, doubts=(*item.doubts, doubt)) if differ else item)
    return found


def _learned_boxes(run: Run) -> tuple[tuple[str, str], str]:
    """Return the data set and label set of a run, and the digest of the boxes that it learned from."""
    return (run.origin.dataset, run.origin.label_set), run.origin.boxes_digest


def _with_pixels(verdict: Verdict, most: str, count: int) -> Verdict:
    # The preparation's settings may differ: sides of the levels and codec are the run's own choice.
    wanted = replace(verdict.run.origin, pixels_digest=most)
    reasons = tuple(
        f"{found.other}, while {count} complete run{'s have' if count > 1 else ' has'} {most[:12]}"
        for found in differences(wanted, verdict.run.origin, {"pixels"})
    )
    return replace(verdict, reasons=reasons)
