//! Certificate authorities and certificates, issued on demand and never stored in the project.

use std::{
    fmt, fs,
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, bail};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

/// A day.
pub const DAY: Duration = Duration::from_hours(24);

/// A certificate authority.
pub struct Pki {
    ca: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its key and its CA, each as PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientCert {
    /// The certificate of the CA.
    pub ca: String,
    /// The certificate.
    pub cert: String,
    /// Its private key.
    pub key: String,
}

/// The paths of a [`ClientCert`]'s parts on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertFiles {
    /// The certificate of the CA.
    pub ca: PathBuf,
    /// The certificate.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Kind and encoding of a private key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyKind {
    /// P-256 in PKCS#8 (`PRIVATE KEY`). This is the default, because it is fast.
    #[default]
    Ec,
    /// P-256 in SEC1 (`EC PRIVATE KEY`).
    EcSec1,
    /// RSA-2048 in PKCS#8 (`PRIVATE KEY`), as Fedora's public keys are.
    Rsa,
    /// RSA-2048 in PKCS#1 (`RSA PRIVATE KEY`).
    RsaPkcs1,
}

/// The contents of a new certificate. Start from [`Request::client`] or [`Request::server`].
#[derive(Debug, Clone)]
pub struct Request {
    /// The subject's common name, which is the user at RabbitMQ.
    pub cn: String,
    /// DNS names and IP addresses. Empty for clients.
    pub names: Vec<String>,
    /// The start of the validity. Default: yesterday.
    pub not_before: SystemTime,
    /// The end of the validity. Default: in ten years.
    pub not_after: SystemTime,
    /// Kind and encoding of its key.
    pub key: KeyKind,
}

impl Request {
    /// Requests a client certificate for `cn`.
    #[must_use]
    pub fn client(cn: &str) -> Self {
        let now = SystemTime::now();
        Self {
            cn: cn.to_owned(),
            names: Vec::new(),
            not_before: now - DAY,
            not_after: now + 3650 * DAY,
            key: KeyKind::default(),
        }
    }

    /// Requests a server certificate for these DNS names and IP addresses.
    #[must_use]
    pub fn server(names: &[&str]) -> Self {
        let mut request = Self::client(names.first().copied().unwrap_or_default());
        request.names = names.iter().copied().map(str::to_owned).collect();
        request
    }

    /// Makes the certificate expired since yesterday.
    #[must_use]
    pub fn expired(mut self) -> Self {
        self.not_before = SystemTime::now() - 30 * DAY;
        self.not_after = SystemTime::now() - DAY;
        self
    }

    /// Sets the kind of the key.
    #[must_use]
    pub fn key(mut self, key: KeyKind) -> Self {
        self.key = key;
        self
    }
}

impl Pki {
    /// Creates a CA with this common name.
    pub fn new(cn: &str) -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, cn);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = (SystemTime::now() - 60 * DAY).into();
        params.not_after = (SystemTime::now() + 3650 * DAY).into();
        let ca = params.self_signed(&key)?.pem();
        let issuer = Issuer::new(params, key);
        Ok(Self { ca, issuer })
    }

    /// Returns the certificate of the CA as PEM.
    #[must_use]
    pub fn ca(&self) -> &str {
        &self.ca
    }

    /// Returns the key of the CA as PEM, for `openssl`.
    #[must_use]
    pub fn key(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// Issues a client certificate for `cn` with all defaults.
    pub fn client(&self, cn: &str) -> Result<ClientCert> {
        self.issue(&Request::client(cn))
    }

    /// Issues a server certificate for these DNS names and IP addresses.
    pub fn server(&self, names: &[&str]) -> Result<ClientCert> {
        self.issue(&Request::server(names))
    }

    /// Issues the requested certificate.
    pub fn issue(&self, request: &Request) -> Result<ClientCert> {
        let (signing_key, key) = new_key(request.key)?;
        let mut params = CertificateParams::new(request.names.clone())?;
        params.distinguished_name.push(DnType::CommonName, request.cn.as_str());
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = vec![if request.names.is_empty() {
            ExtendedKeyUsagePurpose::ClientAuth
        } else {
            ExtendedKeyUsagePurpose::ServerAuth
        }];
        params.not_before = request.not_before.into();
        params.not_after = request.not_after.into();
        let cert = params.signed_by(&signing_key, &self.issuer)?.pem();
        Ok(ClientCert { ca: self.ca.clone(), cert, key })
    }
}

impl ClientCert {
    /// Writes `NAME-ca.pem`, `NAME-cert.pem` and `NAME-key.pem` into `folder`.
    pub fn write(&self, folder: &Path, name: &str) -> Result<CertFiles> {
        let write = |part: &str, text: &str| {
            let path = folder.join(format!("{name}-{part}.pem"));
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
            Ok::<_, anyhow::Error>(path)
        };
        Ok(CertFiles { ca: write("ca", &self.ca)?, cert: write("cert", &self.cert)?, key: write("key", &self.key)? })
    }

    /// Returns the manifest of a Secret with the keys `ca`, `cert` and `key`.
    #[must_use]
    pub fn secret_yaml(&self, name: &str, namespace: &str) -> String {
        let block = |text: &str| text.lines().flat_map(|line| ["    ", line, "\n"]).collect::<String>();
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata:\n  name: {name}\n  namespace: {namespace}\n\
             stringData:\n  ca: |\n{}  cert: |\n{}  key: |\n{}",
            block(&self.ca),
            block(&self.cert),
            block(&self.key)
        )
    }
}

impl fmt::Debug for ClientCert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientCert(..)")
    }
}

impl fmt::Debug for Pki {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pki(..)")
    }
}

/// Generates a key. Returns it with its PEM in the requested encoding.
fn new_key(kind: KeyKind) -> Result<(KeyPair, String)> {
    let pkcs8 = match kind {
        KeyKind::Ec | KeyKind::EcSec1 => KeyPair::generate()?.serialize_pem(),
        // ring signs with RSA keys, but cannot generate them.
        KeyKind::Rsa | KeyKind::RsaPkcs1 => {
            String::from_utf8(openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"], b"")?)?
        }
    };
    let pem = match kind {
        KeyKind::Ec | KeyKind::Rsa => pkcs8.clone().into_bytes(),
        KeyKind::EcSec1 => openssl(&["ec"], pkcs8.as_bytes())?,
        KeyKind::RsaPkcs1 => openssl(&["rsa", "-traditional"], pkcs8.as_bytes())?,
    };
    Ok((KeyPair::from_pem(&pkcs8)?, String::from_utf8(pem)?))
}

/// Runs `openssl` with this standard input, and returns its standard output.
pub fn openssl(args: &[&str], input: &[u8]) -> Result<Vec<u8>> {
    let mut child = Command::new("openssl")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("openssl does not start: apt-get install openssl")?;
    if let Some(mut stdin) = child.stdin.take()
        && let Err(error) = stdin.write_all(input)
        // Some commands read nothing, and may end first. Their status tells if they failed.
        && error.kind() != ErrorKind::BrokenPipe
    {
        bail!("openssl {} does not read its input: {error}", args.join(" "));
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("openssl {} failed: {}", args.join(" "), output.status);
    }
    Ok(output.stdout)
}
