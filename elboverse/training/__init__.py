"""Training: batches, the step, the replicated step, evaluation and the loop. It yields records and knows no sink."""

from __future__ import annotations
