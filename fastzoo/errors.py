"""Every exception fastzoo raises on purpose. Each message says what was wrong, what was expected and what to do."""

from __future__ import annotations

import importlib
from types import ModuleType


class FastzooError(Exception):
    """Base of all errors of this package: ``except fastzoo.FastzooError`` catches them all."""


class UnknownModelError(FastzooError):
    """No model of this name is registered."""


class RegistryError(FastzooError):
    """A registry file cannot be read, is of a newer schema, or contradicts itself."""


class BundleError(FastzooError):
    """A bundle is incomplete, damaged, of a newer schema, or not what the registry promised."""


class DownloadError(FastzooError):
    """A file cannot be brought from the network, is not what was promised, or cannot be kept."""


class InputError(FastzooError, ValueError):
    """The samples given to a model have the wrong shape, type or content."""


class DataError(FastzooError):
    """A data set is missing, not prepared, or faulty."""


class TrainingError(FastzooError):
    """A training run was asked for something impossible, or went wrong (a NaN loss, a damaged checkpoint)."""


class EdgeMLError(FastzooError):
    """A model of EdgeML's cannot be read, or a network cannot be written as one."""


class ExportError(FastzooError):
    """A model cannot be exported, or an exported file did not pass verification."""


class ServiceError(FastzooError):
    """The service cannot start."""


class MissingExtraError(FastzooError, ImportError):
    """An optional dependency is not installed."""


def require(module: str, extra: str, purpose: str) -> ModuleType:
    """Import an optional dependency, or say which extra of fastzoo brings it.

    Args:
        module: the module to import, e.g. ``"torch"``.
        extra: the extra that installs it, e.g. ``"train"``.
        purpose: what it is needed for; the message begins with it.

    Raises:
        MissingExtraError: the module is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise  # installed, but broken inside: its own message is the better one
        raise MissingExtraError(
            f'{purpose} needs {module}, which is not installed. Install it with: pip install "fastzoo[{extra}]"'
        ) from error
