"""The rules for Prometheus: well formed, over metrics that exist, and the file is up to date."""

import re
from pathlib import Path

import pytest
import yaml

from edo_stream.observe.alerts import ALERTS, Alert, alerts_file
from edo_stream.observe.metrics import DECLARED

DEPLOY = Path(__file__).parents[2] / "deploy"
DURATION = re.compile(r"(\d+(ms|[smhdwy]))+")
FUNCTIONS = {"max", "sum", "rate", "histogram_quantile", "absent", "by", "on", "or", "unless"}
LABELS = {declared.name: {*declared.labels} for declared in DECLARED}


def names_in(expression: str) -> set[str]:
    """Words of an expression that are neither numbers, durations nor PromQL's own."""
    bare = re.sub(r'\[\w+\]|"[^"]*"', "", expression)
    return set(re.findall(r"[a-zA-Z_]\w*", bare)) - FUNCTIONS


def declared_of(word: str) -> str | None:
    name = word.removesuffix("_bucket")
    return name if name in LABELS else None


def test_the_file_is_what_the_rules_say_and_prometheus_reads_it() -> None:
    text = (DEPLOY / "alerts.yml").read_text(encoding="utf-8")
    assert alerts_file() == text
    prometheus = yaml.safe_load((DEPLOY / "prometheus.yml").read_text(encoding="utf-8"))
    assert ["alerts.yml"] == prometheus["rule_files"]
    compose = yaml.safe_load((DEPLOY.parent / "docker-compose.yml").read_text(encoding="utf-8"))
    mounted = compose["services"]["prometheus"]["volumes"]
    assert "./deploy/alerts.yml:/etc/prometheus/alerts.yml:ro" in mounted


def test_the_file_has_the_form_of_rules_for_prometheus() -> None:
    document = yaml.safe_load(alerts_file())
    (group,) = document["groups"]
    assert {"groups"} == set(document)
    assert {"name", "rules"} == set(group)
    keys = {"alert", "expr", "for", "labels", "annotations"}
    for rule in group["rules"]:
        assert keys == set(rule)
        assert DURATION.fullmatch(rule["for"])
        assert re.fullmatch(r"[A-Z][A-Za-z]+", rule["alert"])
        assert {"summary", "description"} == set(rule["annotations"])
    names = [rule["alert"] for rule in group["rules"]]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_an_expression_is_closed_and_of_metrics_and_labels_that_exist(alert: Alert) -> None:
    expression = alert.expression
    for opening, closing in ("()", "[]", "{}"):
        assert expression.count(opening) == expression.count(closing)
    words = names_in(expression)
    metrics = {name for word in words if (name := declared_of(word))}
    assert metrics, "no metric of ours"
    known = {"le", *(label for metric in metrics for label in LABELS[metric])}
    unknown = {word for word in words if declared_of(word) is None} - known
    assert set() == unknown
    if "histogram_quantile" in expression:
        kinds = {declared.kind for declared in DECLARED if declared.name in metrics}
        assert {"histogram"} == kinds


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_a_summary_names_only_labels_that_its_expression_keeps(alert: Alert) -> None:
    kept = {
        label
        for labels in re.findall(r"by \(([^)]*)\)", alert.expression)
        for label in labels.replace(" ", "").split(",")
    }
    used = set(re.findall(r"\$labels\.(\w+)", alert.summary))
    assert used <= kept, "a label that is aggregated away is empty"
    assert alert.severity in {"page", "ticket"}
