"""What a tracker is, which there are, and what each run remembers of them: RUN/trackers/NAME.json."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from cxrkit.base import registry, typed
from cxrkit.base.errors import UserError
from cxrkit.base.files import output_error, write_json
from cxrkit.runs.config import TrainConfig, settings
from cxrkit.runs.folder import RunFolder
from cxrkit.trackers.points import Place, Point

# Name -> the class, the module that it needs, and the extra that installs it.
TRACKERS: dict[str, tuple[str, str, str]] = {
    "tensorboard": ("cxrkit.trackers.on_tensorboard:TensorBoard", "tensorboard", "tensorboard"),
    "wandb": ("cxrkit.trackers.on_wandb:WeightsAndBiases", "wandb", "wandb"),
    "mlflow": ("cxrkit.trackers.on_mlflow:MLflow", "mlflow", "mlflow"),
}


class Tracker(Protocol):
    """One run in somebody's tracker. Made with (run: TrackedRun, **options); keyword-only arguments are its options."""

    run_id: str
    """By which the tracker finds the run again."""

    where: str
    """Where to look at it, in words."""

    def write(self, points: Sequence[Point]) -> None:
        """Send the points, and return when they are safe: what was sent is not sent again."""
        ...

    def close(self, *, failed: bool) -> None:
        """End the session; failed: the training came to no good end."""
        ...


@dataclass(frozen=True)
class TrackedRun:
    """What a tracker is told of a run."""

    folder: Path
    """RUNS/NAME/SPLIT."""

    name: str
    """What the tracker calls it."""

    parameters: Mapping[str, Any]
    """The settings of the training, by section.key."""

    run_id: str
    """Of the tracker's run that this one goes on in; "" for a new one."""


@dataclass(frozen=True)
class Sent:
    """What a tracker has of a run."""

    run: str = ""
    """The tracker's name of the run."""

    place: list[int] = field(default_factory=lambda: [0, 0])
    """Of the last line that was sent (points.Place)."""

    @property
    def after(self) -> Place:
        """The place as a pair."""
        return (self.place[0], self.place[1])


def state_file(run: RunFolder, name: str) -> Path:
    """Return where a run remembers what a tracker has."""
    return run.path / "trackers" / f"{name}.json"


def read_sent(run: RunFolder, name: str) -> Sent:
    """Return what a tracker has of a run; nothing where the file says nothing."""
    try:
        found: Sent = typed.read_typed(Sent, state_file(run, name), "what a tracker has", "remove it")
    except UserError:
        return Sent()
    return found if len(found.place) == 2 else Sent()


def write_sent(run: RunFolder, name: str, sent: Sent) -> None:
    """Remember what a tracker has. Raises UserError where it cannot be written."""
    write_json(state_file(run, name), asdict(sent))


def forget(run: RunFolder, name: str) -> None:
    """Forget what a tracker has. Raises UserError where the file cannot be removed."""
    try:
        state_file(run, name).unlink(missing_ok=True)
    except OSError as error:
        raise output_error(state_file(run, name), error) from error


def names(said: str) -> tuple[str, ...]:
    """Return the trackers of `--log`, joined by commas. Raises UserError for one that there is none of."""
    found = tuple(dict.fromkeys(part.strip() for part in said.split(",") if part.strip()))
    for name in found:
        if name not in TRACKERS:
            raise registry.unknown("tracker", name, TRACKERS, own="")
    return found


def check(said: str, options: Mapping[str, Any]) -> None:
    """Raise a UserError for a tracker that is not installed, and for an option that none of them takes."""
    chosen = names(said)
    for name in chosen:
        _, module, extra = TRACKERS[name]
        if importlib.util.find_spec(module) is None:
            raise UserError(f"--log {name}: {module} is not installed", remedy=f"pip install 'cxrkit[{extra}]'")
    known = sorted({option for name in chosen for option in _options_of(name)})
    if chosen and (strange := [option for option in options if option not in known]):
        raise registry.unknown_option("tracker", ",".join(chosen), strange[0], known)


def make(name: str, run: RunFolder, config: TrainConfig) -> Tracker:
    """Open a tracker's run, the one that it has of this run already where there is one."""
    told = TrackedRun(run.path, f"{config.name} {run.path.name}", parameters(config), read_sent(run, name).run)
    taken = _options_of(name)
    options = {option: value for option, value in config.run.log_options.items() if option in taken}
    tracker: Tracker = registry.load_attribute(TRACKERS[name][0])(told, **options)
    return tracker


def _options_of(name: str) -> list[str]:
    parameters = inspect.signature(registry.load_attribute(TRACKERS[name][0])).parameters.values()
    return [item.name for item in parameters if item.kind is item.KEYWORD_ONLY]


def parameters(config: TrainConfig) -> dict[str, Any]:
    """Return a training's settings by section.key, as plain values; those of tables one by one; without what is None.

    What a recipe says of itself is left out.
    """
    found: dict[str, Any] = {"recipe": config.recipe}
    for item in settings():
        value = item.of(config)
        if item.section == "about" or value is None:
            continue
        parts = {item.path: value}
        if isinstance(value, dict):
            parts = {f"{item.path}.{key}": one for key, one in value.items()}
        found |= {key: one if isinstance(one, str | int | float | bool) else str(one) for key, one in parts.items()}
    return found
