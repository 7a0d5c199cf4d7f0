"""`make setup`, in a folder whose name a shell or Python would read as code."""

import shlex
import shutil
import subprocess
import sys

from conftest import ROOT

# Makes the environment, with a pip that does nothing; all else is the real Python.
PYTHON = """#!/bin/sh
if [ "$2" = venv ]; then
  {python} -m venv --without-pip .venv || exit 1
  for packages in .venv/lib/python3*/site-packages; do
    mkdir "$packages/pip" && touch "$packages/pip/__main__.py"
  done
else
  exec {python} "$@"
fi
"""


def test_setup_in_a_folder_of_any_name(tmp_path):
    folder = tmp_path / 'it\'s a "b" $c Müll'
    (folder / "workflow/marked_workflow").mkdir(parents=True)
    (folder / "workflow/marked_workflow/__init__.py").touch()
    for file in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / file, folder)
    python = tmp_path / "python"
    python.write_text(PYTHON.format(python=shlex.quote(sys.executable)))
    python.chmod(0o755)
    setup = subprocess.run(
        ["make", "setup", f"PYTHON={python}"],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert setup.returncode == 0, setup.stderr
    assert (folder / ".venv/.complete").exists()
    imported = subprocess.run(
        [folder / ".venv/bin/python", "-c", "import marked_workflow"],
        cwd=tmp_path,
        env={"LC_ALL": "C"},
    )
    assert imported.returncode == 0
