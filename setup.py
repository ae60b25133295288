"""The wheel carries ``zoo_registry.json``, which lives at the top of the repository, inside the package."""

from pathlib import Path
from shutil import copyfile

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithRegistry(build_py):
    """``build_py`` that adds the registry; an editable install reads it where it lies."""

    def run(self) -> None:
        """Build the package, then copy the registry into it."""
        super().run()
        if not self.editable_mode:
            copyfile("zoo_registry.json", Path(self.build_lib) / "fastzoo" / "zoo_registry.json")


setup(cmdclass={"build_py": BuildWithRegistry})
