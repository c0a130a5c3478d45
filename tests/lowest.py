"""Print the lower bounds of pyproject.toml as pins, with the tools that run the tests: `make lowest` installs them."""

import re
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
extras = project["optional-dependencies"]
wanted = project["dependencies"] + extras["photos"] + extras["demo"]
# JupyterLab itself is a program beside the package: the newest serves to test the command that starts it.
bounds = [w for w in wanted if not w.startswith(("workbench", "jupyterlab"))]
print(*(re.sub(r">=([\w.]+).*", r"==\1", bound) for bound in bounds), sep="\n")
print("pytest", "pytest-xdist", "beartype", "nbclient", "ipykernel", "jupyterlab", sep="\n")
