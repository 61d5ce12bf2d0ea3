"""docs/formats.md: every file that cxrkit writes, from the dataclasses that it is read into.

python docs/site/formats.py           write it
python docs/site/formats.py --check   exit 1 when it is not up to date
"""

# ruff: noqa: E402 - the imports follow the line that lets this run as a script

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
if __name__ == "__main__":
    sys.path[0] = str(ROOT)

from cxrkit.base.contracts import BOX_SCHEMA, Metric, record_schema
from cxrkit.base.files import write_text
from cxrkit.base.labels import CHESTXRAY14
from cxrkit.base.origin import Basis, Origin
from cxrkit.base.pretraining import Pretraining
from cxrkit.runs.checkpoints import CheckpointInfo
from cxrkit.runs.config import settings
from cxrkit.runs.folder import Predicted, RunFolder, Scored, Trained
from cxrkit.runs.imported import AboutModel, Imported, ImportedValidation
from cxrkit.runs.predictions import PredictionInfo
from cxrkit.runs.scores import Scores, SubsetScores
from cxrkit.shards.index import SOURCE_SCHEMA, Description, ShardEntry, TableFile

PAGE = ROOT / "docs" / "formats.md"
HEAD = """# Files

Made of the program's own records by `python docs/site/formats.py`: what stands here is what is written and read. Files
are JSON, TOML, parquet, safetensors and HDF5, none of which can hold code; a file of another version is refused, with
what to do about it. Every file is replaced in one step, so a kill leaves the old one or the new one, whole.
"""


def page() -> str:
    """Return the whole page."""
    parts = [HEAD, _prepared(), _run(), _config(), _scores(), _predictions(), _origin(), _others()]
    return "\n".join(parts)


def _prepared() -> str:
    return "\n".join(
        [
            "## A prepared folder",
            "",
            "What `cxrkit prepare` writes: `dataset.json` names all other files that belong together, with their "
            "checksums; it is replaced last.",
            "",
            _table("dataset.json", Description),
            _table("Each of `records`, `index`, `boxes`", TableFile),
            _table("Each of `shards`", ShardEntry),
            _schema("records-*.parquet, a row an image, sorted by image_id", record_schema(CHESTXRAY14)),
            _schema(
                "index-*.parquet, a row a prepared image: image_id, shard, per level L its offset_L, length_L and "
                "crc32_L in the shard's file, and what it was made from",
                SOURCE_SCHEMA,
            ),
            _schema("boxes-*.parquet, in pixels of the 1024 x 1024 film", BOX_SCHEMA),
        ]
    )


def _run() -> str:
    rows = [(name, doc) for name, doc in _files(RunFolder)]
    lines = ["## A run folder: RUNS/NAME/SPLIT", "", "| file | what it holds |", "| --- | --- |"]
    return "\n".join([*lines, *(f"| `{name}` | {doc} |" for name, doc in rows), ""])


def _config() -> str:
    lines = ["## config.toml, and recipes", ""]
    lines += ["| setting | default | flag | what it is |", "| --- | --- | --- | --- |"]
    for item in settings():
        default = item.field.default if not callable(item.field.default) else ""
        default = "" if "MISSING" in repr(default) else default
        shown = "true" if default is True else "false" if default is False else default
        flag = f"`{item.flag}`" if item.is_flag else f"`--set {item.path}=`" * (item.section != "about")
        value = f"`{shown}`" if shown not in ("", None) else ""
        lines.append(f"| `{item.path}` | {value} | {flag} | {_cell(item.field.metadata['help'])} |")
    return "\n".join([*lines, ""])


def _scores() -> str:
    tables = [_table("scores.json", Scores), _table("Each of `subsets`", SubsetScores), _table("Each metric", Metric)]
    return "\n".join(["## scores.json", "", *tables])


def _predictions() -> str:
    return "\n".join(
        [
            "## predictions/val.parquet, test.parquet",
            "",
            "One row an image: `image_id`, `patient_id`, and for each label its score (a probability) and its truth "
            "as `LABEL_true`; what they are of stands in the parquet file's own metadata, as JSON.",
            "",
            _table("The metadata", PredictionInfo),
        ]
    )


def _origin() -> str:
    return "\n".join(
        [
            "## Origin",
            "",
            "Nested whole in checkpoints, prediction files and scores: two numbers compare when their origins do.",
            "",
            _table("origin", Origin),
            _table("origin.basis: how each part is known", Basis),
            _table("Pretraining, as declared", Pretraining),
        ]
    )


def _others() -> str:
    return "\n".join(
        [
            "## Checkpoints and small files",
            "",
            _table("checkpoints/*.safetensors: the metadata beside the tensors", CheckpointInfo),
            _table("done/train.json", Trained),
            _table("done/predict.json", Predicted),
            _table("done/evaluate.json", Scored),
            _table("import.json of predictions from elsewhere", Imported),
            _table("validation in import.json", ImportedValidation),
            _table("`--about FILE.toml` of `cxrkit import`", AboutModel),
        ]
    )


def _table(title: str, record: type[Any]) -> str:
    docs = dict(_docs(record))
    lines = [f"**{title}**", "", "| field | type | what it says |", "| --- | --- | --- |"]
    for item in fields(record):
        kind = item.type if isinstance(item.type, str) else getattr(item.type, "__name__", str(item.type))
        lines.append(f"| `{item.name}` | {_cell(f'`{kind}`')} | {_cell(docs.get(item.name, ''))} |")
    return "\n".join([*lines, ""])


def _schema(title: str, schema: dict[str, Any]) -> str:
    columns = ", ".join(f"`{name}` {kind}" for name, kind in schema.items())
    return f"**{title}**\n\n{columns}\n"


def _docs(record: type[Any]) -> Iterator[tuple[str, str]]:
    """Yield each field of a dataclass with the text below it."""
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(record))).body
    assert isinstance(node, ast.ClassDef)
    for item, following in zip(node.body, [*node.body[1:], None], strict=True):
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            told = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
            yield item.target.id, str(following.value.value) if told else ""  # type: ignore[union-attr]


def _files(record: type[RunFolder]) -> Iterator[tuple[str, str]]:
    """Yield the files of a run folder, as its properties name them, with what they say of them."""
    folder = record(Path("RUN"))
    for name, member in inspect.getmembers_static(record):
        if isinstance(member, property):
            path = member.fget(folder) if member.fget else None
            if isinstance(path, Path):
                yield path.relative_to("RUN").as_posix(), _cell(inspect.getdoc(getattr(record, name)) or "")
    yield "predictions/{val,test}.parquet", _cell(inspect.getdoc(record.predictions) or "")
    yield "derived/NAME.npz", _cell(inspect.getdoc(record.derived) or "")
    yield "done/STAGE.json", "What a finished stage has read, by its digests: see below."


def _cell(text: str) -> str:
    """Return a text as it stands in a cell of a Markdown table: on one line, without a bar that would end it."""
    return " ".join(text.split()).replace(" | ", " or ").replace("|", "\\|")


def main() -> int:
    """Write or check the page; return the exit status."""
    wanted = page()
    if "--check" in sys.argv:
        return 0 if PAGE.exists() and PAGE.read_text(encoding="utf-8") == wanted else 1
    write_text(PAGE, wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
