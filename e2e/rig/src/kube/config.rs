//! The files for an API server: certificates, tokens, audit policy, kubeconfigs.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::{
    network::NODE,
    pki::{CertFiles, Pki},
};

/// Logs one line per request, when it is finished.
const AUDIT_POLICY: &str = "apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules: [{level: Metadata}]
";

/// A token for each user. It cannot be guessed, because every user of this machine can reach the
/// port.
#[derive(Debug)]
pub(super) struct Tokens(Vec<(String, String)>);

impl Tokens {
    pub(super) fn new(users: &[&str]) -> Result<Self> {
        let all = std::iter::once(&"admin").chain(users);
        all.map(|user| Ok(((*user).to_owned(), token()?))).collect::<Result<_>>().map(Self)
    }

    pub(super) fn of(&self, user: &str) -> Option<&str> {
        let found = self.0.iter().find(|(name, _)| name == user);
        found.map(|(_, token)| token.as_str())
    }

    /// Formats the file for `--token-auth-file`: token, user, user id, groups.
    fn file(&self) -> String {
        let line = |(user, token): &(String, String)| match user.as_str() {
            "admin" => format!("{token},admin,admin,\"system:masters\"\n"),
            "node" => format!("{token},system:node:node,node,\"system:nodes\"\n"),
            _ => format!("{token},{user},{user}\n"),
        };
        self.0.iter().map(line).collect()
    }
}

/// Returns 128 random bits in hexadecimal.
pub(super) fn token() -> Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .context("no random numbers from /dev/urandom")?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}

/// The files, in one folder.
#[derive(Debug)]
pub(super) struct Files {
    folder: PathBuf,
    server: CertFiles,
    kubelet_client: CertFiles,
    service_account: CertFiles,
}

impl Files {
    pub(super) fn write(folder: &Path, pki: &Pki, tokens: &Tokens, port: u16) -> Result<Self> {
        let node = NODE.to_string();
        let server = pki.server(&["localhost", "127.0.0.1", &node, "10.0.0.1", "kubernetes.default.svc"])?;
        let service_account = pki.client("service-account")?;
        let files = Self {
            folder: folder.to_owned(),
            server: server.write(folder, "server")?,
            kubelet_client: pki.client("kubelet-client")?.write(folder, "kubelet-client")?,
            service_account: service_account.write(folder, "service-account")?,
        };
        fs::write(folder.join("tokens.csv"), tokens.file())?;
        fs::write(folder.join("audit-policy.yaml"), AUDIT_POLICY)?;
        for (user, token) in &tokens.0 {
            let ca = files.server.ca.display();
            fs::write(files.kubeconfig(user), kubeconfig(user, token, &ca.to_string(), port))?;
        }
        Ok(files)
    }

    pub(super) fn kubeconfig(&self, user: &str) -> PathBuf {
        self.folder.join(format!("{user}.kubeconfig"))
    }

    pub(super) fn audit_log(&self) -> PathBuf {
        self.folder.join("audit.log")
    }

    pub(super) fn ca(&self) -> &Path {
        &self.server.ca
    }

    /// Returns the controllers' flags for service account tokens and for their speed.
    pub(super) fn controller_manager_flags(&self) -> Vec<String> {
        vec![
            format!("--service-account-private-key-file={}", self.service_account.key.display()),
            format!("--root-ca-file={}", self.server.ca.display()),
            // The API server runs on the same machine.
            "--kube-api-qps=200".into(),
            "--kube-api-burst=400".into(),
            "--controller-start-interval=0".into(),
        ]
    }

    /// Returns the flags that depend on a node. With a node, Pods connect to the API server, the
    /// API server connects to the kubelet, and each Pod needs a service account.
    fn node_flags(&self, node: bool) -> Vec<String> {
        if !node {
            return vec![
                "--bind-address=127.0.0.1".into(),
                // The endpoint of the Service `kubernetes` must not be a loopback address. Nothing
                // uses it.
                "--advertise-address=192.0.2.1".into(),
                "--authorization-mode=RBAC".into(),
                "--disable-admission-plugins=ServiceAccount".into(),
            ];
        }
        vec![
            "--bind-address=0.0.0.0".into(),
            format!("--advertise-address={NODE}"),
            "--authorization-mode=Node,RBAC".into(),
            "--enable-admission-plugins=NodeRestriction".into(),
            format!("--kubelet-client-certificate={}", self.kubelet_client.cert.display()),
            format!("--kubelet-client-key={}", self.kubelet_client.key.display()),
            "--kubelet-preferred-address-types=InternalIP".into(),
        ]
    }

    pub(super) fn api_server_flags(&self, port: u16, etcd_port: u16, node: bool) -> Vec<String> {
        let file = |name: &str| self.folder.join(name).display().to_string();
        let mut flags = vec![
            format!("--etcd-servers=http://127.0.0.1:{etcd_port}"),
            format!("--secure-port={port}"),
            "--endpoint-reconciler-type=none".into(),
            format!("--tls-cert-file={}", self.server.cert.display()),
            format!("--tls-private-key-file={}", self.server.key.display()),
            format!("--cert-dir={}", file("certs")),
            "--service-account-issuer=https://kubernetes.default.svc".into(),
            format!("--service-account-key-file={}", self.service_account.cert.display()),
            format!("--service-account-signing-key-file={}", self.service_account.key.display()),
            "--service-cluster-ip-range=10.0.0.0/24".into(),
            format!("--token-auth-file={}", file("tokens.csv")),
            format!("--audit-policy-file={}", file("audit-policy.yaml")),
            format!("--audit-log-path={}", file("audit.log")),
            "--audit-log-maxsize=4096".into(),
            "--delete-collection-workers=8".into(),
        ];
        flags.extend(self.node_flags(node));
        flags
    }
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
