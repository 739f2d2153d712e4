"""The page of the alerts: the chart's rule file in, a table and the file itself out."""

from collections.abc import Iterator

import yaml

from writers.chart import CHART
from writers.tables import Words, table

RULES = CHART / "files" / "alerts.yaml"
INTRODUCTION = """\
`metrics.prometheusRule.enabled` of the [chart](chart-values.md) makes a PrometheusRule of them. They look at
figures that `metrics.serviceMonitor` and `metrics.podMonitor` have Prometheus ask for ([](metrics.md)).
Without the Prometheus operator the file `charts/postroom/files/alerts.yaml` is one for `rule_files` as it is.
"""
CHANGES = """\
## Change them

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
      PostroomLate: {for: 1h, labels: {severity: critical}}
      PostroomBouncesNotTaken: {enabled: false}
```

An alert keeps what is not named here. `PostroomNoOperator` asks whether any operator leads: with several
releases in a cluster, ask for each, by the namespace that it runs in:

```yaml
# postroom.yaml
metrics:
  prometheusRule:
    enabled: true
    alerts:
      PostroomNoOperator: {expr: 'absent(postroom_operator_leader{namespace="postroom-system"} == 1)'}
```

Where you have no PodMonitor of ours, see that the labels of your figures are `namespace` and `pod`.
"""


def alerts(_: Words) -> str:
    """What each alert says, how to have it otherwise, and the rule file."""
    return "\n".join(
        [
            "# Alerts\n",
            INTRODUCTION,
            table(("Alert", "Severity", "After", "What it says, and what to do"), _rows()),
            CHANGES,
            "## The rule file\n",
            f"```yaml\n{RULES.read_text()}```",
        ]
    )


def _rows() -> Iterator[tuple[str, ...]]:
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            severity, said = rule["labels"]["severity"], rule["annotations"]["description"]
            yield f"`{rule['alert']}`", severity, rule.get("for", "at once"), said
