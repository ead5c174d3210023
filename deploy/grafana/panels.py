"""How the panels of the dashboards look: one function per kind, so that all three dashboards read alike."""

from __future__ import annotations

from dataclasses import dataclass
from string import ascii_uppercase
from typing import Final

from grafana_foundation_sdk.builders import bargauge, common, dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import common as c
from grafana_foundation_sdk.models import dashboard as d
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE: Final = d.DataSourceRef(type_val="prometheus", uid="${datasource}")

BLUE, ORANGE, GREEN, RED, GREY = "blue", "orange", "green", "red", "#808080"
COLOURS: Final = {"easy": BLUE, "hard": ORANGE, "effective": GREEN, "undetermined": GREY}
"""The same kind has the same colour everywhere."""

Limits = tuple[tuple[float, str], ...]
"""From which value on which colour; below the first it is green."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One query of a panel and its legend."""

    expr: str
    legend: str


def _targets(shown: tuple[Shown, ...], *, now: bool, form: PromQueryFormat) -> list[Builder[Dataquery]]:
    return [_target(each, letter, now=now, form=form) for each, letter in zip(shown, ascii_uppercase, strict=False)]


def _target(shown: Shown, letter: str, *, now: bool, form: PromQueryFormat) -> prometheus.Dataquery:
    query = prometheus.Dataquery().expr(shown.expr).legend_format(shown.legend).ref_id(letter).datasource(SOURCE)
    return (query.instant() if now else query.range()).format(form)


def limits(steps: Limits, below: str = GREEN) -> dashboard.ThresholdsConfig:
    """Colours by value."""
    first = d.Threshold(value=None, color=below)
    return (
        dashboard.ThresholdsConfig()
        .mode(d.ThresholdsMode.ABSOLUTE)
        .steps([first, *(d.Threshold(value=value, color=colour) for value, colour in steps)])
    )


def lines(
    title: str,
    description: str,
    unit: str,
    *shown: Shown,
    span: int = 12,
    most: float | None = None,
    stacked: bool = False,
    marks: Limits = (),
) -> timeseries.Panel:
    """Curves over time from 0 up. `marks` draws lines at fixed values; targets, bounds and limits are dashed."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .min(0)
        .span(span)
        .height(8)
        .line_width(2)
        .fill_opacity(30 if stacked else 0)
        .show_points(c.VisibilityMode.AUTO)
        .tooltip(common.VizTooltipOptions().mode(c.TooltipDisplayMode.MULTI).sort(c.SortOrder.DESCENDING))
        .legend(
            common.VizLegendOptions()
            .show_legend(True)
            .display_mode(c.LegendDisplayMode.LIST)
            .placement(c.LegendPlacement.BOTTOM)
            .calcs(["lastNotNull"])
        )
        .targets(_targets(shown, now=False, form=PromQueryFormat.TIME_SERIES))
    )
    for kind, colour in COLOURS.items():
        # Legends of kinds, not of runs that are named so.
        legend = f"/^(target |p_|skipped )?{kind}(,.*)?$/"
        panel.override_by_regexp(legend, [d.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": colour})])
    dashes = {"fill": "dash", "dash": [8, 8]}
    panel.override_by_regexp(
        "/^(target|bound|limit|wanted)( .*)?$/",
        [
            d.DynamicConfigValue("custom.lineStyle", dashes),
            d.DynamicConfigValue("custom.lineWidth", 1),
            d.DynamicConfigValue("custom.fillOpacity", 0),
            d.DynamicConfigValue("custom.stacking", {"mode": "none"}),
        ],
    )
    if most is not None:
        panel.max(most)
    if stacked:
        panel.stacking(common.StackingConfig().mode(c.StackingMode.NORMAL))
    if marks:
        panel.thresholds(limits(marks, "transparent"))
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(c.GraphThresholdsStyleMode.DASHED))
    return panel


def _reduced() -> common.ReduceDataOptions:
    return common.ReduceDataOptions().calcs(["lastNotNull"]).values(False)


def number(
    title: str,
    description: str,
    unit: str,
    shown: Shown,
    *,
    span: int = 4,
    steps: Limits = (),
    below: str = GREEN,
    words: dict[str, str] | None = None,
    decimals: int | None = None,
) -> stat.Panel:
    """One figure, as of now. `words` says what a value means instead of showing it."""
    panel = (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .span(span)
        .height(4)
        .graph_mode(c.BigValueGraphMode.NONE)
        .color_mode(c.BigValueColorMode.VALUE)
        .no_value("no data")
        .thresholds(limits(steps, below if steps else "text"))
        .reduce_options(_reduced())
        .targets(_targets((shown,), now=True, form=PromQueryFormat.TIME_SERIES))
    )
    if words:
        options = {value: d.ValueMappingResult(text=text) for value, text in words.items()}
        panel.mappings([d.ValueMap(options=options)])
    if decimals is not None:
        panel.decimals(decimals)
    return panel


def bars(
    title: str,
    description: str,
    unit: str,
    *shown: Shown,
    span: int = 12,
    most: float | None = None,
    steps: Limits = (),
    below: str = BLUE,
) -> bargauge.Panel:
    """One bar per series, as of now, in the order of the queries."""
    panel = (
        bargauge.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .min(0)
        .span(span)
        .height(8)
        .orientation(c.VizOrientation.HORIZONTAL)
        .display_mode(c.BarGaugeDisplayMode.BASIC)
        .show_unfilled(True)
        .no_value("no data")
        .thresholds(limits(steps, below))
        .reduce_options(_reduced())
        .targets(_targets(shown, now=True, form=PromQueryFormat.TIME_SERIES))
    )
    if most is not None:
        panel.max(most)
    return panel


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table by run: what it shows, in which unit and colours. No title: only its labels are shown."""

    expr: str
    title: str
    unit: str = "short"
    steps: Limits = ()
    below: str = "text"


def by_run(title: str, description: str, *columns: Column, span: int = 24, height: int = 12) -> table.Panel:
    """A table with a row per run; a click on a run opens its dashboard."""
    shown = tuple(Shown(column.expr, "") for column in columns)
    names = {f"Value #{letter}": column.title for letter, column in zip(ascii_uppercase, columns, strict=False)}
    order = {"run": 0, "policy": 1, **{name: place for place, name in enumerate(names, 2)}}
    hidden = {"Time": True, **{name: True for name, title in names.items() if not title}}
    panel = (
        table.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .span(span)
        .height(height)
        .align(c.FieldTextAlignment.AUTO)
        .inspect(False)
        .no_value("no data")
        .targets(_targets(shown, now=True, form=PromQueryFormat.TABLE))
        .with_transformation(d.DataTransformerConfig(id_val="merge", options={}))
        .with_transformation(
            d.DataTransformerConfig(
                id_val="organize",
                options={"excludeByName": hidden, "indexByName": order, "renameByName": names},
            )
        )
    )
    for column in filter(lambda column: column.title, columns):
        properties = [d.DynamicConfigValue("unit", column.unit)]
        if column.steps:
            properties.append(d.DynamicConfigValue("thresholds", limits(column.steps, column.below).build()))
            properties.append(d.DynamicConfigValue("custom.cellOptions", {"type": "color-text"}))
        panel.override_by_name(column.title, properties)
    link = {"title": "Open this run", "url": "/d/greso-run/?var-run=${__value.raw}&${__url_time_range}"}
    panel.override_by_name("run", [d.DynamicConfigValue("links", [link])])
    return panel
