"""What is known of one run, for documents that journals and hubs ask for.

A field is named after the file of the run that it was read from, so every statement can say what it rests on. What no
file says is None, and stays with the author: nothing is inferred from a name, and nothing is invented.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from cxrkit.base.contracts import SUBSETS
from cxrkit.base.errors import UserError
from cxrkit.base.files import read_json
from cxrkit.base.labels import LabelSet
from cxrkit.base.origin import labels_digest, metadata_digest
from cxrkit.evaluators.truth import Truth, read_truth
from cxrkit.models import options
from cxrkit.models.grammar import ALIASES, SPECS, ModelSpec
from cxrkit.report.evidence.runs import Run
from cxrkit.report.evidence.staleness import stale_reasons
from cxrkit.runs.config import TrainConfig, read_run_config
from cxrkit.runs.folder import RunFolder, read_split
from cxrkit.runs.imported import Imported, read_imported
from cxrkit.runs.metrics import read_metrics
from cxrkit.shards.index import DESCRIPTION, Description, read_description
from cxrkit.standards.cases import Cases, count_cases, metadata_of
from cxrkit.standards.datasets import DatasetFacts, dataset_facts

FILES = {
    "run": "scores.json",
    "config": "config.toml",
    "imported": "import.json",
    "provenance": "provenance.json",
    "epochs": "metrics.jsonl",
    "partitions": "split.parquet",
    "description": DESCRIPTION,
}


@dataclass(frozen=True)
class Partition:
    """One subset of the split."""

    subset: str
    """"train", "val" or "test"."""

    images: int
    """In the whole data set."""

    patients: int
    """Whose images these are."""

    used: int
    """Images that this run trained on, validated or tested."""

    cases: Cases | None
    """Of the images that were used; None where the labels of this run cannot be read any more."""


@dataclass(frozen=True)
class RunFacts:
    """All that the files of one run say."""

    run: Run
    """scores.json: metrics with their intervals, and the origin of the numbers."""

    stale: tuple[str, ...]
    """Why the scores are not those of the files beside them; empty: they are."""

    config: TrainConfig | None
    """config.toml: how it was trained; None for predictions that were imported."""

    imported: Imported | None
    """import.json: where predictions came from; None for a run that was trained here."""

    provenance: Mapping[str, Any] | None
    """provenance.json: versions and machine of the training."""

    epochs: tuple[Mapping[str, Any], ...]
    """metrics.jsonl: the line of each epoch; empty where there is none."""

    partitions: tuple[Partition, ...]
    """split.parquet: the subsets; empty where the split is not kept."""

    patients_shared: int | None
    """split.parquet: patients in more than one subset; None where the split is not kept."""

    description: Description | None
    """dataset.json of the prepared folder, where that is still the one of this run."""

    dataset: DatasetFacts | None
    """What is published of the data set; None for one that cxrkit knows nothing of."""

    spec: ModelSpec | None
    """What the network's name stands for, where it is one of cxrkit's and was trained here."""

    @property
    def labels(self) -> LabelSet:
        """The labels that are scored: a model from elsewhere need not know every label beside the mean."""
        labels = self.run.scores.labels
        if labels.metadata:
            return labels
        found = {metric.label for metric in self.run.test.overall}
        return replace(
            labels, labels=tuple(label for label in labels.labels if label in found or label in labels.averaged)
        )

    @property
    def looks_at_images(self) -> bool | None:
        """Whether the model is given pixels; None where that is not known."""
        return None if self.spec is None else self.spec.pixels

    @property
    def complete(self) -> bool:
        """Whether it was trained and tested on everything that its split holds, as far as is known."""
        origin = self.run.origin
        return self.run.test.complete and (not origin.train_images or origin.complete)

    @property
    def published_labels(self) -> DatasetFacts | None:
        """What is published of the labels that are scored; None for others than the data set's own."""
        own = self.dataset is not None and self.run.origin.label_set in self.dataset.label_sets
        return self.dataset if own else None

    @property
    def partitions_used(self) -> tuple[Partition, ...]:
        """The subsets that the run is known to have used: of an import those that were scored."""
        return tuple(
            item for item in self.partitions if self.config is not None or item.subset in self.run.scores.subsets
        )


def read_facts(run: Run, data: Path | None = None) -> RunFacts:
    """Return what the files of a run say. data: where the labels are, if not where the run was evaluated with.

    A file that is missing or cannot be read leaves None; only the scores, which the run was found by, must be there.
    """
    folder = RunFolder(run.folder)
    config = _or_none(lambda: read_run_config(folder.config)) if folder.config.exists() else None
    imported = _or_none(lambda: read_imported(folder.imported)) if folder.imported.exists() else None
    source = data or (config.run.data if config else imported.truth if imported else None)
    truth = _truth_of(run, source)
    partitions, shared = _partitions(folder, run, truth)
    return RunFacts(
        run=run,
        stale=tuple(stale_reasons(run)),
        config=config,
        imported=imported,
        provenance=_or_none(lambda: read_json(folder.provenance, "the provenance", "")),
        epochs=_epochs(folder.metrics),
        partitions=partitions,
        patients_shared=shared,
        description=_description_of(run, source),
        dataset=dataset_facts(run.origin.dataset),
        spec=None if config is None else _spec(config, run.scores.input_size),
    )


def _or_none(read: Any) -> Any:
    try:
        return read()
    except UserError:
        return None


def _spec(config: TrainConfig, input_size: int) -> ModelSpec | None:
    """Return what a name of the grammar stands for; anybody's own network would have to be built, with its code."""
    spec = SPECS.get(ALIASES.get(config.model.name, config.model.name))
    if spec is None:
        return None
    found: ModelSpec | None = _or_none(lambda: options.apply(spec, config.model.options).at(input_size))
    return found


def _epochs(path: Path) -> tuple[Mapping[str, Any], ...]:
    try:
        return tuple(line for line in read_metrics(path) if line.get("kind") == "epoch")
    except OSError:
        return ()


def _truth_of(run: Run, source: Path | None) -> Truth | None:
    """Return the labels behind the scores, None where there are others now, or none."""
    truth = None if source is None else _or_none(lambda: read_truth(source))
    if truth is None:
        return None
    found = _or_none(lambda: labels_digest(truth.records(run.scores.labels), run.scores.labels))
    if run.scores.labels.metadata:  # read from age, sex and view: these have their own digest
        has_them = {"age_years", "sex", "view"} <= set(truth.table.columns)
        found = metadata_digest(truth.table) if has_them else None
        return truth if found == run.origin.metadata_digest else None
    return truth if found == run.origin.labels_digest else None


def _description_of(run: Run, source: Path | None) -> Description | None:
    if source is None or not source.is_dir():
        return None
    about: Description | None = _or_none(lambda: read_description(source))
    origin = run.origin
    same = about is not None and about.labels_digest == origin.labels_digest
    # A network that looks at no pixel is of any folder with these labels.
    return about if same and about is not None and origin.pixels_digest in ("", about.pixels_digest) else None


def _partitions(folder: RunFolder, run: Run, truth: Truth | None) -> tuple[tuple[Partition, ...], int | None]:
    read = _or_none(lambda: read_split(folder))
    if read is None:
        return (), None
    frame: pl.DataFrame = read[1]
    labels = run.scores.labels
    table = None if truth is None else truth.records(labels).join(metadata_of(truth.table), on="image_id")
    found = []
    for subset in SUBSETS:
        rows = frame.filter(pl.col("subset") == subset)
        used = rows.filter(pl.col("used"))["image_id"]
        cases = None if table is None else count_cases(table.filter(pl.col("image_id").is_in(used.implode())), labels)
        found.append(Partition(subset, len(rows), rows["patient_id"].n_unique(), len(used), cases))
    shared = frame.group_by("patient_id").agg(pl.col("subset").n_unique()).filter(pl.col("subset") > 1)
    return tuple(found), len(shared)
