"""``python -m elboverse``: the command line."""

from __future__ import annotations

from elboverse.cli import main

if __name__ == "__main__":
    main()
