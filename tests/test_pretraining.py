"""What a network had seen before: what follows from what, what contradicts, and what older files say."""

from __future__ import annotations

from dataclasses import asdict, replace
from itertools import product
from pathlib import Path

import polars as pl
import pytest
from tiny_runs import make_info, make_origin, make_records, make_scores, make_split

from cxrkit.base import typed
from cxrkit.base.errors import UserError
from cxrkit.base.origin import Origin
from cxrkit.base.pretraining import IMAGENET, NOTHING, UNKNOWN, Declared, Pretraining, named, read_declared
from cxrkit.runs.imported import read_about
from cxrkit.runs.predictions import METADATA_KEY, read_prediction_info, write_predictions

AMOUNTS = ("none", "images", "labels")


def test_a_part_of_nothing_is_nothing() -> None:
    assert Pretraining("none") == Pretraining("none", "none", "none") == NOTHING
    assert Pretraining("labels", "none") == Pretraining("labels", "none", "none") == IMAGENET
    assert not Pretraining().known
    assert Pretraining("images").this_data_set == "unknown"


@pytest.mark.parametrize(("seen", "here", "test"), list(product((*AMOUNTS, "unknown"), repeat=3)))
def test_of_a_part_no_more_is_seen_than_of_the_whole(seen: str, here: str, test: str) -> None:
    known = [AMOUNTS.index(amount) for amount in (seen, here, test) if amount != "unknown"]
    if known == sorted(known, reverse=True):
        assert Pretraining(seen, here, test).seen == seen
    else:
        with pytest.raises(ValueError, match="which is more than"):
            Pretraining(seen, here, test)


@pytest.mark.parametrize(
    ("pretrained", "words"),
    [
        (Pretraining("images", "images"), "images of this data set, perhaps its test images among them"),
        (Pretraining("labels", "images", "images"), "images of this data set, its test images among them"),
        (
            Pretraining("labels", "labels", "none"),
            "labelled images of this data set, none of its test images among them",
        ),
        (IMAGENET, ""),
        (UNKNOWN, ""),
    ],
)
def test_in_words(pretrained: Pretraining, words: str) -> None:
    assert pretrained.words == (f"pretrained on {words}" if words else "")
    assert pretrained.of_data_set == bool(words)


def test_names_tell_what_older_files_have_not_kept() -> None:
    assert (named("none"), named("ImageNet"), named("another hospital")) == (NOTHING, IMAGENET, UNKNOWN)


def origin(**changes: object) -> Origin:
    records = make_records()
    return make_origin(records, make_split(records), **changes)


@pytest.mark.parametrize(
    ("pretraining", "saw"), [("none", NOTHING), ("ImageNet", IMAGENET), ("nih-chestxray14 resample-1", UNKNOWN)]
)
def test_an_origin_written_before_is_read(pretraining: str, saw: Pretraining) -> None:
    values = asdict(origin(pretraining=pretraining))
    del values["pretrained"]
    found = typed.build(Origin, values)
    assert found.saw == saw
    assert typed.build(Origin, asdict(found)) == found


def test_predictions_written_before_are_read(tmp_path: Path) -> None:
    records = make_records()
    split = make_split(records)
    path = tmp_path / "test.parquet"
    said = Pretraining("images", "images", "none")
    write_predictions(path, make_scores(records, split), make_info(origin(pretrained=said), split))
    assert read_prediction_info(path)[0].origin.saw == said
    metadata = pl.read_parquet_metadata(path)
    text = metadata[METADATA_KEY]
    kept = '"pretrained": {"seen": "images", "this_data_set": "images", "test_images": "none"}, '
    assert kept in text
    pl.read_parquet(path).write_parquet(path, metadata=metadata | {METADATA_KEY: text.replace(kept, "")})
    assert read_prediction_info(path)[0].origin == replace(origin(), pretrained=UNKNOWN)


def test_weights_are_declared_by_the_file_beside_them(tmp_path: Path) -> None:
    weights = tmp_path / "mae.pth"
    assert read_declared(weights) is None
    beside = tmp_path / "mae.pth.toml"
    beside.write_text('pretraining = "MAE on chest X-rays"\npretrained = { seen = "images" }\n')
    assert read_declared(weights) == Declared("MAE on chest X-rays", Pretraining("images"))
    beside.write_text('pretraining = "somewhere else"\n')
    assert read_declared(weights) == Declared("somewhere else")


CONTRADICTS = "pretraining 'ImageNet' and pretrained.this_data_set 'images' contradict each other"
BOTH = 'pretraining = "ImageNet"\npretrained = { seen = "labels", this_data_set = "images" }'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pretrained = 3", "pretraining is missing|pretrained is 3"),
        (
            'pretraining = "x"\npretrained = { seen = "much" }',
            r"pretrained\.seen is 'much' .*, expected one of none, images",
        ),
        ('pretraining = "x"\npretrained = { sen = "images" }', r"pretrained\.sen is not a known field"),
        (
            'pretraining = "x"\npretrained = { seen = "none", test_images = "labels" }',
            "is more than this_data_set, 'none'",
        ),
        ('pretraining = "x', "not valid TOML"),
        (BOTH, CONTRADICTS),
    ],
)
def test_what_is_declared_wrongly_is_refused(tmp_path: Path, text: str, message: str) -> None:
    beside = tmp_path / "mae.pth.toml"
    beside.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        read_declared(tmp_path / "mae.pth")
    assert str(beside) in str(caught.value)
    with pytest.raises(UserError, match=message.replace("pretraining is missing|", "")):
        read_about(beside)
