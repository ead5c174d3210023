"""What the dashboards have in common: variables, links between them, annotations."""

from __future__ import annotations

from typing import Final

from deploy.grafana import queries as q
from deploy.grafana.panels import SOURCE
from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as d

DATASOURCE_UID: Final = "greso-prometheus"
"""As in provisioning/datasources/greso.yaml."""

TAG: Final = "greso"


def new(uid: str, title: str, description: str, *, since: str) -> dashboard.Dashboard:
    """An empty dashboard with the data source variable and links to the others."""
    link = (
        dashboard.DashboardLink("GRESO")
        .type(d.DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .include_vars(True)
        .keep_time(True)
    )
    source = (
        dashboard.DatasourceVariable("datasource")
        .label("Prometheus")
        .description("The Prometheus that scrapes the service.")
        .type("prometheus")
        .current(d.VariableOption(text="Prometheus", value=DATASOURCE_UID))
    )
    return (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([TAG])
        .time(since, "now")
        .refresh("30s")
        .tooltip(d.DashboardCursorSync.CROSSHAIR)
        .link(link)
        .with_variable(source)
    )


def run_variable(*, several: bool) -> dashboard.QueryVariable:
    """The runs that told of themselves within the time shown; one, or several and all."""
    variable = (
        _listed("run", "greso_run_info")
        .label("Run")
        .description("Runs that were written to in the time shown. At most 100 at a time have a name of their own.")
    )
    return variable.multi(True).include_all(True).current(ALL) if several else variable


def instance_variable() -> dashboard.QueryVariable:
    """The replicas of the service."""
    return (
        _listed("instance", "greso_build_info")
        .label("Instance")
        .description("Replicas of the service.")
        .multi(True)
        .include_all(True)
        .current(ALL)
    )


ALL: Final = d.VariableOption(selected=True, text="All", value="$__all")


def _listed(name: str, metric: str) -> dashboard.QueryVariable:
    query = f"label_values({metric}, {name})"
    return (
        dashboard.QueryVariable(name)
        .query({"query": query, "refId": "StandardVariableQuery", "qryType": 1})
        .datasource(SOURCE)
        .refresh(d.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(d.VariableSort.ALPHABETICAL_ASC)
    )


def window_variable() -> dashboard.IntervalVariable:
    """Over how long rates are taken: trainings take seconds or half an hour for a step."""
    return (
        dashboard.IntervalVariable("window")
        .label("Averaged over")
        .description("Over how long rates and shares are taken. Choose some steps' time, or the curves have gaps.")
        .values("1m,5m,15m,1h,6h,1d")
        .current(d.VariableOption(text="15m", value="15m"))
    )


class _Told(d.AnnotationQuery):
    """An annotation query with what Grafana's Prometheus data source reads beyond the kit's fields."""

    text: str = ""

    def to_json(self) -> dict[str, object]:
        query = {"refId": "Anno", "expr": self.expr, "interval": "", "datasource": SOURCE}
        return {
            **super().to_json(),
            "target": query,
            "titleFormat": self.name,
            "textFormat": self.text,
            "tagKeys": "run",
        }


class Annotation(Builder[d.AnnotationQuery]):
    """Marks the times at which a query is above 0."""

    def __init__(self, name: str, expr: str, text: str, colour: str) -> None:
        self._told = _Told(name=name, datasource=SOURCE, enable=True, icon_color=colour, expr=expr)
        self._told.text = text

    def build(self) -> d.AnnotationQuery:
        """The annotation."""
        return self._told


def mark_changes(board: dashboard.Dashboard, where: str) -> None:
    """Rewinds and changes of the spec, as marks on every panel over time."""
    rewinds, changes = (q.happened(name, where, q.FINE) for name in ("run_rewinds", "run_spec_changes"))
    board.annotation(
        Annotation("Rewind", rewinds, "{{run}} went back to an earlier step; its generation is one up.", "red")
    )
    board.annotation(Annotation("Spec changed", changes, "{{run}}: somebody changed a tunable (PATCH).", "purple"))
