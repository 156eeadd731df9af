"""The run file ``run.h5``: one file that holds all that is known of a run, and is valid at any moment.

`RunWriter` keeps the history in memory and puts whole snapshots in place; `Run` reads a file that nobody vouches
for. Neither needs torch.
"""

from __future__ import annotations

from elboverse.runfile.lock import WriterLock
from elboverse.runfile.reader import Run, located
from elboverse.runfile.schema import FORMAT_VERSION, RUN_FILE
from elboverse.runfile.writer import RunWriter

__all__ = ["FORMAT_VERSION", "RUN_FILE", "Run", "RunWriter", "WriterLock", "located"]
