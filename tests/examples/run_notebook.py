"""Run the cells of a notebook in a kernel: ``python run_notebook.py NOTEBOOK OUT``."""

import sys
from pathlib import Path

import nbclient
import nbformat

if __name__ == "__main__":
    notebook = nbformat.read(sys.argv[1], as_version=4)
    nbformat.validate(notebook)
    resources = {"metadata": {"path": str(Path.cwd())}}
    nbclient.NotebookClient(notebook, timeout=90, resources=resources).execute()
    nbformat.write(notebook, sys.argv[2])
