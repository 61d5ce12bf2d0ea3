"""`import.json`: what an imported run was made of. It stands where a trained run has its config.toml."""

from __future__ import annotations

import tomllib
from dataclasses import asdict, dataclass, field
from pathlib import Path

from cxrkit.base import typed
from cxrkit.base.errors import UserError
from cxrkit.base.files import write_json
from cxrkit.base.pretraining import Pretraining, contradiction

_AGAIN = "import the predictions again"
_SEEN = (
    "write none, images or labels, from the whole to the part: "
    'pretrained = { seen = "images", this_data_set = "images", test_images = "none" }'
)


@dataclass(frozen=True)
class AboutModel:
    """What somebody says of a model that was trained elsewhere; nothing of it can be checked."""

    model: str = ""
    """What the network is called; "" for the run's own name."""

    input_size: int = 0
    """Side of its input in pixels; 0 where not known."""

    seed: int = 0
    """Of its training; runs of several seeds stand beside each other."""

    pretraining: str = ""
    """What it had seen before, by name: "none", "ImageNet", ...; "" where not known."""

    pretrained: Pretraining = field(default_factory=Pretraining)
    """How much it had seen: `pretrained = { seen = "images", this_data_set = "images", test_images = "none" }`."""

    framework: str = ""
    """What it was made with."""

    source: str = ""
    """Where it is described: a paper, an address."""

    note: str = ""
    """Anything else."""


@dataclass(frozen=True)
class ImportedValidation:
    """Where the validation predictions of an imported run come from, and what their images are."""

    file: str
    """The file of predictions, as it was named."""

    sha256: str
    """Of that file."""

    columns: dict[str, str]
    """By label, the column that its scores came from."""

    logits: bool
    """Whether these were logits."""

    left_out: dict[str, int]
    """Images of the file that are of neither subset of the run, by the subset that they are in."""

    images: int
    """How many images were predicted."""

    patients: int
    """How many patients they are of."""

    own: bool
    """Whether they are declared by whoever imported them, not the validation subset of the run's split."""


@dataclass(frozen=True)
class Imported:
    """The content of import.json."""

    file: str
    """The file of predictions, as it was named."""

    sha256: str
    """Of that file."""

    truth: Path | None
    """Where `cxrkit evaluate` finds the labels: a prepared folder or NIH's CSV; null where neither was named."""

    split: str
    """What --split said."""

    columns: dict[str, str]
    """By label, the column that its scores came from."""

    logits: bool
    """Whether these were logits."""

    left_out: dict[str, int]
    """Images of the file that were not imported, by the subset that they are in."""

    trained_on: str
    """The file of the training images, as it was named; "" where none was."""

    trained_on_digest: str
    """SHA-256 over their sorted names, one a line; "" where they are not known."""

    about: AboutModel
    """What is said of the model."""

    cxrkit_version: str
    """Of the cxrkit that imported."""

    validation: ImportedValidation | None = None
    """What the validation predictions are; null where there are none, and where an earlier cxrkit did not say it."""


def read_about(path: Path) -> AboutModel:
    """Return what a TOML file says of a model. Raises UserError for a broken file and for an unknown key."""
    remedy = f'write any of {", ".join(AboutModel.__dataclass_fields__)}, one a line, like model = "densenet121"'
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise UserError(f"--about {path}: there is no such file", remedy=remedy) from None
    except OSError as error:
        raise UserError(f"--about {path}: cannot be read ({error.strerror})", remedy=remedy) from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"--about {path}: not valid TOML ({error})", remedy=remedy) from None
    try:
        about: AboutModel = typed.build(AboutModel, values, extra="refuse")
    except typed.FieldError as error:
        wrong = str(error)
        raise UserError(
            f"--about {path}: {wrong}", remedy=_SEEN if wrong.startswith("pretrained") else remedy
        ) from None
    if about.seed < 0 or about.input_size < 0:
        raise UserError(f"--about {path}: a seed or an input_size below 0", remedy="give 0 or more")
    if wrong := contradiction(about.pretraining, about.pretrained):
        raise UserError(f"--about {path}: {wrong}", remedy="give it a name of its own, or correct what was seen")
    return about


def write_imported(path: Path, imported: Imported) -> None:
    """Write import.json atomically."""
    values = asdict(imported)
    write_json(path, values | {"truth": None if imported.truth is None else str(imported.truth)})


def read_imported(path: Path) -> Imported:
    """Return import.json. Raises UserError, naming the file and the field, when it is none."""
    found: Imported = typed.read_typed(Imported, path, "what was imported", _AGAIN)
    return found
