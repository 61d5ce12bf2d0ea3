"""cxrkit's loader under Lightning: `python -m examples.lightning_loop data/shards`. Needs the package lightning."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import lightning
import torch

import cxrkit
from cxrkit.feed import FeedBatch
from examples.own_loop import SmallNet, masked_loss


class Module(lightning.LightningModule):  # type: ignore[misc, unused-ignore]
    """SmallNet with its loss and its optimizer."""

    def __init__(self, labels: int) -> None:
        super().__init__()
        self.net = SmallNet(labels)

    def training_step(self, batch: FeedBatch, _: int) -> torch.Tensor:
        """Return the loss of a batch, which Lightning has moved to the module's device."""
        loss = masked_loss(self.net(batch["image"]), batch["label"])
        self.log("loss", loss, batch_size=len(batch["ids"]), on_step=False, on_epoch=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return Adam."""
        return torch.optim.Adam(self.parameters(), lr=1e-2)


def train(data: Path, epochs: int = 1, trainer_options: dict[str, Any] | None = None, **options: Any) -> float:
    """Train on a prepared folder; returns the last epoch's loss. A feed goes where a DataLoader would."""
    with cxrkit.open(data, subset="train", **options) as feed:
        trainer = lightning.Trainer(max_epochs=epochs, logger=False, **(trainer_options or {}))
        trainer.fit(Module(len(feed.labels)), feed)
        return float(trainer.callback_metrics["loss"])


if __name__ == "__main__":
    print("loss:", train(Path(sys.argv[1]), epochs=3))
