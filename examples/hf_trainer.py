"""cxrkit's loader under Hugging Face's Trainer: `python -m examples.hf_trainer data/shards out`.

Needs the packages transformers and accelerate. The Trainer asks its method get_train_dataloader for batches: a feed is
given there, and shuffles, shards and augments by itself.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers import Trainer, TrainingArguments

import cxrkit
from cxrkit.feed import Feed
from examples.own_loop import SmallNet, masked_loss


class Model(nn.Module):
    """SmallNet as the Trainer wants it: from the batch's parts to a dict with the loss."""

    def __init__(self, labels: int) -> None:
        super().__init__()
        self.net = SmallNet(labels)

    def forward(self, image: Tensor, label: Tensor, **_: Any) -> dict[str, Tensor]:
        """Return the loss and the logits; metadata and ids are not looked at."""
        logits = self.net(image)
        return {"loss": masked_loss(logits, label), "logits": logits}


class FeedTrainer(Trainer):  # type: ignore[misc, unused-ignore]
    """A Trainer whose batches come from a feed."""

    def __init__(self, feed: Feed, **options: Any) -> None:
        super().__init__(**options)
        self.feed = feed

    def get_train_dataloader(self) -> Feed:  # type: ignore[override, unused-ignore]
        """Return the feed."""
        return self.feed


def train(data: Path, out: Path, epochs: int = 1, **options: Any) -> float:
    """Train on a prepared folder; returns the mean loss of all steps. options: of cxrkit.open."""
    with cxrkit.open(data, subset="train", **options) as feed:
        settings = TrainingArguments(
            output_dir=str(out), num_train_epochs=epochs, learning_rate=1e-2, report_to=[], save_strategy="no",
            use_cpu=not feed.on_gpu, disable_tqdm=True, per_device_train_batch_size=feed.batch_size,
        )  # fmt: skip
        trainer = FeedTrainer(feed, model=Model(len(feed.labels)), args=settings)
        return float(trainer.train().training_loss)


if __name__ == "__main__":
    print("mean loss:", train(Path(sys.argv[1]), Path(sys.argv[2]), epochs=3))
