//! Alerts, runbooks and dashboard: they use exported metrics only, and each alert has its page and
//! its tests. An API server with the CRDs of the Prometheus operator accepts the component.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use fedora_message::policy::outcome::Reason;
use regex::Regex;
use rig::{go_module, wait_until};
use serde_json::Value;
use strum::VariantArray;

use e2e::{SOON, TestNamespace, project, read, shared};

const RULES: &str = "manifests/components/monitoring/prometheus-rule.yaml";
const TEAM_RULES: &str = "manifests/components/team-alerts/prometheus-rule.yaml";
const DASHBOARD: &str = "manifests/components/monitoring/dashboard.json";
/// The Go module with the CRDs of the Prometheus operator, and its version.
const PROMETHEUS_OPERATOR: (&str, &str) = ("github.com/prometheus-operator/prometheus-operator", "v0.85.0");

#[test]
fn queries_use_exported_metrics() {
    let exported = exported();
    for (file, at_least) in [(RULES, 6), (TEAM_RULES, 3), (DASHBOARD, 6)] {
        let used = metrics(&read(file));
        assert!(used.len() >= at_least, "{file} uses {used:?}");
        let unknown: Vec<_> = used.difference(&exported).collect();
        assert!(unknown.is_empty(), "{file} uses {unknown:?}, but the program exports only {exported:#?}");
    }
}

#[test]
fn dashboard_shows_every_metric() {
    let shown = metrics(&read(DASHBOARD));
    let hidden: Vec<_> = exported().difference(&shown).cloned().collect();
    assert!(hidden.is_empty(), "{hidden:?}");
}

/// Each runbook also has its alert.
#[test]
fn alerts_have_runbooks() {
    let (alerts, rules) = (alerts(), rules());
    let pages: BTreeSet<String> = files("docs/runbooks", "md").iter().map(|page| stem(page)).collect();
    assert_eq!(alerts, pages);
    for alert in &alerts {
        let page = read(&format!("docs/runbooks/{alert}.md"));
        assert!(page.starts_with(&format!("# {alert}\n")), "{alert}");
        for heading in ["What users see", "Find the cause", "Fix", "When to ignore it"] {
            assert!(page.contains(&format!("\n## {heading}\n")), "{alert}: {heading}");
        }
        assert_eq!(rules.matches(&format!("/docs/runbooks/{alert}.md\n")).count(), 1, "{alert}");
        let listed = format!("| [{alert}](runbooks/{alert}.md) |");
        assert!(read("docs/monitoring.md").contains(&listed), "{alert} is not in docs/monitoring.md");
    }
}

/// Each alert has a test in which it fires, and one in which it does not.
#[test]
fn alerts_are_tested() {
    let tests = files("e2e/alerts", "yaml").into_iter().map(|path| fs::read_to_string(path).expect("a file"));
    let tests: String = tests.collect();
    for alert in alerts() {
        assert!(tests.contains(&format!("alertname: {alert}\n        exp_alerts:\n")), "{alert} is never expected");
        assert!(tests.contains(&format!("alertname: {alert}}}")), "{alert} is never expected not to fire");
    }
}

#[test]
fn queries_use_known_reasons() {
    let known: BTreeSet<String> = Reason::VARIANTS.iter().map(ToString::to_string).collect();
    let text = rules() + &read(DASHBOARD).replace("\\\"", "\"");
    let named: BTreeSet<String> = ["reason=\"", "reason=~\"", "reason!=\"", "reason!~\""]
        .iter()
        .flat_map(|start| text.split(start).skip(1))
        .filter_map(|rest| rest.split('"').next())
        .flat_map(|reasons| reasons.split('|').map(str::to_owned))
        .collect();
    assert!(named.len() > 5, "{named:?}");
    assert!(named.is_subset(&known), "{:?}", named.difference(&known));
}

#[test]
fn api_server_accepts_components() {
    let (kube, namespace) = (&shared().kube, TestNamespace::new("monitoring"));
    kube.apply(&crds()).expect("the CRDs are accepted");
    let render = |component: &str| {
        kube.run(&["kustomize", &project(component).display().to_string()]).expect("kustomize renders the component")
    };
    let manifests = ["manifests/components/monitoring", "manifests/components/team-alerts"].map(render).join("---\n");
    let manifests = manifests.replace("namespace: fedora-message-operator", &format!("namespace: {}", namespace.name));
    let mut answer = String::new();
    let accepted = || {
        answer = namespace
            .try_kubectl(&["create", "--dry-run=server", "--validate=strict", "-f", "-"], &manifests)
            .unwrap_or_else(|error| error);
        answer.matches("created").count() == 4
    };
    wait_until(SOON, "the components are accepted", accepted).unwrap_or_else(|error| panic!("{error}: {answer}"));
}

/// Each panel also has a title and a description.
#[test]
fn panels_do_not_overlap() {
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let mut taken = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for panel in panels {
        let title = panel["title"].as_str().expect("a title");
        assert!(ids.insert(panel["id"].as_u64().expect("an id")), "{title}");
        assert!(
            panel["type"] == "row" || panel["description"].as_str().is_some_and(|text| !text.is_empty()),
            "{title}"
        );
        let place = |name: &str| panel["gridPos"][name].as_u64().expect("a number");
        assert!(place("x") + place("w") <= 24, "{title} is beyond the right edge");
        for x in place("x")..place("x") + place("w") {
            for y in place("y")..place("y") + place("h") {
                assert!(taken.insert((x, y)), "{title} covers another panel");
            }
        }
    }
}

/// Returns the metrics that the program exports: those of its page, which `metrics.rs` tests.
fn exported() -> BTreeSet<String> {
    metrics(&read("docs/metrics.md"))
}

/// Returns the metrics that a text names, without the suffixes of histograms.
fn metrics(text: &str) -> BTreeSet<String> {
    let names =
        Regex::new("(fedora_message_operator_[a-z_]+?)(_bucket|_sum|_count)?\\b").expect("a regular expression");
    names.captures_iter(text).map(|name| name[1].to_owned()).collect()
}

/// All rules, of administrators and of teams.
fn rules() -> String {
    read(RULES) + &read(TEAM_RULES)
}

fn alerts() -> BTreeSet<String> {
    rules().lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).map(str::to_owned).collect()
}

/// Returns the CRDs of the component's resources, from the cache or from their Go module.
fn crds() -> [PathBuf; 2] {
    let (module, version) = PROMETHEUS_OPERATOR;
    ["servicemonitors", "prometheusrules"].map(|plural| {
        let path = format!("example/prometheus-operator-crd/monitoring.coreos.com_{plural}.yaml");
        go_module::file(module, version, &path).expect("go downloads the module")
    })
}

/// Returns the files of a folder with this extension, sorted.
pub(crate) fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let files = fs::read_dir(project(folder)).expect("a folder").flatten().map(|file| file.path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|found| found == extension)).collect();
    files.sort();
    files
}

fn stem(path: &Path) -> String {
    path.file_stem().expect("a name").to_string_lossy().into_owned()
}
