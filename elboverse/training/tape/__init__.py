"""The tape: a computation recorded once, and replayed as a flat list of kernels into memory planned once.

`recording` watches what tensors do below automatic differentiation and below `torch.func`; `planning` decides which of
it is needed and where everything lies; `kernels` finds the cheapest way to call each operation; `tape` is the result.
"""

from elboverse.training.tape.recording import Untraceable, each
from elboverse.training.tape.tape import Tape

__all__ = ["Tape", "Untraceable", "each"]
