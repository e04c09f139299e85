//! Checks the cluster: its version, the installed CRD and admission policies, and the permissions that the operator
//! needs with its settings.

use std::collections::BTreeMap;

use futures::future::join_all;
use kube::Client;

use super::CheckReport;
use crate::cli::{CheckArgs, DeliveryMode, ScopeArgs};
use crate::cluster::inspect::{Cluster, Lookup, installed_crd, version};
use crate::cluster::list::ListError;
use crate::cluster::permissions::{Need, RULES, Rule};
use crate::cluster::watch::INSTALL;
use fedora_message::api::compare::{AdmissionPolicy, InstalledCrd};

/// The oldest version of Kubernetes with all features that the operator uses.
const OLDEST: [u32; 2] = [1, 32];

/// Runs all checks. After a failure the others still run, unless the API server does not answer.
pub(crate) async fn check(arguments: &CheckArgs, report: &mut CheckReport) {
    let cluster = match Cluster::open(arguments.as_user.as_deref()).await {
        Ok(cluster) => cluster,
        Err(error) => return report.failed("kubeconfig", &error),
    };
    if let Err(error) = api_server(&cluster, report).await {
        return report.failed("API server", &format!("{}: {}", cluster.url, error.explain()));
    }
    crd(&cluster.client, report).await;
    policy(&cluster, &AdmissionPolicy::MESSAGES, report).await;
    if is_needed(Need::Pods, &arguments.scope) {
        policy(&cluster, &AdmissionPolicy::PODS, report).await;
        policy(&cluster, &AdmissionPolicy::OPERATOR_PODS, report).await;
    }
    if arguments.scope.require_sender {
        policy(&cluster, &AdmissionPolicy::REQUIRE_SENDER, report).await;
    }
    namespaces(&cluster, &arguments.scope, report).await;
    if let Err(error) = permissions(&cluster, &arguments.scope, report).await {
        report.failed("permissions", &error.explain());
    }
}

async fn api_server(cluster: &Cluster, report: &mut CheckReport) -> Result<(), ListError> {
    let url = &cluster.url;
    let (name, version) = version(&cluster.client).await?;
    if version < OLDEST {
        let [major, minor] = OLDEST;
        report.failed("API server", &format!("{url} is Kubernetes {name}: upgrade it to {major}.{minor} or newer"));
    } else {
        report.found("API server", &format!("{url} is Kubernetes {name}"));
    }
    Ok(())
}

async fn crd(client: &Client, report: &mut CheckReport) {
    match installed_crd(client).await {
        Ok(Some(InstalledCrd::Same)) => report.found("CRD", "is this program's"),
        Ok(Some(InstalledCrd::Other)) => {
            report.found("CRD", "has all that this program needs, with other rules or descriptions than its own");
        }
        Ok(Some(InstalledCrd::Older(lacks))) => {
            report.failed(
                "CRD",
                &format!("older than this program, it lacks {}: install it ({INSTALL})", lacks.join(", ")),
            );
        }
        Ok(Some(InstalledCrd::Absent)) => {
            report.failed("CRD", &format!("the API server does not know FedoraMessages: install it ({INSTALL})"));
        }
        Ok(None) => {
            report.failed("CRD", "the API server does not let it be read: grant the ClusterRole system:discovery");
        }
        Err(error) => report.failed("CRD", &error.explain()),
    }
}

/// Checks a policy and its binding. The operator works without them: it refuses invalid messages
/// later, and a Pod's result counts if nobody was seen to change the Pod.
async fn policy(cluster: &Cluster, own: &AdmissionPolicy, report: &mut CheckReport) {
    let AdmissionPolicy { name, file, .. } = own;
    let hidden = "skipped: you are not allowed to read admission policies, and the operator does not need to";
    let failed = |what: &str| format!("{name} {what}: kubectl apply --server-side -f {file}");
    match cluster.policy(own).await {
        Ok(Lookup::Is(installed)) if own.is_same(&installed) => {
            report.found("policy", &format!("{name} is this program's"));
        }
        Ok(Lookup::Is(_)) => report.failed("policy", &failed("differs from this program's")),
        Ok(Lookup::Absent) => report.failed("policy", &failed("is not installed")),
        Ok(Lookup::Hidden) => return report.found("policy", hidden),
        Err(error) => return report.failed("policy", &error.explain()),
    }
    match cluster.binding(own).await {
        Ok(Lookup::Is(binding)) if own.is_enforced_by(&binding) => {
            report.found("binding", &format!("{name} denies what the policy refuses"));
        }
        Ok(Lookup::Is(_)) => report.failed("binding", &failed("does not deny everywhere what the policy refuses")),
        Ok(Lookup::Absent) => report.failed("binding", &failed("is not installed")),
        Ok(Lookup::Hidden) => report.found("binding", hidden),
        Err(error) => report.failed("binding", &error.explain()),
    }
}

/// Checks that the watched namespaces exist. Nothing else would show such a mistake.
async fn namespaces(cluster: &Cluster, scope: &ScopeArgs, report: &mut CheckReport) {
    for name in &scope.namespaces() {
        if matches!(cluster.namespace(name).await, Ok(Lookup::Absent)) {
            report.failed("namespace", &format!("{name} does not exist: correct --watch-namespaces, or create it"));
        }
    }
}

async fn permissions(cluster: &Cluster, scope: &ScopeArgs, report: &mut CheckReport) -> Result<(), ListError> {
    let user = cluster.user().await?;
    report.found("user", &user);
    let lease = scope.lease_namespace.as_deref().unwrap_or_else(|| cluster.client.default_namespace());
    let watched = scope.namespaces();
    for rule in RULES.iter().filter(|rule| is_needed(rule.need, scope)) {
        let (namespaces, name): (Vec<_>, _) = match (rule.need, watched.as_slice()) {
            (Need::LeaderElection, _) => (vec![Some(lease)], Some(scope.lease_name.as_str())),
            (_, []) => (vec![None], None),
            (_, some) => (some.iter().map(|name| Some(name.as_str())).collect(), None),
        };
        let (mut granted, mut missing) = (Vec::new(), BTreeMap::<_, Vec<_>>::new());
        for verb in rule.verbs {
            let asked = namespaces.iter().map(|namespace| rule.allows(&cluster.subject, verb, *namespace, name));
            let answers = join_all(asked).await.into_iter().collect::<Result<Vec<_>, _>>()?;
            let lacking = namespaces.iter().zip(answers).filter(|(_, allowed)| !allowed).map(|(name, _)| *name);
            match lacking.collect::<Vec<_>>() {
                nowhere if nowhere.is_empty() => granted.push(*verb),
                places => missing.entry(places).or_default().push(*verb),
            }
        }
        if !granted.is_empty() {
            let detail = format!("{} {} in {}", granted.join(", "), resource(rule), places(&namespaces));
            report.found("permissions", &detail);
        }
        for (namespaces, verbs) in missing {
            report.failed("permissions", &may_not(&user, &verbs, rule, &namespaces));
        }
    }
    Ok(())
}

fn is_needed(need: Need, scope: &ScopeArgs) -> bool {
    match need {
        Need::Always => true,
        Need::LeaderElection => scope.leader_elect,
        Need::Pods => scope.delivery_mode != DeliveryMode::Direct,
    }
}

fn may_not(user: &str, verbs: &[&str], rule: &Rule, namespaces: &[Option<&str>]) -> String {
    let (verbs, resource, places) = (verbs.join(", "), resource(rule), places(namespaces));
    let (bind, file) = (rule.need.role(), rule.need.manifest());
    format!("{user} may not {verbs} {resource} in {places}: bind the role {bind} of {file} to it there")
}

fn resource(rule: &Rule) -> String {
    if rule.group.is_empty() { rule.resource.to_owned() } else { format!("{} ({})", rule.resource, rule.group) }
}

fn places(namespaces: &[Option<&str>]) -> String {
    let names: Vec<_> = namespaces.iter().copied().flatten().collect();
    match names.as_slice() {
        [] => "all namespaces".to_owned(),
        [name] => format!("namespace {name}"),
        names => format!("namespaces {}", names.join(", ")),
    }
}
