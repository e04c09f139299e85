//! Invalid messages: the API server refuses them. Without schema and policy, the operator refuses
//! them.

use std::collections::VecDeque;
use std::sync::OnceLock;

use rig::Kube;
use serde::Deserialize;
use serde_json::{Value, json};

use super::manifest::{Fields, manifest};
use super::text::with_placeholders;
use super::{Entry, MESSAGES, Outcome, RefusedBy, assert_expected, load, outcomes};
use e2e::{CRDS, Operator, TestNamespace, project, read, shared};

/// The flags for the topic prefixes.
const PREFIX: [&str; 4] =
    ["--prod-topic-prefix", "org.fedoraproject.prod", "--stg-topic-prefix", "org.fedoraproject.stg"];

/// The difference of a message to a correct one, and the command that creates it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    #[serde(default)]
    set: Fields,
    #[serde(default)]
    remove: Vec<String>,
    #[serde(default)]
    by: Command,
    /// A JSON patch for the stored message.
    change: Option<Value>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum Command {
    /// `kubectl create`.
    #[default]
    Create,
    /// Client-side `kubectl apply`.
    Apply,
    /// A raw request. kubectl would refuse or change the message.
    Post,
}

impl Input {
    fn manifest(&self, name: &str) -> String {
        manifest(name, &self.set, &self.remove)
    }
}

fn entries(wanted: impl Fn(&Entry<Input>) -> bool) -> Vec<Entry<Input>> {
    MESSAGES.into_iter().flat_map(load::<Input>).filter(wanted).collect()
}

fn name(index: usize) -> String {
    format!("m{index:03}")
}

/// Returns an error of the API server without its common prefixes.
fn bare(error: &str) -> String {
    const BEFORE: [&str; 5] = [
        "Error from server ",
        r#"error when creating "STDIN": "#,
        "is invalid: ",
        "denied request: ",
        "(BadRequest): ",
    ];
    BEFORE
        .iter()
        .fold(error.trim_end(), |error, before| error.split_once(before).map_or(error, |(_, rest)| rest))
        .to_owned()
}

/// Creates all messages. Returns the error for each refused message, and "" for the others.
fn create(namespace: &TestNamespace, entries: &[Entry<Input>]) -> Vec<String> {
    let all: Vec<usize> = (0..entries.len()).collect();
    let by_command = |command| all.iter().copied().filter(move |index| entries[*index].input.by == command);
    let mut errors = vec![String::new(); entries.len()];
    for (command, arguments) in [(Command::Create, "create"), (Command::Apply, "apply")] {
        let manifests: String = by_command(command).map(|index| entries[index].input.manifest(&name(index))).collect();
        if manifests.is_empty() {
            continue;
        }
        let answer = namespace.try_kubectl(&[arguments, "-f", "-"], &manifests);
        let answer = answer.unwrap_or_else(|error| error);
        let (accepted, refused): (Vec<_>, Vec<_>) = answer.lines().partition(|line| line.ends_with(" created"));
        let accepted = |name: &str| accepted.iter().any(|line| line.ends_with(&format!("/{name} created")));
        // kubectl continues after an error, and prints all errors in order at the end.
        let mut refused: VecDeque<_> = refused.into();
        for index in by_command(command).filter(|index| !accepted(&name(*index))) {
            errors[index] = refused.pop_front().map(bare).unwrap_or_default();
        }
        assert!(refused.is_empty(), "too many errors: {refused:#?}");
    }
    for index in by_command(Command::Post) {
        let answer = namespace.post(&entries[index].input.manifest(&name(index)));
        errors[index] = answer.err().map(|error| bare(&error)).unwrap_or_default();
    }

    errors
}

#[test]
fn admission_refuses_messages() {
    let namespace = TestNamespace::new("admission");
    let entries = entries(|entry| entry.refused_by == RefusedBy::Admission && entry.input.change.is_none());
    let outcomes = create(&namespace, &entries).into_iter().map(|message| Outcome { reason: None, message });
    assert_expected(&entries, outcomes.enumerate());
}

#[test]
fn admission_refuses_changes() {
    let namespace = TestNamespace::new("changes");
    let entries = entries(|entry| entry.input.change.is_some());
    let manifests: String =
        entries.iter().enumerate().map(|(index, entry)| entry.input.manifest(&name(index))).collect();
    namespace.create(&manifests);
    let outcomes = entries.iter().enumerate().map(|(index, entry)| {
        let change = entry.input.change.as_ref().map(Value::to_string).unwrap_or_default();
        let patched = namespace.try_kubectl(&["patch", "fmsg", &name(index), "--type=json", "-p", &change], "");
        (index, Outcome { reason: None, message: patched.err().map(|error| bare(&error)).unwrap_or_default() })
    });
    assert_expected(&entries, outcomes);
}

#[test]
fn operator_reports_reasons() {
    let namespace = TestNamespace::with_publisher("validation");
    let _operator = Operator::start(&namespace, &PREFIX);
    let entries = entries(|entry| matches!(entry.refused_by, RefusedBy::Validation | RefusedBy::Nobody));
    let refused = create(&namespace, &entries);
    assert!(refused.iter().all(String::is_empty), "admission accepts them: {refused:#?}");
    outcomes::assert_all(&namespace, &entries, name, |_, message| placeholders(&namespace, message));
}

#[test]
fn operator_refuses_without_admission() {
    static UNGUARDED: OnceLock<Kube> = OnceLock::new();
    let kube = UNGUARDED.get_or_init(|| Kube::start().expect("an API server"));
    kube.apply_text(&loose_definition()).expect("the CRD is accepted");
    kube.apply(&[project(CRDS[1])]).expect("the CRD of Senders is accepted");
    kube.run(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"]).expect("the CRD is served");
    let namespace = TestNamespace::on(kube, "unguarded").with_certificate(&shared().broker, "publisher");
    let _operator = Operator::with_broker(&shared().broker.url(), &namespace, &PREFIX);
    let mut entries = entries(|entry| entry.operator.is_some());
    let refused = create(&namespace, &entries);
    assert!(refused.iter().all(String::is_empty), "nothing refuses them here: {refused:#?}");
    for entry in &mut entries {
        entry.reason = Some("InvalidMessage".to_owned());
        entry.message = entry.operator.take().unwrap_or_default();
    }
    outcomes::assert_all(&namespace, &entries, name, |_, message| placeholders(&namespace, message));
}

fn placeholders(namespace: &TestNamespace, message: &str) -> String {
    with_placeholders(message, &[(&namespace.name, "{namespace}")])
}

/// Returns the CRD without its rules for a spec.
fn loose_definition() -> String {
    let mut definition: Value = serde_saphyr::from_str(&read("crds/fedoramessages.yaml")).expect("YAML");
    let version = &mut definition["spec"]["versions"][0];
    let schema = &mut version["schema"]["openAPIV3Schema"];
    schema["properties"]["spec"] = json!({"x-kubernetes-preserve-unknown-fields": true, "nullable": true});
    schema["required"] = json!([]);
    schema["x-kubernetes-validations"] = json!([]);
    let fields = version["selectableFields"].as_array_mut().expect("a list");
    fields.retain(|field| field["jsonPath"].as_str().is_some_and(|path| !path.starts_with(".spec.")));
    definition.to_string()
}
