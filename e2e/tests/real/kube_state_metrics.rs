//! The example for kube-state-metrics reads fields that the CRDs have and that the operator writes.
//! kube-state-metrics itself was run by hand only (docs/monitoring.md).

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::Value;

use e2e::{CRDS, Operator, TestNamespace, message, permissions, read, role_rules, sender, shared, with_spec};

const FOLDER: &str = "manifests/integrations/kube-state-metrics";

/// Returns the part of the example for each kind.
fn resources() -> Vec<Value> {
    let config: Value = serde_saphyr::from_str(&read(&format!("{FOLDER}/config.yaml"))).expect("YAML");
    config["spec"]["resources"].as_array().expect("a list").clone()
}

/// Returns the path of a metric's value.
fn path(kind: &str, metric: &str) -> Vec<String> {
    let resources = resources();
    let resource = resources.iter().find(|it| it["groupVersionKind"]["kind"] == kind).expect("the kind");
    let metrics = resource["metrics"].as_array().expect("a list");
    let metric = metrics.iter().find(|it| it["name"] == metric).expect("the metric");
    Deserialize::deserialize(&metric["each"]["gauge"]["path"]).expect("a path")
}

/// Returns all paths in a part of the example: the lists below `path` and `labelsFromPath`.
fn paths(part: &Value) -> Vec<Vec<String>> {
    match part {
        Value::Array(parts) => parts.iter().flat_map(paths).collect(),
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(key, field)| match key.as_str() {
                "path" => vec![Deserialize::deserialize(field).expect("a path")],
                "labelsFromPath" => {
                    let labels = field.as_object().expect("labels").values();
                    labels.map(|label| Deserialize::deserialize(label).expect("a path")).collect()
                }
                _ => paths(field),
            })
            .collect(),
        _ => vec![],
    }
}

/// Splits a step such as `[type=Ready]` into its key and value.
fn lookup(step: &str) -> Option<(&str, &str)> {
    step.strip_prefix('[')?.strip_suffix(']')?.split_once('=')
}

/// Returns what kube-state-metrics finds at a path, or null.
fn find<'a>(object: &'a Value, path: &[String]) -> &'a Value {
    path.iter().fold(object, |at, step| match lookup(step) {
        None => &at[step],
        Some((key, value)) => {
            at.as_array().and_then(|all| all.iter().find(|it| it[key] == value)).unwrap_or(&Value::Null)
        }
    })
}

#[test]
fn crds_have_all_fields() {
    let resources = resources();
    assert_eq!(resources.len(), CRDS.len());
    for (resource, crd) in resources.iter().zip(CRDS) {
        let crd: Value = serde_saphyr::from_str(&read(crd)).expect("YAML");
        let (version, of) = (&crd["spec"]["versions"][0], &resource["groupVersionKind"]);
        assert_eq!([&of["group"], &of["version"]], [&crd["spec"]["group"], &version["name"]]);
        assert_eq!(of["kind"], crd["spec"]["names"]["kind"]);
        let paths = paths(resource);
        assert!(paths.len() > 4, "{paths:?}");
        for path in paths {
            let metadata = ["name", "namespace"].map(|field| vec!["metadata".to_owned(), field.to_owned()]);
            let known = metadata.contains(&path)
                || path
                    .iter()
                    .try_fold(&version["schema"]["openAPIV3Schema"], |schema, step| {
                        let (schema, field) = match lookup(step) {
                            None => (&schema["properties"][step], None),
                            Some((key, _)) => (&schema["items"], Some(key)),
                        };
                        let is_known =
                            schema.is_object() && field.is_none_or(|it| schema["properties"][it].is_object());
                        is_known.then_some(schema)
                    })
                    .is_some();
            assert!(known, "{}: {path:?}", of["kind"]);
        }
    }
}

/// A message that waits or was given up has one series, and others have none.
#[test]
fn operator_writes_these_fields() {
    let namespace = TestNamespace::new("state-metrics");
    let [since, given_up] = ["waiting_since_timestamp_seconds", "given_up"].map(|metric| path("FedoraMessage", metric));
    let [ready, expiration] =
        ["ready", "certificate_expiration_timestamp_seconds"].map(|metric| path("FedoraMessageSender", metric));
    let assert_series = |name: &str, expected: [bool; 2]| {
        let stored = namespace.get(name);
        assert_eq!([&since, &given_up].map(|path| !find(&stored, path).is_null()), expected, "{stored:#}");
    };
    namespace.apply(&message("new", "state.metrics", ""));
    assert_series("new", [false, false]);
    namespace.apply(&sender("default", ""));

    let _operator = Operator::start(&namespace, &[]);
    namespace.apply(&with_spec(&message("late", "state.metrics", ""), "activeDeadlineSeconds: 1"));
    namespace.wait_for_reason("new", "SecretNotFound");
    assert_series("new", [true, false]);
    namespace.wait_for_reason("late", "DeadlineExceeded");
    assert_series("late", [false, true]);
    namespace.wait_for_sender("default", "False", "SecretNotFound");
    assert_eq!(find(&namespace.get_sender("default"), &ready), "False");

    namespace.store_certificate(&shared().broker, "publisher");
    namespace.wait_for_reason("new", "Sent");
    assert_series("new", [false, false]);
    namespace.wait_for_sender("default", "True", "LoggedIn");
    let sender = namespace.get_sender("default");
    assert_eq!(find(&sender, &ready), "True");
    assert!(find(&sender, &expiration).is_string(), "{sender:#}");
}

#[test]
fn api_server_accepts_permissions() {
    let file = format!("{FOLDER}/rbac.yaml");
    let namespace = TestNamespace::new("state-metrics-rbac");
    let arguments = ["create", "--dry-run=server", "--validate=strict", "-f", "-"];
    namespace.try_kubectl(&arguments, &read(&file)).expect("it is accepted");
    let readable: BTreeSet<_> = permissions(&role_rules(&file)).into_iter().collect();
    for resource in ["fedoramessages", "fedoramessagesenders", "customresourcedefinitions"] {
        for verb in ["list", "watch"] {
            assert!(readable.contains(&(resource.to_owned(), verb.to_owned())), "{verb} {resource}");
        }
    }
}

/// The page names each metric.
#[test]
fn page_lists_metrics() {
    let page = read("docs/monitoring.md");
    for resource in resources() {
        for metric in resource["metrics"].as_array().expect("a list") {
            let name =
                [&resource["metricNamePrefix"], &metric["name"]].map(|it| it.as_str().expect("a name")).join("_");
            assert!(page.contains(&format!("| `{name}` |")), "{name}");
        }
    }
}
