"""Each peer's tests are collected where the peer is installed: `nox -s peers` does that, one environment each."""

from __future__ import annotations

import importlib.util

PEERS = {name: name for name in ("lightning", "pythae", "scvi", "diffusers", "transformers")}

collect_ignore_glob = [f"test_{peer}*.py" for peer, module in PEERS.items() if importlib.util.find_spec(module) is None]
