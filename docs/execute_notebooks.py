"""Execute the notebooks and write their outputs into them: `python docs/execute_notebooks.py`."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

import elboverse

__all__ = ["NOTEBOOKS", "executed"]

ROOT = Path(elboverse.__file__).parents[1]
NOTEBOOKS = sorted((Path(__file__).parent / "notebooks").glob("*.ipynb"))


def executed(path: Path) -> nbformat.NotebookNode:
    """Return a notebook with its outputs made anew in an empty folder; an error in a cell is raised."""
    os.environ |= {"OMP_NUM_THREADS": "1", "ELBOVERSE_LOAD_PLUGINS": ""}
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(notebook, timeout=300, resources={"metadata": {"path": folder}}).execute()
    text = nbformat.writes(notebook).replace(folder, "~/notebook").replace(f"{ROOT}/", "")
    text = re.sub(r'[^"\\s]*/ipykernel_\d+/\d+\.py', "cell", text)  # where a warning came from
    notebook = nbformat.reads(text, as_version=4)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # the times of the messages, new at each execution
    notebook.metadata.pop("language_info", None)
    return notebook


if __name__ == "__main__":
    for path in NOTEBOOKS:
        nbformat.write(executed(path), path)
