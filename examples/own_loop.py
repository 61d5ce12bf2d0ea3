"""A training loop of one's own on cxrkit's loader: `python -m examples.own_loop data/shards`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import cxrkit


class SmallNet(nn.Module):
    """Two convolutions, a mean over all places, a dense layer: for a loop to have something to train."""

    def __init__(self, labels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 16, 5, stride=4), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2), nn.BatchNorm2d(32), nn.ReLU(),
        )  # fmt: skip
        self.dense = nn.Linear(32, labels)

    def forward(self, image_B1HW: Tensor) -> Tensor:
        """Return the logits (B, L) of gray levels 0 to 255."""
        logits: Tensor = self.dense(self.body(image_B1HW / 255).mean((2, 3)))
        return logits


def masked_loss(logits: Tensor, label: Tensor) -> Tensor:
    """Return the binary cross entropy over the labels that are known: NaN stands for those that are not."""
    known = ~label.isnan()
    loss: Tensor = nn.functional.binary_cross_entropy_with_logits(logits[known], label[known])
    return loss


def train(data: Path, epochs: int = 1, **options: Any) -> list[float]:
    """Train SmallNet on a prepared folder; returns the mean loss of each epoch. options: of cxrkit.open."""
    losses = []
    with cxrkit.open(data, subset="train", **options) as feed:
        net = SmallNet(len(feed.labels))
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
        for _ in range(epochs):
            total = 0.0
            for batch in feed:
                net.to(batch["image"].device)
                loss = masked_loss(net(batch["image"]), batch["label"])
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                total += loss.item()
            losses.append(total / len(feed))
    return losses


if __name__ == "__main__":
    print("mean loss of each epoch:", train(Path(sys.argv[1]), epochs=3))
