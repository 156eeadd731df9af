"""SUSY: 5,000,000 simulated collisions of particles, 18 features each (Baldi, Sadowski and Whiteson 2014)."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

import attrs
import torch
from torch import Tensor

from elboverse.config.structuring import in_range
from elboverse.contracts import Data
from elboverse.data import prepare, split
from elboverse.errors import DataError
from elboverse_susy.cache import cached_features
from elboverse_susy.sources import download, locate, places

__all__ = ["FEATURES", "SusyOptions", "build_susy"]

FEATURES: Final = (
    "lepton 1 pT",
    "lepton 1 eta",
    "lepton 1 phi",
    "lepton 2 pT",
    "lepton 2 eta",
    "lepton 2 phi",
    "missing energy magnitude",
    "missing energy phi",
    "MET_rel",
    "axial MET",
    "M_R",
    "M_TR_2",
    "R",
    "MT2",
    "S_R",
    "M_Delta_R",
    "dPhi_r_b",
    "cos(theta_r1)",
)
"""The features in the file's order, as the archive names them; the label comes before them and is not used."""


@attrs.frozen(kw_only=True)
class SusyOptions:
    """Options of SUSY.

    Args:
        path: ``SUSY.csv``, ``SUSY.csv.gz`` or the archive's ``susy.zip``; by default the one in the user's cache, else
            that in ``/usr/share/datasets/susy``.
        download: whether the archive's zip, about 0.9 GB, may be downloaded into the cache where there is none.
        n_samples: take only the first so many rows, before the split; all by default. The paper takes 2,500,000.
        held_out: share of the points that training never sees, 0 ≤ f < 1.
        scaling: ``"min-max"`` maps the training range of each feature to [0, 1], ``"standard"`` to mean 0 and standard
            deviation 1, ``"none"`` leaves the values as they are.
    """

    path: Path | None = None
    download: bool = False
    n_samples: int | None = attrs.field(default=None, validator=in_range(minimum=2))
    held_out: float = attrs.field(default=0.5, validator=in_range(minimum=0, below=1))
    scaling: Literal["min-max", "standard", "none"] = "min-max"

    def places(self) -> tuple[Path, ...]:
        """Return where the file is looked for, in order."""
        return places(self.path)

    def fetch(self) -> Path:
        """Download the archive's zip into the cache, unless a file is there, and return the file's path.

        Raises:
            DataError: it cannot be downloaded.
        """
        return locate(self.path) or download()


def build_susy(options: SusyOptions, seed: int) -> Data:
    """Return SUSY's features, read from the file the first time and mapped from the cache from then on.

    Raises:
        DataError: the file is nowhere, damaged, of another form or shorter than asked for, or the cache cannot be
            written.
    """
    path = locate(options.path)
    if path is None and options.download:
        path = download()
    if path is None:
        raise DataError(
            f"susy: no file {' or '.join(str(place) for place in options.places())}; "
            "give dataset.path, or fetch it with: elboverse data fetch susy"
        )
    train, held_out = _split(path, options, seed)
    return prepare(
        train,
        seed=seed,
        held_out=held_out if len(held_out) else 0.0,
        scaling=options.scaling,
        names=FEATURES,
        what=str(path),
    )


def _split(path: Path, options: SusyOptions, seed: int) -> tuple[Tensor, Tensor]:
    """Return train and held-out points; the map of the cache ends here, before scaling needs memory."""
    features = cached_features(path, FEATURES)
    count = len(features) if options.n_samples is None else options.n_samples
    if count > len(features):
        raise DataError(f"{path}: got dataset.n_samples = {count:,}, but it has {len(features):,} rows")
    return split(torch.from_numpy(features[:count]), options.held_out, seed)
