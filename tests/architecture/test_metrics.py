"""Metrics, their table, the alerts, the runbook and the dashboards agree."""

import json
import re
from pathlib import Path

import yaml

from claude_conductor.telemetry import metrics

ROOT = Path(__file__).resolve().parents[2]
MONITORING = ROOT / "config/monitoring"
DOCUMENTED = re.compile(r"^\| `(\w+)` \| (\w+) \| ([^|]*) \| (.*) \|$", re.MULTILINE)
SUFFIXES = ("_bucket", "_sum", "_count")


def rules():
    return yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"][0]["rules"]


def used(expression):
    names = re.findall(r"\b((?:conductor|process|rpc_server)_[a-z_]+)", expression)
    return {next((name.removesuffix(end) for end in SUFFIXES if name.endswith(end)), name) for name in names}


def known():
    return {metric.name for metric in metrics.ALL} | {"process_resident_memory_bytes"}


def test_the_table_of_metrics_is_the_code():
    written = {
        (name, kind, tuple(re.findall(r"`(\w+)`", labels)), text)
        for name, kind, labels, text in DOCUMENTED.findall((ROOT / "docs/metrics.md").read_text())
    }

    assert written == {(each.name, each.kind, each.labels, each.help) for each in metrics.ALL}


def test_every_metric_of_an_alert_exists_and_every_label_it_asks_for():
    labels = {metric.name: {*metric.labels, "le"} for metric in metrics.ALL}
    for rule in rules():
        assert used(rule["expr"]) <= known(), rule["alert"]
        for name, asked in re.findall(r"(conductor_\w+)\{(\w+)", rule["expr"]):
            base = next((name.removesuffix(end) for end in SUFFIXES if name.endswith(end)), name)
            assert asked in labels[base], rule["alert"]


def test_every_alert_has_its_page_and_its_test_and_no_page_is_left_over():
    pages = re.findall(r"^## (\w+)$", (ROOT / "docs/runbook.md").read_text(), re.MULTILINE)
    tested = {
        case["alertname"]
        for test in yaml.safe_load((MONITORING / "alerts_test.yaml").read_text())["tests"]
        for case in test["alert_rule_test"]
        if case["exp_alerts"]
    }

    assert pages == [rule["alert"] for rule in rules()]
    assert tested == set(pages)


def test_every_metric_of_a_dashboard_exists_and_every_metric_is_on_one():
    shown = set()
    for path in (MONITORING / "grafana").glob("*.json"):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", []):
                assert used(target["expr"]) <= known(), panel["title"]
                shown |= used(target["expr"])

    assert known() - shown == {metrics.BUILD.name}
