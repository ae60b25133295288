"""The wheel carries ``zoo_registry.json`` and the recipes, which live at the top of the repository, in the package."""

from pathlib import Path
from shutil import copyfile, copytree, rmtree

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithRegistry(build_py):
    """``build_py`` that adds registry and recipes; an editable install reads them where they lie."""

    def run(self) -> None:
        """Build the package, then copy registry and recipes into it."""
        super().run()
        if not self.editable_mode:
            package = Path(self.build_lib) / "fastzoo"
            copyfile("zoo_registry.json", package / "zoo_registry.json")
            rmtree(package / "recipes", ignore_errors=True)  # of an earlier build
            copytree("recipes", package / "recipes")


setup(cmdclass={"build_py": BuildWithRegistry})
