"""What a worker asks of its process: open files, and a collector that fits batches."""

import gc
import logging
import resource

log = logging.getLogger(__name__)

_FILES_OF_A_WORKER = 128
#: Connections of a task's producer, and files of its two RocksDBs.
_FILES_OF_A_TASK = 24

#: Batches make and drop tens of thousands of objects, none of them in cycles: the default
#: threshold of 700 has the collector look for cycles several times a batch, for nothing.
_GC_THRESHOLD = 50_000


def prepare_process(tasks_max: int) -> None:
    """Raise the limit of open files to what all tasks may need, and tune the collector."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD, 20, 100)
    needed = _FILES_OF_A_WORKER + tasks_max * _FILES_OF_A_TASK
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        reachable = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (reachable, hard))
        if reachable < needed:
            log.warning(
                "open files are limited to %d, but %d tasks on this worker may need %d: raise "
                "the limit (ulimit -n)",
                reachable,
                tasks_max,
                needed,
            )
