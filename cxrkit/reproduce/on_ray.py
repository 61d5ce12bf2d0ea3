"""Jobs as tasks of a Ray cluster (`pip install 'cxrkit[ray]'`); --data and --runs lie on a disk that all nodes see."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cxrkit.base.contracts import Ended, Job, Share
from cxrkit.base.errors import UserError
from cxrkit.reproduce import process


class RayExecutor:
    """Hands every job to Ray, which finds it a place; when a node goes away, its jobs go on elsewhere."""

    def __init__(self, share: Share, *, address: str = "", cpus: int = 0, lost: int = 10) -> None:
        """Connect to a cluster, or start one of this machine alone.

        address: of the cluster; by default RAY_ADDRESS, else a new one. cpus: cores of each job; by default they are
        shared out among the GPUs' places, or without GPUs among `share.jobs`. lost: how often a job whose node has
        gone away is started again. Raises UserError where there is no Ray, or no such cluster.
        """
        self._ray = ray = _ray()
        try:
            ray.init(address=address or None, log_to_driver=False, configure_logging=False)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise UserError(
                f"--engine ray: no cluster at {address or 'RAY_ADDRESS'} ({str(error).splitlines()[0]})",
                remedy="start one with `ray start --head`, or leave out address= for one of this machine alone",
            ) from None
        self.places = share.jobs
        cluster = ray.cluster_resources()
        gpus, cores = int(cluster.get("GPU", 0)), int(cluster.get("CPU", 1))
        self._gpu_share = 1 / share.per_gpu if gpus else 0.0
        self._cpus = cpus or max(1, cores // (gpus * share.per_gpu or share.jobs or cores))
        self._lost = lost
        self._running: dict[Any, str] = {}

    def submit(self, job: Job) -> None:
        """Queue the job; Ray starts it again, here or elsewhere, when the worker that had it is gone."""
        task = self._ray.remote(process.run).options(
            name=job.name,
            num_cpus=self._cpus,
            num_gpus=self._gpu_share if job.gpu else 0,
            max_retries=self._lost,
            retry_exceptions=False,
        )
        on_gpu = job.gpu and bool(self._gpu_share)
        self._running[task.remote(job, self._cpus, on_gpu=on_gpu)] = job.name

    def ended(self) -> Iterator[Ended]:
        """Yield the jobs that have ended."""
        waiting = list(self._running)
        ready, _ = self._ray.wait(waiting, num_returns=len(waiting), timeout=0) if waiting else ([], [])
        for task in ready:
            name = self._running.pop(task)
            try:
                yield Ended(name, self._ray.get(task))
            except Exception as error:  # the job's own, or Ray's where its node is gone for good
                yield Ended(name, 1, f"Ray: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}")

    def close(self) -> None:
        """Interrupt what is running, wait a little, and leave the cluster."""
        for task in self._running:
            self._ray.cancel(task)
        if self._running:
            waiting = list(self._running)
            self._ray.wait(waiting, num_returns=len(waiting), timeout=process.PATIENCE_SECONDS)
        self._running.clear()
        self._ray.shutdown()


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise UserError(
            "--engine ray: Ray is not installed", remedy="pip install 'cxrkit[ray]', or take --engine local"
        ) from None
    return ray
