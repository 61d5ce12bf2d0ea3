"""A raw folder of ChestX-ray14 with four images, made by hand."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

import pytest

from cxrkit.base.errors import UserError

HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
ROWS = [  # the follow-up number is not the file name's, as in the real table
    "00000001_000.png,Cardiomegaly|Emphysema,7,1,57,M,PA,2682,2749,0.143,0.143",
    "00000001_001.png,No Finding,0,1,58,M,AP,2894,2729,0.143,0.143",
    "00000003_000.png,Infiltrate,0,3,74,F,PA,2500,2048,0.168,0.168",
    "00000002_000.png,Hernia,0,2,80,F,PA,2500,2048,0.171,0.171",
]
TRAIN_VAL = ["00000001_000.png", "00000001_001.png"]
TEST = ["00000002_000.png", "00000003_000.png"]
ALL = TRAIN_VAL + TEST
BOXES = "Image Index,Finding Label,Bbox [x,y,w,h],,,\n00000003_000.png,Infiltrate,10.5,20,30.25,40,,,\n"
NEW_CSV, OLD_CSV = "Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv"


def make_tables(raw: Path, rows: Iterable[str] = ROWS, header: str = HEADER) -> Path:
    raw.mkdir(exist_ok=True)
    (raw / NEW_CSV).write_text("\n".join([header, *rows]) + "\n")
    (raw / "train_val_list.txt").write_text("\n".join(TRAIN_VAL))
    (raw / "test_list.txt").write_text("\n".join(TEST))
    return raw


def make_images(folder: Path, names: Iterable[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()


def make_tar(path: Path, names: Iterable[str], mode: Literal["w", "w:gz"] = "w:gz", data: bytes = b"\x89PNG") -> Path:
    with tarfile.open(path, mode) as archive:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def message(action: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        action()
    assert caught.value.remedy
    return str(caught.value)
