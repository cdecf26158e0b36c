"""The examples of the guide: files by path, as its code blocks name them."""

import re
from pathlib import Path

GUIDE = (Path(__file__).parents[2] / "docs" / "sagas.md").read_text()
_BLOCK = re.compile(r"```(?:yaml|python)\n# (\S+)\n(.*?)```", re.DOTALL)
TOPICS = (
    "shop.order.placed",
    "shop.stock.reserved",
    "shop.stock.released",
    "shop.payment.taken",
    "shop.payment.refused",
)


def files() -> dict[str, str]:
    """The files of the examples, with a contract for each topic of theirs."""
    found = dict(_BLOCK.findall(GUIDE))
    contract = found.pop(f"topics/{TOPICS[0]}/contract.yaml")
    return found | {
        f"topics/{topic}/contract.yaml": contract.replace(TOPICS[0], topic) for topic in TOPICS
    }


def write(root: Path, domain: str = "shop") -> None:
    """Write them below a folder, with topics of a domain of their own."""
    for name, text in files().items():
        path = root / name.replace("shop.", f"{domain}.")
        path.parent.mkdir(parents=True, exist_ok=True)
        own = text.replace("shop.", f"{domain}.").replace("group: shop\n", f"group: {domain}\n")
        path.write_text(own)
