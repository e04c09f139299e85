//! Messages that are wrong in themselves: refused by the API server, and by the operator where no
//! schema and no policy stand before it.

use std::collections::VecDeque;
use std::sync::OnceLock;

use rig::Kube;
use serde::Deserialize;
use serde_json::{Value, json};

use super::manifest::{Fields, manifest};
use super::text::{expand, with_placeholders};
use super::{Entry, MESSAGES, RefusedBy, Said, all_as_expected, load, outcomes, tell};
use e2e::world::{Operator, Space, project, world};

/// What the operators here put before topics.
const PREFIX: [&str; 2] = ["--prod-topic-prefix", "org.fedoraproject.prod"];

/// How a message differs from one that is right, and how it comes to the API server.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    #[serde(default)]
    set: Fields,
    #[serde(default)]
    remove: Vec<String>,
    #[serde(default)]
    by: Way,
    /// A JSON patch, once it is stored.
    change: Option<Value>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum Way {
    /// `kubectl create`.
    #[default]
    Create,
    /// Client-side `kubectl apply`.
    Apply,
    /// The API: kubectl would refuse or change it.
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

/// The API server's words, without what stands before all of them.
fn bare(words: &str) -> String {
    const BEFORE: [&str; 5] = [
        "Error from server ",
        r#"error when creating "STDIN": "#,
        "is invalid: ",
        "denied request: ",
        "(BadRequest): ",
    ];
    let after = |words: &str, before: &str| match words.split_once(before) {
        Some((_, rest)) => rest.to_owned(),
        None => words.to_owned(),
    };
    BEFORE.iter().fold(words.trim_end().to_owned(), |words, before| after(&words, before))
}

/// Creates them all, and returns what kubectl says of each that was refused; "" of the others.
fn create(space: &Space, entries: &[Entry<Input>]) -> Vec<String> {
    let all: Vec<usize> = (0..entries.len()).collect();
    let by_way = |way| all.iter().copied().filter(move |index| entries[*index].input.by == way);
    let mut said = vec![String::new(); entries.len()];
    for (way, arguments) in [(Way::Create, "create"), (Way::Apply, "apply")] {
        let manifests: String = by_way(way).map(|index| entries[index].input.manifest(&name(index))).collect();
        if manifests.is_empty() {
            continue;
        }
        let answer = space.kubectl(&[arguments, "-f", "-"], &manifests);
        let answer = answer.unwrap_or_else(|words| words);
        let (taken, refused): (Vec<_>, Vec<_>) = answer.lines().partition(|line| line.ends_with(" created"));
        let taken = |name: &str| taken.iter().any(|line| line.ends_with(&format!("/{name} created")));
        // kubectl goes on after a refusal, and tells all of them in their order at the end.
        let mut refused: VecDeque<_> = refused.into();
        for index in by_way(way).filter(|index| !taken(&name(*index))) {
            said[index] = refused.pop_front().map(bare).unwrap_or_default();
        }
        assert!(refused.is_empty(), "too many words:\n{}", outcomes::listed(refused.make_contiguous()));
    }
    for index in by_way(Way::Post) {
        let answer = space.post(&entries[index].input.manifest(&name(index)));
        said[index] = answer.err().map(|words| bare(&words)).unwrap_or_default();
    }
    said
}

#[test]
fn what_admission_refuses_is_refused_in_these_words() {
    let space = Space::new("admission");
    let entries = entries(|entry| entry.refused_by == RefusedBy::Admission && entry.input.change.is_none());
    let said = create(&space, &entries).into_iter().map(|words| Said { reason: None, words });
    all_as_expected(&entries, said.enumerate());
}

#[test]
fn what_is_stored_cannot_be_changed_in_these_words() {
    let space = Space::new("changes");
    let entries = entries(|entry| entry.input.change.is_some());
    let manifests: String =
        entries.iter().enumerate().map(|(index, entry)| entry.input.manifest(&name(index))).collect();
    space.kubectl(&["create", "-f", "-"], &manifests).expect("they are accepted");
    let said = entries.iter().enumerate().map(|(index, entry)| {
        let change = entry.input.change.as_ref().map(Value::to_string).unwrap_or_default();
        let patched = space.kubectl(&["patch", "fmsg", &name(index), "--type=json", "-p", &change], "");
        (index, Said { reason: None, words: patched.err().map(|words| bare(&words)).unwrap_or_default() })
    });
    all_as_expected(&entries, said);
}

#[test]
fn what_admission_lets_through_is_sent_or_refused_by_the_operator_in_these_words() {
    let space = Space::new("validation");
    space.certificate(&world().broker, "publisher");
    let _operator = Operator::start(&space, &PREFIX);
    let entries = entries(|entry| matches!(entry.refused_by, RefusedBy::Validation | RefusedBy::Nobody));
    let refused = create(&space, &entries);
    assert!(refused.iter().all(String::is_empty), "admission lets them through: {refused:#?}");
    let all: Vec<_> = entries.iter().collect();
    let said = outcomes::wait(&space, &all, Entry::expected, name, |_, words| placeholders(&space, words));
    all_as_expected(&entries, said.into_iter().enumerate());
}

#[test]
fn without_schema_and_policy_the_operator_refuses_the_same_in_these_words() {
    static UNGUARDED: OnceLock<Kube> = OnceLock::new();
    let kube = UNGUARDED.get_or_init(|| Kube::start().expect("an API server starts"));
    kube.apply_text(&loose_definition()).expect("the CRD is accepted");
    kube.run(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"]).expect("it is served");
    let space = Space::on(kube, "unguarded");
    space.certificate(&world().broker, "publisher");
    let _operator = Operator::on(kube, &world().broker.url(), &space, &PREFIX);
    let entries = entries(|entry| entry.operator.is_some());
    let refused = create(&space, &entries);
    assert!(refused.iter().all(String::is_empty), "nobody refuses them here: {refused:#?}");
    let expected = |entry: &Entry<Input>| Said {
        reason: Some("InvalidMessage".to_owned()),
        words: expand(entry.operator.as_deref().unwrap_or_default()),
    };
    let all: Vec<_> = entries.iter().collect();
    let said = outcomes::wait(&space, &all, expected, name, |_, words| placeholders(&space, words));
    let mut wrong = String::new();
    for (entry, said) in all.into_iter().zip(said) {
        if said != expected(entry) {
            tell(&mut wrong, &entry.name, "operator", &said);
        }
    }
    assert!(wrong.is_empty(), "the catalog says otherwise:\n{wrong}");
}

fn placeholders(space: &Space, words: &str) -> String {
    with_placeholders(words, &[(&space.name, "{namespace}")])
}

/// The CRD without anything that it asks of a spec.
fn loose_definition() -> String {
    let text = std::fs::read_to_string(project("crds/fedoramessages.yaml")).expect("the CRD is there");
    let mut definition: Value = serde_saphyr::from_str(&text).expect("the CRD is YAML");
    let version = &mut definition["spec"]["versions"][0];
    let schema = &mut version["schema"]["openAPIV3Schema"];
    schema["properties"]["spec"] = json!({"x-kubernetes-preserve-unknown-fields": true, "nullable": true});
    schema["required"] = json!([]);
    schema["x-kubernetes-validations"] = json!([]);
    let fields = version["selectableFields"].as_array_mut().expect("a list");
    fields.retain(|field| field["jsonPath"].as_str().is_some_and(|path| !path.starts_with(".spec.")));
    definition.to_string()
}
