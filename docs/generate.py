"""Write the generated parts of the documentation: ``make docs``."""

import json
from pathlib import Path

from edo_stream.catalog.contract_schema import contract_schema
from edo_stream.flows.typed_source import typed_source
from edo_stream.observe.alerts import alerts_file
from edo_stream.observe.metrics import metrics_table
from edo_stream.settings import settings_table


def main() -> None:
    """Put each table where the old one was, or at the end of its page."""
    for name, table in (("settings", settings_table()), ("metrics", metrics_table())):
        page = Path(__file__).parent / f"{name}.md"
        head = page.read_text().partition(table[: table.index("|", 2) + 1])[0]
        page.write_text(head + table)
    alerts = Path(__file__).parents[1] / "deploy" / "alerts.yml"
    alerts.write_text(alerts_file(), encoding="utf-8")
    typed = Path(__file__).parents[1] / "edo_stream" / "flows" / "typed.py"
    typed.write_text(typed_source(), encoding="utf-8")
    schema = json.dumps(contract_schema(), indent=2, ensure_ascii=False)
    (Path(__file__).parent / "contract.schema.json").write_text(schema + "\n")


main()
