"""A folder of topics as it was at a commit: what is there is immutable, what is new is judged.

Two processes of git whatever the number of files: one lists, one hands out all contents.
"""

import subprocess
from pathlib import Path
from typing import Final

from edo_stream.catalog.tree import FILE_BYTES_MAX, Tree, is_topic

#: What a change is judged against unless somebody says otherwise.
DEFAULT_REFS: Final = ("origin/main", "main")


class GitError(Exception):
    """The commit cannot be read; one line that says why."""


def default_ref(root: Path) -> str | None:
    """Return the first default that the repository of a folder has; ``None`` outside of one."""
    for ref in DEFAULT_REFS:
        if _is_commit(root, ref):
            return ref
    return None


def tree_at(root: Path, ref: str) -> Tree:
    """Read the folder as it was; empty where it did not exist.

    Raises:
        GitError: there is no repository, or no such commit in it.
    """
    if not _is_commit(root, ref):
        raise GitError(f"git knows no commit {ref} in {root}: fetch it, or name another")
    listed = _git(root, "ls-tree", "-r", "-z", "--long", ref, "--", ".")
    wanted: list[tuple[str, str]] = []
    for line in listed.decode(errors="surrogateescape").split("\0"):
        meta, _, path = line.partition("\t")
        if not path:
            continue
        _, kind, object_id, size = meta.split()
        topic, _, name = path.partition("/")
        is_small = size != "-" and int(size) <= FILE_BYTES_MAX
        if name and kind == "blob" and is_topic(topic) and is_small:
            wanted.append((path, object_id))
    files: dict[str, dict[str, bytes]] = {}
    for (path, _), content in zip(wanted, _contents(root, wanted), strict=True):
        topic, _, name = path.partition("/")
        files.setdefault(topic, {})[name] = content
    return Tree(Path(f"{ref}:{root.name}"), files)


def _contents(root: Path, wanted: list[tuple[str, str]]) -> list[bytes]:
    asked = "".join(f"{object_id}\n" for _, object_id in wanted).encode()
    answer = _git(root, "cat-file", "--batch", given=asked)
    contents, at = [], 0
    for _ in wanted:
        end_of_line = answer.index(b"\n", at)
        size = int(answer[at:end_of_line].split()[2])
        contents.append(answer[end_of_line + 1 : end_of_line + 1 + size])
        at = end_of_line + 1 + size + 1
    return contents


def _is_commit(root: Path, ref: str) -> bool:
    try:
        _git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
    except GitError:
        return False
    return True


def _git(root: Path, *arguments: str, given: bytes = b"") -> bytes:
    try:
        done = subprocess.run(  # noqa: S603 - no shell, and no option is the user's
            ["git", *arguments],  # noqa: S607 - git is where the user has it
            cwd=root,
            input=given,
            capture_output=True,
            check=False,
        )
    except OSError as error:
        raise GitError(f"git cannot be run: {error}") from error
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise GitError(f"git {arguments[0]}: {said[0] if said else 'failed'}")
    return done.stdout
