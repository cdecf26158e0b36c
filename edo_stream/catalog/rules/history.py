"""History: a schema that others have seen does not change; what changes is a new version."""

from collections.abc import Mapping

from edo_stream.catalog.case import Case
from edo_stream.catalog.folder import folder_of


def find_changed_schemas(case: Case, before: Mapping[str, bytes], ref: str) -> None:
    """Compare the schema files of a topic with what they were at a commit."""
    now = {file.name: file.content for file in case.folder.schemas}
    newest = max((file.version for file in case.folder.schemas), default=0)
    for old in folder_of(before).schemas:
        new = now.get(old.name)
        if new is None:
            case.find_in(
                old.name, f"is in {ref} and missing here: a version that was published stays"
            )
        elif _lines(new) != _lines(old.content):
            following = max(newest, old.version) + 1
            suffix = old.name.partition(".")[2]
            case.find_in(
                old.name,
                f"differs from {ref}: a version that was published does not change; bring it back "
                f"(git checkout {ref} -- …/{old.name}) and write v{following}.{suffix}",
            )


def _lines(content: bytes) -> bytes:
    """Content as git keeps it, whatever the line ends of this machine."""
    return content.replace(b"\r\n", b"\n")
