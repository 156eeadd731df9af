import attrs
import torch

from elboverse.config.structuring import in_range
from elboverse.data import prepare
from elboverse.seeding import generator


@attrs.frozen(kw_only=True)
class LadderOptions:
    points: int = attrs.field(default=1000, validator=in_range(minimum=2))
    rungs: int = attrs.field(default=4, validator=in_range(minimum=1))


def build(options, seed):
    stream = generator(seed, "data", "ladder")
    height = torch.randint(options.rungs, (options.points,), generator=stream).double()
    across = torch.rand(options.points, generator=stream, dtype=torch.float64)
    noise = 0.05 * torch.randn(options.points, 2, generator=stream, dtype=torch.float64)
    return prepare(torch.stack((across, height), 1) + noise, seed=seed, names=("x", "y"), what="ladder")
