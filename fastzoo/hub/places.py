"""Where registries and bundles lie: in folders here, in folders at a URL, in repositories on Hugging Face."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from fastzoo.errors import RegistryError, require

REGISTRY_FILE = "zoo_registry.json"

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)
# In an address the colon after the scheme and that before a port separate nothing.
_PLACES = re.compile(r"(?:https?|hf)://(?:\[[^\]]*\]|[^:/\[]*)(?::[0-9]+(?=[/:]|$))?[^:]*|[^:]+", re.IGNORECASE)
_HUB = re.compile(r"hf://(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w.%-]+))?(?:/(?P<folder>.+))?")
_PIN = re.compile(r"sha256=([0-9a-f]{64})")


def is_address(place: object) -> bool:
    """Whether a place is an address and not a path: text that begins with ``scheme://``."""
    return isinstance(place, str) and _SCHEME.match(place) is not None


def split(text: str) -> list[str]:
    """The places in an environment variable, separated as in ``$PATH``."""
    return [part for part in text.split(os.pathsep) if part] if os.pathsep == ";" else _PLACES.findall(text)


@dataclass(frozen=True)
class Remote:
    """A folder on a server.

    Args:
        base: its address, without the slash at its end.
    """

    base: str

    def url(self, relative: str) -> str:
        """The address of a file below it."""
        return f"{self.base}/{quote(relative)}"

    def headers(self) -> Mapping[str, str]:
        """What a request must say besides."""
        return {}

    def below(self, folder: str) -> Remote:
        """A folder in it."""
        return Remote(f"{self.base}/{quote(folder)}")


class HubFolder(Remote):
    """A folder in a repository of Hugging Face, ``hf://OWNER/REPO[@REVISION][/FOLDER]``.

    Their library says where the files lie (``HF_ENDPOINT``) and with which token (``HF_TOKEN``, or that of a login).
    """

    def url(self, relative: str) -> str:
        """The address of a file below it."""
        match = _HUB.fullmatch(self.base)
        assert match is not None  # checked by `_remote`
        hub = require("huggingface_hub", "hub", self.base)
        path = f"{match['folder']}/{relative}" if match["folder"] else relative
        revision = unquote(match["revision"]) if match["revision"] else None
        try:
            address: str = hub.hf_hub_url(match["repository"], path, revision=revision)
        except ValueError as error:
            raise RegistryError(f"{self.base} is no address of a repository: {error}") from error
        return address

    def below(self, folder: str) -> Remote:
        """A folder in it."""
        return HubFolder(f"{self.base}/{folder}")

    def headers(self) -> Mapping[str, str]:
        """The user's token, if there is one."""
        utils = require("huggingface_hub.utils", "hub", self.base)
        return {key: str(value) for key, value in utils.build_hf_headers(library_name="fastzoo").items() if value}


def registry_at(address: str) -> tuple[Remote, str]:
    """The folder of the registry at an address, which may name its file too, and the name of that file.

    Raises:
        RegistryError: it is no address of a registry.
    """
    base, hash_sign, _ = address.partition("#")
    if hash_sign:
        raise RegistryError(f"{address}: a registry has no #; that pins a bundle's address in `fastzoo.load`")
    folder, _, last = base.rpartition("/")
    if last.endswith(".json") and folder.count("/") >= 2:
        return _remote(folder, address), last
    return _remote(base, address), REGISTRY_FILE


def bundle_at(address: str) -> tuple[Remote, str | None]:
    """The folder of the bundle at an address, and the sha256 to which ``#sha256=...`` pins its ``bundle.json``.

    Raises:
        RegistryError: it is no address of a bundle.
    """
    base, hash_sign, fragment = address.partition("#")
    pin = _PIN.fullmatch(fragment)
    if hash_sign and not pin:
        raise RegistryError(f"{address}: after # must come sha256= and the 64 hexadecimal digits of its bundle.json")
    return _remote(base.removesuffix("/bundle.json"), address), pin[1] if pin else None


def _remote(base: str, address: str) -> Remote:
    base = base.rstrip("/")
    scheme, parts = base.partition("://")[0].lower(), urlsplit(base)
    if scheme == "hf":
        base = "hf" + base[2:]
        if not _HUB.fullmatch(base):
            raise RegistryError(f"{address} should be hf://OWNER/REPO, hf://OWNER/REPO@REVISION or with /FOLDER behind")
        return HubFolder(base)
    if scheme not in ("http", "https"):
        raise RegistryError(f"{address}: an address begins with https://, http:// or hf://; a folder here has none")
    if "@" in parts.netloc:
        raise RegistryError(
            f"{parts.hostname}: names and passwords do not belong into an address; put them in ~/.netrc"
        )
    if not parts.netloc or "?" in base:
        raise RegistryError(f"{address} is no address of a folder on a server, https://HOST/FOLDER")
    return Remote(base)


def local_file(place: str | os.PathLike[str]) -> Path:
    """The file of a registry here, which is named by that file or by its folder."""
    path = Path(place).expanduser()
    return path if path.suffix == ".json" else path / REGISTRY_FILE
