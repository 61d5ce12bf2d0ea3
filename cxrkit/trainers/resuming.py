"""What a training that exists allows: going on with it, or refusing to; and what it writes down of its beginning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxrkit.base import provenance, typed
from cxrkit.base.contracts import EVALUATED, Subset
from cxrkit.base.errors import DiskFull, Interrupted, UserError
from cxrkit.base.files import read_json, write_json, write_text
from cxrkit.base.origin import Origin
from cxrkit.base.words import count
from cxrkit.datasets import splits
from cxrkit.datasets.splits import Split
from cxrkit.runs import checkpoints
from cxrkit.runs.config import Setting, TrainConfig, changed, read_run_config, to_toml
from cxrkit.runs.folder import RunFolder, Trained, read_split, write_split
from cxrkit.runs.opening import refuse_taken

if TYPE_CHECKING:
    from cxrkit.loaders.inputs import Inputs


def check_existing(run: RunFolder, config: TrainConfig, resume: bool) -> str | Split:
    """Return the split to train on: what `--fold` names, or for a run that goes on its own.

    Raises UserError when the run exists and is not resumed, or is resumed with other settings or another split.
    """
    if not resume or run.imported.exists():
        refuse_taken(run)
    if not run.config.exists():
        return config.run.fold
    stored = read_run_config(run.config)
    clash = [item for item in changed(stored, config) if not _may_change(item, stored)]
    if clash:
        was = ", ".join(item.said(item.of(stored)) for item in clash)
        raise UserError(
            f"{run.path}: was trained with {was}; resuming cannot change that",
            remedy="leave these flags out, or choose another --name or --runs folder",
        )
    refuse_fewer_epochs(run, config)
    split, _ = read_split(run)
    # A table may be gone, for the run holds its split; one that is there must still say the same.
    if config.run.fold != stored.run.fold or (splits.is_file(config.run.fold) and Path(config.run.fold).exists()):
        refuse_other_split(run, split, config)
    return split


def _may_change(item: Setting, stored: TrainConfig) -> bool:
    """Whether resuming may change a setting; the rates of a cosine hang on the number of epochs from the first on."""
    if item.path == "schedule.epochs" and stored.schedule.name == "cosine":
        return False
    return bool(item.field.metadata["resumable"])


def refuse_fewer_epochs(run: RunFolder, config: TrainConfig) -> None:
    """Raise a UserError when the run has taken more epochs than it is now told to take: they cannot be taken back."""
    taken = checkpoints.read_info(run.last).epoch if run.last.exists() else 0
    if taken > config.schedule.epochs:
        raise UserError(
            f"{run.path}: has taken {count(taken, 'epoch')} already, more than --epochs {config.schedule.epochs}",
            remedy=f"give --epochs {taken} or more, or choose another --name or --runs folder",
        )


def refuse_other_split(run: RunFolder, split: Split, config: TrainConfig) -> None:
    """Raise a UserError unless `--fold` names the split that the run has."""
    from cxrkit.shards.store import ShardStore

    named = splits.make(ShardStore(config.run.data).records(), config.run.fold)
    if named.digest != split.digest:
        table = Path(config.run.fold).with_suffix(".parquet").name
        own = f"give the table that it was trained on: {run.split} is one, copy it as {table} and give --fold {table}"
        remedy = own if splits.is_file(config.run.fold) else "leave out --fold to go on with the run's own split"
        raise UserError(
            f"--fold {config.run.fold}: another assignment of images than {run.path} was trained on "
            f"(digest {named.digest[:12]}, not {split.digest[:12]})",
            remedy=f"{remedy}; or choose another --name",
        )


def write_run(
    run: RunFolder, config: TrainConfig, inputs: Inputs, origin: Origin, device: str, processes: int = 1
) -> None:
    """Write config, provenance and split. Raises UserError when a resumed run would see other images or labels."""
    used = {subset: inputs.used_digest(subset) for subset in ("train", *EVALUATED)}
    session = provenance.collect() | {"device": device, "precision": config.run.precision, "processes": processes}
    about = session | {"seed": config.run.seed, "origin": asdict(origin), "used_digests": used}
    if run.config.exists():
        stored = read_provenance(run)
        refuse_other_inputs(run, config, inputs, stored, used)
        about = stored | {"resumed": [*stored.get("resumed", []), session]}
    else:
        write_split(run, inputs.split, inputs.used())
    write_json(run.provenance, about)
    write_text(run.config, to_toml(config))  # last: a run that has its config has all that goes with it


def read_provenance(run: RunFolder) -> dict[str, Any]:
    """Return provenance.json. Raises UserError when it is missing or says nothing of the run's images."""
    remedy = "choose another --name or --runs folder, or take the file from a copy of the run"
    stored = read_json(run.provenance, "the run's provenance", remedy)
    fits = isinstance(stored, dict) and isinstance(stored.get("used_digests"), dict)
    if not fits or not isinstance(stored.get("resumed", []), list):
        raise UserError(f"{run.provenance}: not the provenance of a run (no used_digests)", remedy=remedy)
    return dict(stored)


def refuse_other_inputs(
    run: RunFolder, config: TrainConfig, inputs: Inputs, stored: dict[str, Any], used: Mapping[Subset, str]
) -> None:
    """Raise a UserError unless a run would go on with the images, labels and pixels that it was started with."""
    remedy = "resume with the --data it was started with, or choose another --name or --runs folder"
    before = stored["used_digests"]
    deciding: tuple[Subset, ...] = ("train", "val")
    if other := [subset for subset in deciding if before.get(subset) != used[subset]]:
        raise UserError(
            f"{run.path}: was trained on other {' and '.join(other)} images than {config.run.data} holds now",
            remedy=remedy,
        )
    try:
        origin: Origin = typed.build(Origin, stored.get("origin"), "origin")
    except typed.FieldError as error:
        raise UserError(f"{run.provenance}: {error}", remedy="choose another --name or --runs folder") from None
    inputs.refuse_other(f"{run.path}: was trained on", origin, read_split(run)[1], remedy)


def finished(run: RunFolder, config: TrainConfig) -> bool:
    """Whether the training of a run has taken all the epochs that the config asks for."""
    with suppress(UserError):
        done: Trained = typed.read_typed(Trained, run.done("train"), "what the training has done", "train again")
        return done.epochs >= config.schedule.epochs and run.best.exists()
    return False


def ended(run: RunFolder, config: TrainConfig) -> bool:
    """Whether nothing is left to do: scored, by the evaluators and after all the epochs that the config asks for."""
    from cxrkit.evaluators import scoring

    return run.state() == "scored" and finished(run, config) and scoring.is_by(run.path, config.test.evaluator)


@contextmanager
def told_how_to_resume(run: RunFolder) -> Iterator[None]:
    """Say of a full disk, and of Ctrl-C, how the training goes on: by --resume, not by the same command."""
    try:
        yield
    except DiskFull as error:
        kept = f"; {run.last} keeps the last checkpoint" if run.last.exists() else ""
        raise DiskFull(
            f"{error.what}{kept}", remedy="free some space, then run the same command with --resume"
        ) from error
    except KeyboardInterrupt as interrupt:
        how = "go on with --resume" if run.last.exists() else "nothing is kept yet; --resume begins it anew"
        raise Interrupted(f"{run.path}: the training was interrupted; {how}") from interrupt
