"""Jobs of a Slurm cluster, by submitit (`pip install 'cxrkit[slurm]'`); all nodes see the disk of --data and --runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cxrkit.base.contracts import Ended, Job, Share
from cxrkit.base.cores import available_cores
from cxrkit.base.errors import UserError
from cxrkit.reproduce import process


@dataclass(frozen=True)
class Task:
    """What Slurm runs: a job, which goes on with its last checkpoint wherever Slurm starts it again."""

    job: Job
    """The job."""

    threads: int
    """Its threads, where its node grants as many."""

    on_gpu: bool
    """Whether Slurm gives it a GPU."""

    def __call__(self) -> int:
        """Run the job to its end."""
        return process.run(self.job, min(self.threads, available_cores()), on_gpu=self.on_gpu)

    def checkpoint(self) -> Any:
        """Return what Slurm is to queue when the time is up or the job is preempted: the same again."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


class SlurmExecutor:
    """Hands every job to Slurm's own queue."""

    def __init__(
        self,
        share: Share,
        *,
        partition: str = "",
        account: str = "",
        minutes: int = 24 * 60,
        cpus: int = 8,
        memory_gb: int = 32,
        gpus: int = 1,
        more: dict[str, Any] | None = None,
        cluster: str = "",
    ) -> None:
        """Prepare the queue. The options are those of one job.

        minutes: its time limit; when that is up, it is queued again and goes on. gpus: 1, or 0 for CPU nodes. more:
        further settings of sbatch, by name. cluster: "local" runs the jobs here, to try things out. Raises UserError
        where there is no submitit, or no Slurm.
        """
        submitit = _submitit()
        self._folder = share.folder / "slurm"
        self.places = share.jobs
        self._cpus, self._gpus = cpus, gpus
        if share.per_gpu > 1:
            raise UserError(
                f"--per-gpu {share.per_gpu}: Slurm gives each job GPUs of its own",
                remedy="leave it out; where the cluster shares GPUs, say so in its own words: --engine-set more=...",
            )
        try:
            self._executor = submitit.AutoExecutor(self._folder, cluster=cluster or "slurm")
        except RuntimeError as error:
            raise UserError(
                f"--engine slurm: {error}", remedy="start it on a machine that has sbatch, or take --engine local"
            ) from None
        self._executor.update_parameters(
            name="cxrkit", timeout_min=minutes, cpus_per_task=cpus, mem_gb=memory_gb, gpus_per_node=gpus
        )
        if cluster != "local":
            named = {"slurm_partition": partition, "slurm_account": account, "slurm_additional_parameters": more}
            self._executor.update_parameters(**{name: value for name, value in named.items() if value})
        self._running: dict[str, Any] = {}

    def submit(self, job: Job) -> None:
        """Queue the job."""
        self._running[job.name] = self._executor.submit(Task(job, self._cpus, job.gpu and self._gpus > 0))

    def ended(self) -> Iterator[Ended]:
        """Yield the jobs that have ended."""
        for name, job in list(self._running.items()):
            if not job.done():
                continue
            del self._running[name]
            try:
                yield Ended(name, job.result())
            except Exception as error:  # the node's end, a time limit that cannot be prolonged, ...
                yield Ended(name, 1, f"Slurm job {job.job_id}: {(str(error).splitlines() or [''])[0]}")

    def close(self) -> None:
        """Cancel what is queued or running; a training keeps its last checkpoint."""
        for job in self._running.values():
            job.cancel(check=False)
        for job in self._running.values():
            job.wait()
        self._running.clear()


def _submitit() -> Any:
    try:
        import submitit
    except ImportError:
        raise UserError(
            "--engine slurm: submitit is not installed", remedy="pip install 'cxrkit[slurm]', or take --engine local"
        ) from None
    return submitit
