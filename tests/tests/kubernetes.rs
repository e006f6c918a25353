//! The chart for Kubernetes, and the manifests that it renders to.
//!
//! Owns that both agree, that Kubernetes accepts them, and that they run `serve` as the shipped unit does. The chart is rendered by a library
//! for Go's templates, with those of Helm's functions that it uses.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use gtmpl::{Context, FuncError, Template, Value};
use icmp_tests::can_run;
use icmp_tests::ctl;
use icmp_tests::folder::Folder;
use icmp_tests::process;
use serde_json::{Value as Json, json};

/// What is added to the values, and what the manifests are written for.
const RENDERED: &str = "deploy/kubernetes/icmp-ctl.yaml";
const CHART: &str = "deploy/kubernetes/chart";

fn workspace(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(workspace(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn values() -> Json {
    serde_yaml_ng::from_str(&read(&format!("{CHART}/values.yaml"))).expect("values in YAML")
}

fn as_value(json: &Json) -> Value {
    match json {
        Json::Null => Value::Nil,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => number.as_i64().map_or(Value::Nil, Value::from),
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => Value::Array(items.iter().map(as_value).collect()),
        Json::Object(fields) => {
            Value::Map(fields.iter().map(|(name, value)| (name.clone(), as_value(value))).collect())
        }
    }
}

/// Back, with the fields in their order by name, as Helm writes them.
fn as_json(value: &Value) -> Json {
    match value {
        Value::Bool(value) => json!(value),
        Value::Number(number) => json!(number.as_i64()),
        Value::String(text) => json!(text),
        Value::Array(items) => items.iter().map(as_json).collect(),
        Value::Object(fields) | Value::Map(fields) => {
            let fields: BTreeMap<_, _> = fields.iter().collect();
            Json::Object(fields.into_iter().map(|(name, value)| (name.clone(), as_json(value))).collect())
        }
        _ => Json::Null,
    }
}

fn text(value: &Value) -> String {
    as_json(value).as_str().map_or_else(|| as_json(value).to_string(), str::to_owned)
}

/// Helm's functions; what a pipe hands over is the last argument.
fn quote(arguments: &[Value]) -> Result<Value, FuncError> {
    Ok(Value::from(format!("{:?}", text(&arguments[0]))))
}

fn to_yaml(arguments: &[Value]) -> Result<Value, FuncError> {
    let yaml = serde_yaml_ng::to_string(&as_json(&arguments[0])).expect("YAML");
    Ok(Value::from(yaml.trim_end()))
}

fn indent(arguments: &[Value]) -> Result<Value, FuncError> {
    let [Value::Number(width), value] = arguments else { panic!("{arguments:?}") };
    let indent = " ".repeat(width.as_u64().expect("a width") as usize);
    let lines: Vec<_> = text(value).trim_end().lines().map(|line| format!("{indent}{line}")).collect();
    Ok(Value::from(lines.join("\n")))
}

fn default(arguments: &[Value]) -> Result<Value, FuncError> {
    let [otherwise, value] = arguments else { panic!("{arguments:?}") };
    Ok(if text(value).is_empty() { otherwise.clone() } else { value.clone() })
}

/// The manifests for these values.
fn rendered(values: &Json) -> String {
    let chart: Json = serde_yaml_ng::from_str(&read(&format!("{CHART}/Chart.yaml"))).expect("a chart");
    let data = json!({ "Values": values, "Release": { "Namespace": "icmp-ctl" }, "Chart": { "AppVersion": chart["appVersion"] } });
    let mut all = String::new();
    for name in ["configmap", "daemonset", "servicemonitor"] {
        let mut template = Template::default();
        template.add_func("quote", quote);
        template.add_func("toYaml", to_yaml);
        template.add_func("indent", indent);
        template.add_func("default", default);
        let source = read(&format!("{CHART}/templates/{name}.yaml"));
        template.parse(&source).unwrap_or_else(|e| panic!("{name}: {e}"));
        let part = template.render(&Context::from(as_value(&data))).unwrap_or_else(|e| panic!("{name}: {e}"));
        all += part.trim_start_matches('\n');
        if !all.is_empty() && !all.ends_with('\n') {
            all.push('\n');
        }
    }
    all
}

fn documents(yaml: &str) -> Vec<Json> {
    use serde::Deserialize as _;
    serde_yaml_ng::Deserializer::from_str(yaml)
        .map(|document| Json::deserialize(document).expect("YAML"))
        .filter(|document| !document.is_null())
        .collect()
}

/// A second pool on nodes with a label, and metrics for the operator.
fn with_everything() -> Json {
    let mut values = values();
    let affinity = json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": [
        { "matchExpressions": [{ "key": "edge", "operator": "Exists" }] }] } } });
    let pool = json!({ "name": "edge", "nodeSelector": { "edge": "true" }, "affinity": affinity, "config": "interfaces = [\"eth1\"]\n" });
    values["pools"].as_array_mut().expect("pools").push(pool);
    values["metrics"]["serviceMonitor"] = json!(true);
    values["imagePullSecrets"] = json!([{ "name": "pull" }]);
    values
}

#[test]
fn the_manifests_are_what_the_chart_renders_to() {
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: icmp-ctl\n  labels:\n    pod-security.kubernetes.io/enforce: privileged\n";
    let manifests = format!(
        "# What the chart beside this renders to as it is; a test holds it to that.\n{namespace}{}",
        rendered(&values())
    );
    if std::env::var_os("ICMP_TESTS_BLESS").is_some() {
        fs::write(workspace(RENDERED), &manifests).expect("it can be written");
    }
    assert_eq!(read(RENDERED), manifests, "ICMP_TESTS_BLESS=1 writes what is rendered");
}

#[test]
fn each_pool_has_its_nodes_and_a_configuration_that_serve_takes() {
    let folder = Folder::new();
    let documents = documents(&rendered(&with_everything()));
    let of_kind =
        |kind: &str| documents.iter().filter(move |document| document["kind"] == kind).collect::<Vec<_>>();
    let pools = of_kind("DaemonSet");
    let named: Vec<_> = pools.iter().map(|pool| pool["metadata"]["name"].clone()).collect();
    assert_eq!(named, ["icmp-ctl-default", "icmp-ctl-edge"]);
    let pod = &pools[1]["spec"]["template"]["spec"];
    assert_eq!(pod["nodeSelector"], json!({ "kubernetes.io/os": "linux", "edge": "true" }));
    assert_eq!(pod["volumes"][0]["configMap"]["name"], "icmp-ctl-edge");
    assert_eq!(of_kind("ServiceMonitor").len(), 1);
    for map in of_kind("ConfigMap") {
        let config =
            folder.file("config.toml", map["data"]["config.toml"].as_str().expect("a configuration"));
        let _valid = process::run(Command::new(ctl::program()).args(["apply", "--check", "-f", &config]))
            .expect_success();
    }
}

#[test]
fn a_pod_runs_serve_with_the_capabilities_of_the_unit_and_options_that_there_are() {
    let documents = documents(&rendered(&values()));
    let container = &documents.last().expect("a DaemonSet")["spec"]["template"]["spec"]["containers"][0];
    let given = container["securityContext"]["capabilities"]["add"].as_array().expect("a list");
    let given: Vec<_> = given.iter().map(|name| format!("CAP_{}", name.as_str().expect("a name"))).collect();
    let unit = read("deploy/systemd/icmp-ctl.service");
    assert!(unit.contains(&format!("CapabilityBoundingSet={}\n", given.join(" "))), "{given:?}");
    let arguments =
        container["args"].as_array().expect("a list").iter().map(|word| word.as_str().expect("a word"));
    let help = process::run(Command::new(ctl::program()).args(arguments.chain(["--help"])));
    assert_eq!(help.code, Some(0), "{help}");
}

#[test]
fn kubernetes_takes_the_manifests() {
    let validator = workspace("target/tools/python/bin/kubernetes-validate");
    if !can_run(&[validator.to_str().expect("a path in UTF-8")]) {
        return;
    }
    let folder = Folder::new();
    // The operator's own kind is in no schema of Kubernetes'.
    let all = documents(&rendered(&with_everything()))
        .into_iter()
        .filter(|document| document["kind"] != "ServiceMonitor");
    let all: Vec<_> = all.map(|document| serde_yaml_ng::to_string(&document).expect("YAML")).collect();
    assert_eq!(all.len(), 5);
    for manifests in [all.join("---\n"), read(RENDERED)] {
        let file = folder.file("manifests.yaml", &manifests);
        for version in ["1.25.0", "1.37.0"] {
            let arguments = ["-k", version, "--strict", "--no-warn", &file];
            let _valid = process::run(Command::new(&validator).args(arguments)).expect_success();
        }
    }
}
