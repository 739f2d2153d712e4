"""The page of the alerts: the chart's rule file in, a table and the file itself out."""

from collections.abc import Iterator

import yaml

from writers.chart import CHART
from writers.tables import Words, table

RULES = CHART / "files" / "alerts.yaml"
INTRODUCTION = """\
`metrics.prometheusRule.enabled` of the [chart](chart-values.md) creates a PrometheusRule with these alerts.
They use the [metrics](metrics.md) that `metrics.serviceMonitor` and `metrics.podMonitor` make Prometheus
scrape. Without the Prometheus operator, load `charts/postroom/files/alerts.yaml` by `rule_files`.
"""
CHANGES = """\
## Change an alert

```yaml
# postroom.yaml
metrics:
  labels: {release: prometheus}
  serviceMonitor: {enabled: true}
  podMonitor: {enabled: true}
  prometheusRule:
    enabled: true
    alertLabels: {team: platform}
    alerts:
      PostroomDeliverySlow: {for: 1h, labels: {severity: critical}}
      PostroomBounceServerNotReady: {enabled: false}
```

Fields that are not named here keep their values. `PostroomOperatorAbsent` fires if no operator holds its
Lease. With several releases in a cluster, select each by its namespace:

```yaml
# postroom.yaml
metrics:
  prometheusRule:
    enabled: true
    alerts:
      PostroomOperatorAbsent: {expr: 'absent(postroom_operator_leader{namespace="postroom-system"} == 1)'}
```

Without the chart's PodMonitor, make sure that your metrics have the labels `namespace` and `pod`.
"""


def alerts(_: Words) -> str:
    """Every alert, how to change one, and the rule file."""
    return "\n".join(
        [
            "# Alerts\n",
            INTRODUCTION,
            table(("Alert", "Severity", "After", "Meaning and remedy"), _rows()),
            CHANGES,
            "## The rule file\n",
            f"```yaml\n{RULES.read_text()}```",
        ]
    )


def _rows() -> Iterator[tuple[str, ...]]:
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            severity, text = rule["labels"]["severity"], rule["annotations"]["description"]
            yield f"`{rule['alert']}`", severity, rule.get("for", "at once"), text
