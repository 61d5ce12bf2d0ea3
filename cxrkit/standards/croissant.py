"""Croissant metadata (MLCommons, JSON-LD) of a prepared folder: its files with checksums, its records and its splits.

Written to Croissant 1.0, which every mlcroissant reads since its first release, with the fields of the extension RAI
1.0 that a published data set has answers to. Addresses of files are relative: `croissant.json` describes the folder
that it lies in, so copy it, and `splits.parquet`, into the prepared folder, or give mlcroissant a `mapping`.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from cxrkit.base import labels as label_sets
from cxrkit.base.contracts import BOX_SCHEMA, SUBSETS, record_schema
from cxrkit.base.files import file_digest
from cxrkit.datasets.known_splits import list_digest
from cxrkit.datasets.splits import FOLDS, Split, make
from cxrkit.shards.index import DESCRIPTION, Description, TableFile
from cxrkit.standards.datasets import DatasetFacts, dataset_facts

SPLITS_FILE = "splits.parquet"
_PARQUET, _HDF5, _JSON = "application/x-parquet", "application/x-hdf5", "application/json"
_KINDS = {pl.String: "sc:Text", pl.Int32: "sc:Integer", pl.Float64: "sc:Float", pl.Boolean: "sc:Boolean"}
# The context of the standard, as its examples print it.
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    **{
        name: f"cr:{name}"
        for name in (
            "citeAs", "column", "equivalentProperty", "extract", "field", "fileProperty", "fileObject", "fileSet",
            "format", "includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet",
            "references", "regex", "repeated", "replace", "samplingRate", "separator", "source", "subField",
            "transform",
        )
    },
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
}  # fmt: skip


def make_splits(records: pl.DataFrame) -> list[Split]:
    """Return every split that the data set has: the official one, where it has one, and the five resamples."""
    has_official = not records["official"].null_count()
    return [make(records, fold) for fold in FOLDS if fold != "official" or has_official]


def splits_table(splits: list[Split]) -> bytes:
    """Return, as parquet, image_id and a column a split that says each image's subset."""
    table = splits[0].frame.select("image_id")
    for split in splits:
        table = table.join(split.frame.select("image_id", pl.col("subset").alias(split.name)), on="image_id")
    buffer = io.BytesIO()
    table.sort("image_id").write_parquet(buffer)
    return buffer.getvalue()


def croissant(
    folder: Path, about: Description, splits: list[Split], splits_sha256: str, shard_sha256: Mapping[str, str]
) -> dict[str, Any]:
    """Return the JSON-LD of a prepared folder.

    splits: those of `make_splits`. splits_sha256: of the file that `splits_table` makes. shard_sha256: of every shard,
    by file name. All else is what the folder's own description says.
    """
    facts = dataset_facts(about.dataset)
    conforms = ["http://mlcommons.org/croissant/1.0", *["http://mlcommons.org/croissant/RAI/1.0"] * bool(facts)]
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": conforms if facts else conforms[0],
        "name": f"{about.dataset}-prepared",
        "description": _description(about, facts),
        **_published(facts),
        "dateCreated": about.created,
        "keywords": ["chest x-ray", "radiography", "multi-label classification", about.dataset],
        "distribution": [*_tables(folder, about, splits_sha256), *_shards(about, shard_sha256)],
        "recordSet": _record_sets(about, splits),
    }


def _description(about: Description, facts: DatasetFacts | None) -> str:
    name = facts.name if facts else about.dataset
    if about.levels:
        quality = f" of quality {about.quality}" if about.quality else ""
        sizes = ", ".join(map(str, about.levels))
        pixels = f"{about.prepared_images:,} images at {sizes} pixels ({about.codec}{quality}) in HDF5 shards"
    else:
        pixels = "no pixels"
    return (
        f"{name}, prepared by cxrkit {about.tool_version}: records of {about.listed_images:,} images, {pixels}. Labels "
        f"of release {about.label_release}, SHA-256 over who has what: {about.labels_digest}. SHA-256 over the source "
        f"files' names, sizes and checksums: {about.pixels_digest}. "
        f"{len(about.damaged):,} images were left out as damaged."
    )


def _published(facts: DatasetFacts | None) -> dict[str, Any]:
    """Return what is published of the data set; of another one the author must say licence and citation."""
    if facts is None:
        return {"license": "author: name the licence of the data set", "citeAs": "author: name its publication"}
    found: dict[str, Any] = {
        "license": facts.licence,
        "creator": {"@type": "sc:Organization", "name": facts.creator},
        "rai:dataCollection": facts.collected,
        "rai:dataPreprocessingProtocol": [facts.acquired],
        "rai:dataAnnotationProtocol": [facts.reference],
        "rai:dataLimitations": [*facts.label_limitations, *facts.limitations],
        "rai:personalSensitiveInformation": [facts.deidentified],
    }
    found |= {"url": facts.homepage} if facts.homepage else {}
    return found | ({"citeAs": facts.citation} if facts.citation else {})


def _tables(folder: Path, about: Description, splits_sha256: str) -> list[dict[str, Any]]:
    found = [
        _file("dataset", DESCRIPTION, _JSON, file_digest(folder / DESCRIPTION), "What the folder holds."),
        _table("records", about.records, "Every image of the data set: patient, age, sex, view and labels."),
        _table("index", about.index, "Where each prepared image lies in its shard, and what it was made from."),
    ]
    if about.boxes is not None:
        found.append(_table("boxes", about.boxes, "Bounding boxes, in pixels of the original image."))
    text = "The subset of each image, in a column a split."
    return [*found, _file("splits-table", SPLITS_FILE, _PARQUET, splits_sha256, text)]


def _table(name: str, table: TableFile, text: str) -> dict[str, Any]:
    return _file(name, table.file, _PARQUET, table.sha256, text)


def _shards(about: Description, shard_sha256: Mapping[str, str]) -> list[dict[str, Any]]:
    return [
        _file(shard.file, shard.file, _HDF5, shard_sha256[shard.file], f"Pixels of {shard.images:,} images.")
        | {"contentSize": f"{shard.bytes} B"}
        for shard in about.shards
    ]


def _file(identity: str, file: str, encoding: str, sha256: str, text: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": identity,
        "name": file,
        "description": text,
        "contentUrl": file,
        "encodingFormat": encoding,
        "sha256": sha256,
    }


def _record_sets(about: Description, splits: list[Split]) -> list[dict[str, Any]]:
    labels = label_sets.get(about.label_set)
    texts = {
        label: f"Whether the image has {labels.heading(label)}; empty where that is not known."
        for label in labels.labels
    }
    texts |= {"age_years": "Age in years.", "sex": "M or F.", "view": "PA or AP.", "image_id": "The file's name."}
    sets = [_from_table("images", "records", record_schema(labels), texts, "Every image of the data set.")]
    if about.boxes is not None:
        sets.append(_from_table("bounding-boxes", "boxes", BOX_SCHEMA, {}, "Bounding boxes of findings."))
    names: dict[str, Any] = {"image_id": pl.String(), **{split.name: pl.String() for split in splits}}
    subsets = {split.name: f"train, val or test in split {split.name}." for split in splits}
    assignment = _from_table("split-assignment", "splits-table", names, subsets, "The subset of each image.")
    for field in assignment["field"]:
        if field["name"] == "image_id":
            field["references"] = {"field": {"@id": "images/image_id"}}
    return [*sets, assignment, _subsets(), _splits(splits)]


def _from_table(name: str, file: str, schema: Mapping[str, Any], texts: Mapping[str, str], text: str) -> dict[str, Any]:
    fields = [
        {
            "@type": "cr:Field",
            "@id": f"{name}/{column.replace(' ', '_')}",  # an @id has no spaces
            "name": column,
            "description": texts.get(column, column),
            "dataType": _KINDS[type(kind)],
            "source": {"fileObject": {"@id": file}, "extract": {"column": column}},
        }
        for column, kind in schema.items()
    ]
    key = {"key": {"@id": f"{name}/image_id"}} if name != "bounding-boxes" else {}
    return {"@type": "cr:RecordSet", "@id": name, "name": name, "description": text, **key, "field": fields}


def _subsets() -> dict[str, Any]:
    """Return the words for subsets with what they stand for in Croissant's vocabulary."""
    urls = {"train": "cr:TrainingSplit", "val": "cr:ValidationSplit", "test": "cr:TestSplit"}
    return _inline(
        "subsets",
        "The subsets of a split.",
        {"name": "sc:Text", "url": "sc:URL"},
        [{"name": subset, "url": urls[subset]} for subset in SUBSETS],
    ) | {"dataType": "cr:Split", "key": {"@id": "subsets/name"}}


def _splits(splits: list[Split]) -> dict[str, Any]:
    rows = []
    for split in splits:
        for subset in SUBSETS:
            part = split.frame.filter(pl.col("subset") == subset)
            counts: dict[str, Any] = {"images": len(part), "patients": part["patient_id"].n_unique()}
            digests = {"images_sha256": list_digest(part["image_id"]), "split_sha256": split.digest}
            rows.append({"split": split.name, "subset": subset, **counts, **digests})
    kinds = {"split": "sc:Text", "subset": "sc:Text", "images": "sc:Integer", "patients": "sc:Integer"}
    kinds |= {"images_sha256": "sc:Text", "split_sha256": "sc:Text"}
    text = "Sizes of the subsets; SHA-256 over the sorted names of their images, one a line, and over the whole split."
    return _inline("splits", text, kinds, rows)


def _inline(name: str, text: str, kinds: Mapping[str, str], rows: list[dict[str, Any]]) -> dict[str, Any]:
    fields = [
        {"@type": "cr:Field", "@id": f"{name}/{column}", "name": column, "dataType": kind}
        for column, kind in kinds.items()
    ]
    data = [{f"{name}/{column}": value for column, value in row.items()} for row in rows]
    return {"@type": "cr:RecordSet", "@id": name, "name": name, "description": text, "field": fields, "data": data}
