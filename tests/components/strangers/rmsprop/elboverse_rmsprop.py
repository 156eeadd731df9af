"""RMSprop (Tieleman and Hinton 2012): gradients over the root of a running average of their squares."""

import attrs
import torch

from elboverse import Component, hookimpl
from elboverse.config.structuring import in_range


@attrs.frozen(kw_only=True)
class Options:
    decay: float = attrs.field(default=0.99, validator=in_range(minimum=0, below=1), metadata={"help": "of it"})
    epsilon: float = attrs.field(default=1e-8, validator=in_range(above=0), metadata={"help": "added to the root"})


@attrs.frozen
class RMSprop:
    options: Options

    def state(self, values):
        return {"square": torch.zeros_like(values)}

    def update(self, values, gradients, state, rate):
        square = state["square"].mul_(self.options.decay)
        square.addcmul_(gradients, gradients, value=1 - self.options.decay)
        values.addcdiv_(gradients, square.sqrt().add_(self.options.epsilon), value=-rate)


@hookimpl
def elboverse_optimisers():
    return [Component("rmsprop", Options, RMSprop, "gradients over their running root mean square")]
