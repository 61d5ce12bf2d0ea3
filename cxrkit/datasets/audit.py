"""What a list of images shares: its subsets with each other, and each with the official test set and known splits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import polars as pl

from cxrkit.base.contracts import SUBSETS
from cxrkit.base.errors import UserError
from cxrkit.datasets import image_names, known_splits
from cxrkit.datasets.known_splits import KnownList
from cxrkit.datasets.lists import NamedList
from cxrkit.datasets.splits import Split

_SHOWN = 3


@dataclass(frozen=True)
class Shared:
    """What two lists have in common."""

    images: int
    """How many images are in both."""

    patients: int
    """How many patients have images in both, whether the same images or others."""

    first_patients: tuple[str, ...] = ()
    """The first of these patients."""


@dataclass(frozen=True)
class AuditedList:
    """One subset of what was audited."""

    name: str
    """As its file or its key says."""

    frame: pl.DataFrame
    """image_id and patient_id of its images that the data set has, each once."""

    repeated: int
    """How many lines name an image that stood there before."""

    unknown: tuple[str, ...]
    """Names that no image of the data set has."""

    digest: str
    """`known_splits.list_digest` of its images and of the names that are none."""

    known: tuple[KnownList, ...]
    """What known lists it is."""

    @property
    def images(self) -> int:
        """How many images of the data set it has."""
        return self.frame.height

    @property
    def patients(self) -> int:
        """How many patients these are of."""
        return self.frame["patient_id"].n_unique()


@dataclass(frozen=True)
class Audit:
    """All that is found about some lists."""

    lists: tuple[AuditedList, ...]
    """The subsets, in the order of the files."""

    known: tuple[str, ...]
    """Names of the known splits that these lists are, by digest."""

    alike: tuple[str, ...]
    """Names of splits with lists of the same sizes, where no digest tells."""

    within: dict[tuple[str, str], Shared]
    """What each pair of the lists shares."""

    beside: dict[tuple[str, str], tuple[Shared, ...]]
    """By split and subset: what each of the lists shares with it; "official", "resample-1", ..."""


def audit(lists: Sequence[NamedList], records: pl.DataFrame, splits: Iterable[Split]) -> Audit:
    """Return what the lists are and share.

    records: image_id and patient_id of all images of the data set. splits: to compare with. Raises UserError for a list
    of which no name is an image of the data set.
    """
    audited = tuple(_one(item, records) for item in lists)
    known = known_splits.identify(item.digest for item in audited)
    beside: dict[tuple[str, str], tuple[Shared, ...]] = {}
    for split in splits:
        for subset in SUBSETS:
            part = split.frame.filter(pl.col("subset") == subset)
            if len(part):
                beside[split.name, subset] = tuple(shared(item.frame, part) for item in audited)
    return Audit(
        lists=audited,
        known=tuple(known),
        alike=() if known else tuple(known_splits.alike(item.images for item in audited)),
        within={(one.name, other.name): shared(one.frame, other.frame) for one, other in combinations(audited, 2)},
        beside=beside,
    )


def _one(item: NamedList, records: pl.DataFrame) -> AuditedList:
    found = image_names.match(item.names, records["image_id"])
    strange = item.names.filter(found.is_null()).unique(maintain_order=True)
    if len(found) == found.null_count():
        raise UserError(
            f"{item.path}: none of its {len(found):,} names in {item.name!r} is an image of the data set, "
            f"the first is {strange[0]!r:.80}; expected names like {records['image_id'][0]}",
            remedy="give the images' file names; for another data set than ChestX-ray14 name its prepared folder "
            "with --data",
        )
    images = found.drop_nulls().unique().sort().to_frame("image_id")
    digest = known_splits.list_digest([*images["image_id"], *strange])
    return AuditedList(
        name=item.name,
        frame=images.join(records.select("image_id", "patient_id"), on="image_id", maintain_order="left"),
        repeated=len(item.names) - len(strange) - len(images) - _repeated(item.names, found),
        unknown=tuple(strange),
        digest=digest,
        known=known_splits.known_lists().get(digest, ()),
    )


def _repeated(names: pl.Series, found: pl.Series) -> int:
    """Return how many names that are no images stand there again."""
    strange = names.filter(found.is_null())
    return len(strange) - strange.n_unique()


def shared(one: pl.DataFrame, other: pl.DataFrame) -> Shared:
    """Return what two tables of image_id and patient_id have in common."""
    images = one.select("image_id").join(other.select("image_id"), on="image_id", how="semi").height
    patients = one.select("patient_id").unique().join(other.select("patient_id"), on="patient_id", how="semi")
    first = patients.sort(pl.col("patient_id").str.len_chars(), "patient_id")["patient_id"].head(_SHOWN)
    return Shared(images, patients.height, tuple(first))
