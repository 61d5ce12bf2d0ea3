"""Splits that are known, lists that others keep, and what they share."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import chestxray14_facts
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_tables import small_cohort, write_raw
from typer.testing import CliRunner

from cxrkit.base.errors import UserError
from cxrkit.cli.app import app
from cxrkit.datasets import export, image_names, known_splits, lists, splits
from cxrkit.datasets.audit import Audit, Shared, audit
from cxrkit.datasets.nih import roster
from cxrkit.imports import cohort as cohorts
from cxrkit.prepare.stage import PrepareConfig, prepare_raw
from cxrkit.report import render
from cxrkit.report.data.split_audit import audit_report, known_report, split_report

PUBLISHED = Path(os.environ.get("CXRKIT_SPLITS", Path(__file__).resolve().parents[2] / "shared" / "splits"))
RECORDS = pl.DataFrame(
    [
        (f"{patient:08d}_{number:03d}.png", str(patient))
        for patient in range(1, 13)
        for number in range(1 + patient % 3)
    ],
    schema={"image_id": pl.String, "patient_id": pl.String},
    orient="row",
)
IDS = RECORDS["image_id"].to_list()


def published(name: str) -> Path:
    if not (PUBLISHED / name).exists():
        pytest.skip("no published lists here (set CXRKIT_SPLITS to a folder of them)")
    return PUBLISHED / name


def audited(*paths: Path) -> Audit:
    return audit(lists.read_all(list(paths)), roster.read(), export.splits_of(roster.read()))


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def names(path: Path) -> dict[str, list[str]]:
    return {item.name: item.names.to_list() for item in lists.read_lists(path)}


# The roster and what is known beforehand


def test_the_roster_is_every_image_of_the_data_set() -> None:
    assert roster.read().equals(chestxray14_facts.records().select("image_id", "patient_id", "official"))


@pytest.mark.parametrize("fold", splits.FOLDS)
def test_our_splits_follow_from_the_roster(fold: str) -> None:
    split = known_splits.our_split(splits.name_of(fold))
    known = known_splits.known_splits()[split.name]
    assert split.digest == known.digest
    assert known_splits.list_digest(split.frame.filter(pl.col("subset") == "test")["image_id"]) == known.test_digest
    assert known_splits.identify(known_splits.list_digest(part["image_id"]) for part in parts(split)) == [split.name]


def parts(split: splits.Split) -> list[pl.DataFrame]:
    return split.frame.partition_by("subset")


def test_the_lists_of_nih_are_known() -> None:
    halves = [part["image_id"] for part in roster.read().partition_by("official")]
    assert known_splits.identify(map(known_splits.list_digest, halves)) == ["nih"]
    # The test list alone is that of four splits, and none of them as a whole.
    assert known_splits.identify([known_splits.list_digest(halves[1])]) == []


def test_every_split_of_others_says_where_it_is_from() -> None:
    official = known_splits.known_splits()["official"]
    for split in known_splits.foreign_splits().values():
        assert split.title
        assert split.basis
        assert "https://" in split.source or "package" in split.source
        if split.official_test:
            assert (split.test, split.test_digest) == (official.test, official.test_digest)
        else:
            assert split.test_digest != official.test_digest
        assert split.train + split.val + split.test <= 112_120


def test_reports_of_known_splits() -> None:
    listed = render(known_report(), "md")
    for name in (*known_splits.known_splits(), *known_splits.foreign_splits()):
        assert f"| {name} |" in listed
    third = render(split_report(known_splits.get("3")), "md")
    assert "| test | 22,424 | 6,066 |" in third
    assert f"- test: {known_splits.known_splits()['resample-3'].test_digest}\n" in third
    theirs = render(split_report(known_splits.get("chexnet")), "md")
    assert "| val | 11,219 |" in theirs
    assert "- val: not known\n" in theirs
    with pytest.raises(UserError, match="unknown split 'jlianlab'\n  remedy: did you mean jlianglab"):
        known_splits.get("jlianlab")


# What others publish, on their own files


def test_the_default_split_of_mednet() -> None:
    found = audited(published("mednet-2.1.0_nih-cxr14_default.json.bz2"))
    assert [(item.name, item.images) for item in found.lists] == [
        ("train", 98_637), ("validation", 6_350), ("test", 7_133),
    ]  # fmt: skip
    assert found.known == ("mednet",)
    assert [shared.images for shared in found.beside["official", "test"]] == [20_299, 1_243, 4_054]
    assert found.within["validation", "test"] == Shared(0, 1, ("96",))
    text = render(audit_report(found), "md")
    assert "1 patient is in both validation and test: 96" in text
    assert "train has 20,299 images and 2,537 patients of the official test set" in text
    assert "| official train | 68,636 / 22,778 |" in text


def test_the_three_lists_of_jlianglab() -> None:
    found = audited(*(published(f"jlianglab_Xray14_{name}_official.txt") for name in ("train", "val", "test")))
    assert [(item.name, item.images, item.patients) for item in found.lists] == [
        ("train", 75_312, 24_342), ("val", 11_212, 3_666), ("test", 25_596, 2_797),
    ]  # fmt: skip
    assert found.known == ("jlianglab",)
    assert set(found.within.values()) == {Shared(0, 0)}
    assert found.beside["official", "test"][:2] == (Shared(0, 0), Shared(0, 0))
    text = render(audit_report(found), "md")
    assert audit_report(found).text == ("No leak: no patient is in two of its subsets",)
    for sentence in ("test is the official test set", "No patient is in two of its subsets", "the split jlianglab"):
        assert sentence in text


# The same on made lists


def test_a_leaking_list_of_our_own(tmp_path: Path) -> None:
    """Half the official test set, one image of it twice, trains; a patient of it validates, too."""
    test = roster.read().filter(pl.col("official") == "test")["image_id"].to_list()
    train = [*test[:12_000], test[0], "somebody_else.png"]
    path = write(tmp_path / "mine.json", json.dumps({"train": train, "val": test[12_000:12_001]}))
    found = audited(path)
    first, second = found.lists
    assert (first.images, first.repeated, first.unknown) == (12_000, 1, ("somebody_else.png",))
    assert found.beside["official", "test"][0].images == 12_000
    patients = {name[:8] for name in test[:12_000]}
    assert found.beside["official", "test"][0].patients == len(patients)
    same = test[12_000][:8] in patients
    assert found.within["train", "val"] == Shared(0, int(same), (str(int(test[12_000][:8])),) * same)
    assert (found.known, second.known) == ((), ())
    leak = audit_report(found).text[0]
    assert leak.startswith("LEAK: ")
    assert f"train shares 12,000 images of {len(patients):,} patients with the official test set" in leak
    text = render(audit_report(found), "md")
    assert text.index("LEAK") < text.index("What it holds"), "the verdict comes first"
    assert "train: 1 lines name an image that stood there before" in text
    assert r"1 names are no image of the data set, the first somebody\_else.png" in text
    assert "it is none of the known splits" in text


def test_the_verdict_of_lists_without_a_leak_and_of_a_test_set(tmp_path: Path) -> None:
    official = roster.read().filter(pl.col("official") == "test")["image_id"].to_list()
    ours = roster.read().filter(pl.col("official") != "test")["image_id"].to_list()
    train = write(tmp_path / "train.txt", "\n".join(ours[:300]))
    test = write(tmp_path / "test.txt", "\n".join(ours[:1]))
    nih = write(tmp_path / "test_list.txt", "\n".join(official))
    assert audit_report(audited(train)).text == ("No leak: train has no patient of the official test set",)
    assert audit_report(audited(nih)).text == ("No leak to look for: test_list is a test set alone",)
    assert audit_report(audited(train, nih)).text == ("No leak: no patient is in two of its subsets",)
    assert audit_report(audited(train, test)).text == ("LEAK: train and test share 1 image of 1 patient",)


def test_shared_counts_patients_of_other_images_too() -> None:
    one, other = RECORDS.filter(pl.col("image_id").str.ends_with("000.png")), RECORDS
    assert audit_pair(one.head(2), other.filter(pl.col("image_id").str.ends_with("001.png"))) == (0, 2)
    assert audit_pair(one, other) == (12, 12)


def audit_pair(one: pl.DataFrame, other: pl.DataFrame) -> tuple[int, int]:
    from cxrkit.datasets.audit import shared

    found = shared(one, other)
    return found.images, found.patients


def test_lists_of_the_sizes_of_a_known_split_are_said_to_be_alike(tmp_path: Path) -> None:
    ids = roster.read()["image_id"].to_list()
    sizes = {"train": 78_468, "val": 11_219, "test": 22_433}
    start, made = 0, {}
    for name, size in sizes.items():
        made[name] = ids[start : start + size]
        start += size
    found = audited(write(tmp_path / "x.json", json.dumps(made)))
    assert (found.known, found.alike) == ((), ("chexnet",))
    assert "as large as those of chexnet, whose images are not known here" in render(audit_report(found), "md")


def test_a_list_of_another_data_set(tmp_path: Path) -> None:
    path = write(tmp_path / "x.txt", "patient1/study1.jpg\n")
    with pytest.raises(
        UserError, match="none of its 1 names in 'x' is an image of the data set, the first is 'patient1"
    ):
        audited(path)


def test_one_list_alone(tmp_path: Path) -> None:
    test = roster.read().filter(pl.col("official") == "test")["image_id"]
    text = render(audit_report(audited(write(tmp_path / "theirs.txt", "\n".join(test)))), "md")
    assert "theirs is the official test set: 25,596 images of 2,797 patients" in text
    assert "none of the known splits" not in text
    assert "What its subsets share" not in text


# Formats


@pytest.mark.parametrize(
    "line",
    ["{}", "images/{}", "/data/nih/{} 0 1 0 1", "{},Cardiomegaly|Mass", "{}\t1", '"{}";0', r"C:\nih\{}"],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lines(tmp_path: Path, line: str, end: str) -> None:
    path = tmp_path / "train.txt"
    path.write_bytes(("# a remark" + end + end.join(line.format(name) for name in IDS)).encode())  # no last line end
    found = pl.Series(names(path)["train"])
    assert image_names.match(found, RECORDS["image_id"]).to_list() == IDS


@pytest.mark.parametrize("column", ["image_id", "Image Index", "filename", "img_path"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_tables_with_and_without_subsets(tmp_path: Path, column: str, separator: str) -> None:
    table = pl.DataFrame({"age": range(len(IDS)), column: IDS})
    table.write_csv(tmp_path / "all.csv", separator=separator)
    assert names(tmp_path / "all.csv") == {"all": IDS}
    halves = table.with_columns(split=pl.when(pl.col("age") < 5).then(pl.lit("train")).otherwise(pl.lit("test")))
    halves.write_csv(tmp_path / "halves.csv", separator=separator)
    assert names(tmp_path / "halves.csv") == {"train": IDS[:5], "test": IDS[5:]}
    halves.write_parquet(tmp_path / "halves.parquet")
    assert names(tmp_path / "halves.parquet") == {"train": IDS[:5], "test": IDS[5:]}


@pytest.mark.parametrize(
    "value",
    [
        IDS,
        [[name, ["car"], 57, "M"] for name in IDS],
        [{"label": 1, "image": name} for name in IDS],
        {"x": IDS, "seed": 3, "title": "..."},
        {"splits": {"x": IDS}},
    ],
)
def test_json(tmp_path: Path, value: object) -> None:
    assert names(write(tmp_path / "x.json", json.dumps(value))) == {"x": IDS}


@pytest.mark.parametrize(("ending", "pack"), [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)])
def test_packed(tmp_path: Path, ending: str, pack: Callable[[bytes], bytes]) -> None:
    (tmp_path / f"test.txt.{ending}").write_bytes(pack("\n".join(IDS).encode()))
    assert names(tmp_path / f"test.txt.{ending}") == {"test": IDS}
    (tmp_path / "cut.gz").write_bytes(pack("\n".join(IDS).encode())[:-9])
    with pytest.raises(UserError, match=r"cut\.gz: cannot be unpacked"):
        names(tmp_path / "cut.gz")


def test_zipped(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "v1.2_test.zip", "w") as archive:
        archive.writestr("lists/test.txt", "\n".join(IDS))
    assert names(tmp_path / "v1.2_test.zip") == {"v1.2_test": IDS}


def test_files_are_told_apart_shortly(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"our_{name}_v2.txt", IDS[0]) for name in ("train", "val")]
    assert [item.name for item in lists.read_all(paths)] == ["train", "val"]
    both = write(tmp_path / "our_both_v2.json", json.dumps({"a": IDS, "b": IDS}))
    assert [item.name for item in lists.read_all([paths[0], both])] == ["train", "both a", "both b"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no image name"),
        ("\n\n", "holds no image name"),
        ("{", "not valid JSON"),
        ("[[1, 2]]", "an item of 'x' holds no image name: \\[1, 2\\]"),
        ('{"train": []}', "holds no image name"),
        ("a\0b", "not a text file"),
    ],
)
def test_broken_lists(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        names(write(tmp_path / "x.txt", content))


def test_lists_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"x\.txt: there is no such file"):
        names(tmp_path / "x.txt")
    with pytest.raises(UserError, match="is a folder, expected a file"):
        names(tmp_path)
    pl.DataFrame({"a": [1]}).write_parquet(tmp_path / "x.parquet")
    with pytest.raises(UserError, match="no column of images; found a"):
        names(tmp_path / "x.parquet")


# Names


@given(st.lists(st.sampled_from(IDS), max_size=30), st.sampled_from(["", "a/b/", "C:\\x\\"]), st.sampled_from("pjd "))
def test_a_name_is_found_with_any_folder_and_ending(chosen: list[str], folder: str, kind: str) -> None:
    ending = {"p": ".png", "j": ".JPEG", "d": ".nii.gz", " ": ""}[kind]
    asked = pl.Series([folder + name.removesuffix(".png") + ending for name in chosen], dtype=pl.String)
    assert image_names.match(asked, RECORDS["image_id"]).to_list() == chosen


def test_names_that_differ_in_the_ending_alone_must_be_whole() -> None:
    known = pl.Series(["a.png", "a.jpg", "b.png"])
    assert image_names.match(pl.Series(["a.jpg", "a", "b", "c"]), known).to_list() == ["a.jpg", None, "b.png", None]


# The command line


def invoke(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["splits", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_what_is_exported_can_be_trained_on_and_audited(tmp_path: Path) -> None:
    for name in ("x.csv", "x.parquet", "x.json"):
        invoke("export", "2", "--out", tmp_path / name)
    known = known_splits.our_split("resample-2")
    for name in ("x.csv", "x.parquet"):
        assert splits.make(roster.read(), str(tmp_path / name)).digest == known.digest
    found = audited(tmp_path / "x.json")
    assert found.known == ("resample-2",)
    assert "This is the split resample-2" in invoke("audit", tmp_path / "x.csv", "--out", tmp_path / "found.csv")
    assert "official test" in (tmp_path / "found.csv").read_text()
    assert invoke("export", "official", "--subset", "test").split() == sorted(
        roster.read().filter(pl.col("official") == "test")["image_id"]
    )
    invoke("export", "official", "--subset", "val", "--out", tmp_path / "val.txt")
    assert names(tmp_path / "val.txt")["val"][0].endswith(".png")


def test_what_cannot_be_exported(tmp_path: Path) -> None:
    split = known_splits.our_split("official")
    with pytest.raises(UserError, match="a plain list has no place for subsets"):
        export.write(split, tmp_path / "x.txt")
    with pytest.raises(UserError, match=r"the ending '\.doc' names no format"):
        export.write(split, tmp_path / "x.doc")
    with pytest.raises(UserError, match="split mednet: its images are not part of cxrkit"):
        export.split_named("mednet", roster.read())
    with pytest.raises(UserError, match="--fold 9: there is no such fold"):
        export.split_named("9", roster.read())


def test_another_data_set(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw", small_cohort(), synthetic=True)
    prepare_raw(PrepareConfig(raw=raw, data=tmp_path / "tables", dataset="synthetic", tables_only=True))
    exported = invoke("export", "official", "--data", tmp_path / "tables")
    assert len(exported.splitlines()) == len(small_cohort()) + 1
    assert exported == invoke("export", "official", "--raw", raw, "--dataset", "synthetic")
    with pytest.raises(UserError, match="a synthetic cohort"):
        cohorts.records_of(raw, None)
    with pytest.raises(UserError, match="--raw and --data: both are given"):
        cohorts.records_of(raw, tmp_path / "tables")
