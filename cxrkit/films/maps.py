"""Maps of what the network looks at on films of one's own, as PNG: the panels of `cxrkit explain`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxrkit.base.files import replacing
from cxrkit.explain.attribution import AUTO, choose
from cxrkit.explain.panels import Panel, draw
from cxrkit.explain.placing import Placement
from cxrkit.films.film import Film
from cxrkit.films.meaning import Meaning
from cxrkit.films.said import Said
from cxrkit.films.scoring import Scorer
from cxrkit.films.tables import DOUBTFUL, Scored, reached, standing_out


@dataclass
class Drawing:
    """Draws the maps of films into a folder."""

    scorer: Scorer
    """The network."""

    folder: Path
    """Where the pictures go."""

    placement: Placement
    """Where the network's input lies on a film."""

    count: int = 0
    """How many were drawn."""

    @classmethod
    def of(cls, scorer: Scorer, folder: Path) -> Drawing:
        """Return what draws into `folder`."""
        return cls(scorer, folder, Placement.of(scorer.plan(1)))

    def draw(
        self, films: Sequence[Film], known: Sequence[Said], scored: Sequence[Scored], meant: Mapping[str, Meaning]
    ) -> None:
        """Draw for each film the map of each finding that stands out: those at their threshold, or else the first.

        Without thresholds the three with the highest scores. Raises UserError as `attribution.choose` does.
        """
        import torch

        from cxrkit.models import prepare_input

        labels, model = self.scorer.labels, self.scorer.model
        loader = self.scorer.loader(films, known)
        try:
            for batch in loader.epoch(0):
                # Copies: gradients outlive the batch.
                eaten, meta = prepare_input(batch.image, self.scorer.spec).clone(), batch.meta.clone()
                method = choose(model, AUTO, eaten[:1], meta[:1])
                for place, row in enumerate(batch.index.tolist()):
                    shown = self._shown(scored[row], meant)
                    numbers = [labels.labels.index(label) for label in shown]
                    found = method.compute(eaten[place : place + 1], meta[place : place + 1], numbers)
                    maps = found[0].detach().to("cpu", torch.float32).numpy()
                    for label, number, map_hw in zip(shown, numbers, maps, strict=True):
                        self._write(self._panel(films[row], scored[row], label, number, map_hw))
        finally:
            loader.close()

    def _shown(self, film: Scored, meant: Mapping[str, Meaning]) -> list[str]:
        labels = self.scorer.labels
        found = [label for label in standing_out(film.scores, labels, meant) if label not in self.scorer.info.masked]
        at_threshold = [
            label for label in found if reached(float(film.scores[labels.labels.index(label)]), meant.get(label))
        ]
        return at_threshold or (found[:1] if meant else found)

    def _panel(self, film: Film, scored: Scored, label: str, number: int, map_hw: NDArray[np.float32]) -> Panel:
        """Return the panel of one map; of what is probably no frontal film it says so in its title."""
        heading, about = self.scorer.labels.heading(label), "a film of one's own"
        if scored.verdict:
            heading, about = f"{DOUBTFUL} {heading}", f"{DOUBTFUL} {scored.verdict.partition(':')[0]}"
        none = np.zeros((0, 4))
        score = float(scored.scores[number])
        return Panel(film.name, heading, film.image, map_hw, self.placement, none, score, about, alone=True)

    def _write(self, panel: Panel) -> None:
        label = panel.label.removeprefix(DOUBTFUL).strip()
        name = re.sub(r"[^A-Za-z0-9_-]+", "_", f"{panel.image_id}-{label}").strip("_")
        with replacing(self.folder / f"{name}.png") as part:
            draw(panel).save(part, "PNG")
        self.count += 1
