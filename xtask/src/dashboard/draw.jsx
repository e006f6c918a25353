// Draws a dashboard and the answers to its queries with Grafana's own components.
//
// Owns the page: which component draws which kind of panel, and where. How a panel looks is the dashboard's and
// Grafana's. `asked` is what ask.mjs printed, ROW the height of a row: esbuild puts both in their places.
import "@fontsource/inter/latin-400.css";
import "@fontsource/inter/latin-500.css";
import {
  FieldConfigOptionsRegistry, FieldType, ThemeContext, VizOrientation, applyFieldOverrides, createTheme, dateTime,
  getDisplayValueAlignmentFactors, getFieldDisplayValues, identityOverrideProcessor, standardTransformers,
} from "@grafana/data";
import { BigValue, GlobalStyles, PanelChrome, TimeSeries, VizRepeater } from "@grafana/ui";
import { TableNG } from "@grafana/ui/unstable";
import { useLayoutEffect } from "react";
import { createRoot } from "react-dom/client";
import { of } from "rxjs";
import { from, to, dashboard } from "asked";

const COLUMN = innerWidth / 24;
const GAP = 8;

const theme = createTheme({ colors: { mode: "dark" } });
const timeZone = "utc";
const timeRange = { from: dateTime(from * 1000), to: dateTime(to * 1000), raw: { from: "now", to: "now" } };
const asIs = (text) => text;
const common = { replaceVariables: asIs, theme, timeZone };

// What this dashboard sets of a field, each taken as it is.
const settings = new FieldConfigOptionsRegistry(() =>
  ["unit", "color", "thresholds", "min", "max", "noValue", "custom"].map((path) => ({
    id: path, path, name: path, process: identityOverrideProcessor, shouldApply: () => true,
  })),
);

const time = (values) => ({ name: "Time", type: FieldType.time, config: {}, values });

// A frame for each series, as Grafana's data source for Prometheus makes them: a point for each second, null where
// there is none.
function series({ answer, legendFormat, refId }) {
  return answer.map(({ metric, values, value: only }) => {
    const points = new Map((values ?? [only]).map(([at, number]) => [at, Number(number)]));
    const times = only ? [only[0]] : Array.from({ length: to - from + 1 }, (_, second) => from + second);
    const displayNameFromDS = legendFormat.replace(/{{(\w+)}}/g, (_, label) => metric[label] ?? "");
    const value = { name: "Value", type: FieldType.number, labels: metric, config: { displayNameFromDS } };
    const numbers = times.map((at) => points.get(at) ?? null);
    return { refId, length: times.length, fields: [time(times.map((at) => at * 1000)), { ...value, values: numbers }] };
  });
}

// One frame with a row for each series and a column for each label.
function table({ answer, refId }) {
  const labels = [...new Set(answer.flatMap(({ metric }) => Object.keys(metric)))].sort();
  const texts = labels.map((name) => {
    const values = answer.map(({ metric }) => metric[name] ?? "");
    return { name, type: FieldType.string, config: {}, values };
  });
  const numbers = answer.map(({ value }) => Number(value[1]));
  const value = { name: "Value", type: FieldType.number, config: {}, values: numbers };
  const times = answer.map(({ value }) => value[0] * 1000);
  return [{ refId, length: answer.length, fields: [time(times), ...texts, value] }];
}

function frames({ type, targets, fieldConfig, transformations = [] }) {
  const { defaults } = fieldConfig;
  if (type === "timeseries") defaults.color ??= { mode: "palette-classic" };
  // JSON has no infinity; Grafana reads null as one.
  if (defaults.thresholds) defaults.thresholds.steps[0].value = -Infinity;
  let data = targets.flatMap((target) => (target.format === "table" ? table : series)(target));
  for (const { id, options } of transformations) {
    const transformer = Object.values(standardTransformers).find((known) => known.id === id);
    of(data).pipe(transformer.operator(options, { interpolate: asIs })).subscribe((made) => (data = made));
  }
  return applyFieldOverrides({ ...common, data, fieldConfig, fieldConfigRegistry: settings });
}

// Dashed lines where an annotation begins; the component for them is not part of Grafana's library.
function Annotations({ config }) {
  useLayoutEffect(() => {
    config.addHook("draw", (plot) => {
      for (const { iconColor, answer } of dashboard.annotations.list) {
        const times = answer.map(({ values }) => values.map(([at]) => at));
        const starts = times.flatMap((all) => all.filter((at, i) => at !== all[i - 1] + 1));
        for (const x of starts.map((at) => plot.valToPos(at * 1000, "x", true))) {
          const { top, height } = plot.bbox;
          plot.ctx.save();
          plot.ctx.setLineDash([5, 5]);
          plot.ctx.strokeStyle = theme.visualization.getColorByName(iconColor);
          plot.ctx.strokeRect(x, top, 0, height);
          plot.ctx.restore();
        }
      }
    });
  }, [config]);
}

const KINDS = {
  timeseries: ({ data, options, width, height }) => (
    <TimeSeries frames={data} {...{ timeRange, timeZone, width, height }} legend={options.legend}>
      {(config) => <Annotations config={config} />}
    </TimeSeries>
  ),
  stat: ({ data, options, fieldConfig, width, height }) => (
    <VizRepeater
      {...{ width, height }} source={data} renderCounter={0} itemSpacing={3} orientation={VizOrientation.Auto}
      getValues={() => getFieldDisplayValues({ ...common, data, fieldConfig, reduceOptions: options.reduceOptions })}
      getAlignmentFactors={getDisplayValueAlignmentFactors}
      renderValue={({ value, alignmentFactors, count, width, height }) => (
        <BigValue {...{ ...options, theme, alignmentFactors, count, width, height }} value={value.display} />
      )}
    />
  ),
  table: ({ data, options, width, height }) => (
    <TableNG data={data[0]} noHeader={!options.showHeader} cellHeight={options.cellHeight} {...{ width, height }} />
  ),
};

function Panel({ panel }) {
  const { x, y, w, h } = panel.gridPos;
  const width = w * COLUMN - GAP;
  const height = h * ROW - GAP;
  const place = { position: "absolute", left: x * COLUMN + GAP / 2, top: y * ROW + GAP / 2, width, height };
  if (panel.type === "row") return <h6 style={{ ...place, padding: "4px 8px" }}>{panel.title}</h6>;
  const Kind = KINDS[panel.type];
  const data = frames(panel);
  return (
    <div style={place}>
      <PanelChrome title={panel.title} {...{ width, height }} padding={panel.type === "table" ? "none" : "md"}>
        {(width, height) => <Kind {...panel} {...{ data, width, height }} />}
      </PanelChrome>
    </div>
  );
}

// Text in graphs is drawn once, with the fonts there are by then.
Promise.all(["400", "500"].map((weight) => document.fonts.load(`${weight} 12px Inter`))).then(() => {
  const root = document.body.appendChild(document.createElement("div"));
  createRoot(root).render(
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      {dashboard.panels.map((panel) => <Panel key={panel.id} panel={panel} />)}
    </ThemeContext.Provider>,
  );
});
