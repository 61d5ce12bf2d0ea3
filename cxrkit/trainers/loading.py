"""A rehearsal of a foreign loader: it executes a plan of five images, and every batch is compared with the plan."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from cxrkit.base import registry
from cxrkit.base.contracts import Batch
from cxrkit.base.errors import UserError
from cxrkit.loaders import AUTO, targets
from cxrkit.loaders.inputs import Inputs, loader_options
from cxrkit.loaders.plan import Plan, PlannedBatch
from cxrkit.runs.config import TrainConfig
from cxrkit.trainers import TrainTask

_IMAGES, _BATCH = 5, 2
_REMEDY = "compare it with examples/plain_loader.py; cxrkit/base/contracts.py says what a Batch holds"


def is_foreign(config: TrainConfig) -> bool:
    """Return whether the loader that `--loader` names is not cxrkit's own."""
    return config.run.loader != AUTO and registry.is_foreign("loader", config.run.loader)


def rehearse(task: TrainTask, inputs: Inputs) -> None:
    """Let a foreign loader execute small plans. Raises UserError for the first thing that it does otherwise."""
    config = task.config
    if not is_foreign(config) or not inputs.pixels:
        return
    plans = [inputs.eval_plan("val", task.spec, _BATCH)]
    if config.run.cache != "gpu":  # those pixels are delivered by a loader of cxrkit's own
        plans.append(inputs.train_plan(config, task.spec))
    for plan in plans:
        _Rehearsal(task, inputs, _few(plan)).run()


def _few(plan: Plan) -> Plan:
    rows = plan.rows[:_IMAGES]
    numbers = None if plan.numbers is None else plan.numbers[: len(rows)]
    return replace(plan, rows=rows, numbers=numbers, batch_size=min(_BATCH, len(rows)), rank=0, world_size=1)


class _Rehearsal:
    def __init__(self, task: TrainTask, inputs: Inputs, plan: Plan) -> None:
        self.task, self.plan, self.name = task, plan, task.config.run.loader
        self.target = targets.targets(inputs.frame, inputs.labels)
        self.meta = targets.metadata(inputs.frame, inputs.age_range)
        with self._blamed("made for a plan of five images"):
            self.loader: Any = inputs.loader(
                plan,
                self.name,
                task.device,
                task.config.run.threads,
                options=loader_options(task.config.run, cached=False),
            )
        inputs.forget(self.loader)  # it is closed here

    def run(self) -> None:
        """Compare an epoch, and the rest of another, with the plan."""
        try:
            with self._blamed("asked for the steps of an epoch"):
                steps = self.loader.steps
            if steps != self.plan.steps:
                raise self._wrong(f"its steps are {steps!r}, expected {self.plan.steps} for {self._what}")
            self._compare(0, 0)
            self._compare(1, 1)
        finally:
            with self._blamed("closed twice"):
                self.loader.close()
                self.loader.close()

    @property
    def _what(self) -> str:
        subset = "training" if self.plan.train else "validation"
        return f"{len(self.plan.rows)} {subset} images in batches of {self.plan.batch_size}"

    @contextmanager
    def _blamed(self, doing: str) -> Iterator[None]:
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            raise registry.failed("loader", self.name, error, f"{doing}, tried before the training") from error

    def _wrong(self, what: str) -> UserError:
        return UserError(f"loader {self.name!r}: {what}", remedy=_REMEDY)

    def _compare(self, epoch: int, start: int) -> None:
        where = f"in epoch {epoch} from step {start} on, of {self._what}"
        planned = list(self.plan.batches(epoch, start))
        count = 0
        with self._blamed(where):
            for count, batch in enumerate(self.loader.epoch(epoch, start), 1):
                if count > len(planned):
                    break
                self._check(batch, planned[count - 1], f"batch {start + count} {where}")
        if count != len(planned):
            many = "more" if count > len(planned) else str(count)
            raise self._wrong(f"delivers {many} batches {where}; expected {len(planned)}")

    def _check(self, batch: Any, planned: PlannedBatch, where: str) -> None:
        if not isinstance(batch, Batch):
            raise self._wrong(f"{where} is a {type(batch).__name__}, expected a Batch")
        images, side = len(planned.rows), self.plan.input_size
        wanted = {
            "image": ((images, 1, side, side), torch.uint8),
            "target": ((images, self.target.shape[1]), torch.float32),
            "meta": ((images, 3), torch.float32),
            "index": ((images,), torch.int64),
        }
        for field, (shape, dtype) in wanted.items():
            value = getattr(batch, field)
            if not isinstance(value, torch.Tensor):
                raise self._wrong(f"{where}: {field} is a {type(value).__name__}, expected a tensor")
            if tuple(value.shape) != shape or value.dtype != dtype:
                raise self._wrong(f"{where}: {field} is {tuple(value.shape)} {value.dtype}, expected {shape} {dtype}")
            if value.device.type != torch.device(self.task.device).type:
                raise self._wrong(f"{where}: {field} lies on {value.device}, expected {self.task.device}")
        index = batch.index.cpu().numpy()
        if not np.array_equal(index, planned.rows):
            raise self._wrong(f"{where}: its images are rows {index.tolist()}, expected {planned.rows.tolist()}")
        if self.plan.train:  # a loader may mix images and their labels on purpose
            return
        for field, table in (("target", self.target), ("meta", self.meta)):
            if not np.array_equal(getattr(batch, field).cpu().numpy(), table[planned.rows], equal_nan=True):
                raise self._wrong(f"{where}: {field} is not that of its images")
