//! The files for an API server: certificates, tokens, audit policy, kubeconfigs.

use std::{
    fs::{self, File},
    io::Read,
    path::Path,
};

use anyhow::{Context, Result};

use crate::{network::NODE, pki::Pki};

/// The flags of the servers, one a line. [`flags`] fills in what differs between rigs.
pub(super) const ETCD: &str = include_str!("etcd.flags");
pub(super) const API_SERVER: &str = include_str!("kube-apiserver.flags");
pub(super) const WITH_NODE: &str = include_str!("with-node.flags");
pub(super) const WITHOUT_NODE: &str = include_str!("without-node.flags");
pub(super) const CONTROLLER_MANAGER: &str = include_str!("kube-controller-manager.flags");

/// Logs one line per request, when it is finished.
const AUDIT_POLICY: &str = "apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules: [{level: Metadata}]
";

/// Returns the flags of a template with these values in place of its upper-case placeholders.
pub(super) fn flags(template: &str, values: &[(&str, String)]) -> Vec<String> {
    let filled = values.iter().fold(template.to_owned(), |text, (name, value)| text.replace(name, value));
    filled.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

/// Returns 128 random bits in hexadecimal.
pub(super) fn token() -> Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .context("no random numbers from /dev/urandom")?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}

/// Writes all files into a folder. Each user gets a token that cannot be guessed, because every user of
/// this machine can reach the port.
pub(super) fn write(folder: &Path, users: &[&str], port: u16) -> Result<()> {
    let pki = Pki::new("kube-ca")?;
    let node = NODE.to_string();
    let server = pki.server(&["localhost", "127.0.0.1", &node, "10.0.0.1", "kubernetes.default.svc"])?;
    let ca = server.write(folder, "server")?.ca.display().to_string();
    for client in ["kubelet-client", "service-account"] {
        pki.client(client)?.write(folder, client)?;
    }
    fs::write(folder.join("audit-policy.yaml"), AUDIT_POLICY)?;
    let mut tokens = Vec::new();
    for user in users {
        let token = token()?;
        fs::write(folder.join(format!("{user}.kubeconfig")), kubeconfig(user, &token, &ca, port))?;
        // Token, user, user id, groups.
        tokens.push(match *user {
            "admin" => format!("{token},admin,admin,\"system:masters\"\n"),
            "node" => format!("{token},system:node:node,node,\"system:nodes\"\n"),
            _ => format!("{token},{user},{user}\n"),
        });
    }
    fs::write(folder.join("tokens.csv"), tokens.concat())?;
    Ok(())
}

fn kubeconfig(user: &str, token: &str, ca: &str, port: u16) -> String {
    format!(
        "apiVersion: v1
kind: Config
current-context: rig
contexts: [{{name: rig, context: {{cluster: rig, user: {user}}}}}]
clusters: [{{name: rig, cluster: {{server: \"https://127.0.0.1:{port}\", certificate-authority: \"{ca}\"}}}}]
users: [{{name: {user}, user: {{token: \"{token}\"}}}}]
"
    )
}
