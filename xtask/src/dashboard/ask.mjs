// Asks a Prometheus for all that a dashboard shows, as Grafana would, and prints the dashboard with the answers, as
// JSON.
//
// Owns how Grafana fills a query in (variables, intervals) and which question it becomes. Called as
// `node ask.mjs DASHBOARD URL SECONDS`: the last so many seconds, scraped each second.
import { readFileSync } from "node:fs";

const [file, url, seconds] = process.argv.slice(2);
const dashboard = JSON.parse(readFileSync(file, "utf8"));
const to = Math.floor(Date.now() / 1000);
const from = to - Number(seconds);

async function ask(path, parameters) {
  const response = await fetch(`${url}/api/v1/${path}?${new URLSearchParams(parameters)}`);
  const answer = await response.json();
  if (answer.status !== "success") throw new Error(`${JSON.stringify(parameters)}: ${answer.error}`);
  return answer.data;
}

// A second is both the interval between points and the one between scrapes; Grafana's $__rate_interval is four scrapes.
const filled = { __rate_interval: "4s", __interval: "1s" };
const fill = (text) => text.replace(/\$(\w+)/g, (_, name) => filled[name]);

for (const variable of dashboard.templating.list.filter(({ type }) => type === "query")) {
  const [, series, label] = variable.query.query.match(/^label_values\((.*), (\w+)\)$/);
  const values = await ask(`label/${label}/values`, { "match[]": fill(series), start: from, end: to });
  filled[variable.name] = variable.includeAll ? `(${values.join("|")})` : variable.current.value;
}

const range = (expr) => ask("query_range", { query: fill(expr), start: from, end: to, step: 1 });
const now = (expr) => ask("query", { query: fill(expr), time: to });
for (const { targets } of dashboard.panels) {
  for (const target of targets ?? []) {
    target.answer = (await (target.instant ? now : range)(target.expr)).result;
  }
}
for (const annotation of dashboard.annotations.list) {
  annotation.answer = (await range(annotation.target.expr)).result;
}
console.log(JSON.stringify({ from, to, dashboard }));
