"""What runs take: from what runs of their kind have taken, or from a few steps that are taken here to find out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from cxrkit.base import registry
from cxrkit.reproduce.planning import Planned
from cxrkit.reproduce.watching import Seen, images_an_epoch

_FLOAT_BYTES = 4
_ROW_BYTES = 40  # of a prediction file, beside the scores: the names of image and patient


@dataclass(frozen=True)
class Kind:
    """What makes two runs take the same time an image."""

    model: str
    """Name of the network, with its options."""

    size: int
    """Pixels along each side of its input; 0: it looks at none."""

    batch: int
    """Images a step."""

    precision: str
    """As the study says: auto where it says nothing."""

    device: str
    """As the study says."""

    @classmethod
    def of(cls, item: Planned) -> Kind:
        """Return the kind of a run."""
        config = item.config
        assert config.optimizer.batch_size is not None
        options = "".join(f" {name}={value}" for name, value in sorted(config.model.options.items()))
        size = item.spec.input_size if item.spec.image else 0
        return cls(
            config.model.name + options, size, config.optimizer.batch_size, config.run.precision, config.run.device
        )

    @property
    def text(self) -> str:
        """As people read it."""
        return f"{self.model}, {f'{self.size} px, ' if self.size else ''}batches of {self.batch}"


@dataclass(frozen=True)
class Known:
    """What an image of an epoch takes."""

    train_seconds: float
    """Of one training step, for each of its images."""

    source: str
    """Where that is from."""


@dataclass
class Costs:
    """What is known of each kind of run."""

    known: dict[Kind, Known] = field(default_factory=dict)
    """By kind."""

    def learn(self, item: Planned, seen: Seen) -> None:
        """Take note of what a run's epochs have taken: better than any measurement."""
        if seen.train_seconds is not None:
            self.known[Kind.of(item)] = Known(seen.train_seconds, f"as {item.name} has taken")

    def learn_pace(self, item: Planned, epoch_seconds: float) -> None:
        """Take note of what an epoch takes with all that belongs to it, by the clock of whoever watches."""
        self.known[Kind.of(item)] = Known(epoch_seconds / images_an_epoch(item), f"as {item.name} takes")

    def unknown(self, items: Iterable[Planned]) -> dict[Kind, Planned]:
        """Return one run of each kind that nothing is known of."""
        return {kind: item for item in items if (kind := Kind.of(item)) not in self.known}

    def epoch_seconds(self, item: Planned) -> float | None:
        """Return about what an epoch of a run takes, validation included; None: nothing of its kind is known."""
        known = self.known.get(Kind.of(item))
        return None if known is None else known.train_seconds * images_an_epoch(item)


def disk_bytes(item: Planned) -> int:
    """Return about what a run will still add to the disk: two checkpoints, and its predictions.

    last.safetensors has the network and Adam's two moments of what learns, best.safetensors the network alone.
    """
    assert item.images is not None
    assert item.labels is not None
    network, learning = _numbers(item)
    evaluated = item.images["val"] + item.images["test"]
    kept = item.config.schedule.epochs if getattr(item.config.run, "keep_epochs", False) else 0
    predictions = evaluated * (_ROW_BYTES + _FLOAT_BYTES * len(item.labels) * (1 + kept))
    there = sum(path.stat().st_size for path in item.run.path.rglob("*") if path.is_file())
    return max(0, (2 * network + 2 * learning) * _FLOAT_BYTES + predictions - there)


def _numbers(item: Planned) -> tuple[int, int]:
    """Return how many numbers a network has, and how many of them learn; nothing is computed for it."""
    import torch

    from cxrkit import models

    assert item.labels is not None
    model: Any
    name = item.config.model.name
    if ":" in name or name in registry.names("model"):
        model = models.build(name, labels=item.labels, options=item.config.model.options)
    else:
        with torch.device("meta"):
            model = models.build_network(item.spec)
    everything = [*model.parameters(), *model.buffers()]
    learning = [parameter.numel() for parameter in model.parameters() if parameter.requires_grad]
    return sum(tensor.numel() for tensor in everything), sum(learning)
