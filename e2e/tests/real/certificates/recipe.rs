//! Makes certificates and keys with the `openssl` command, from a short description.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use rig::{Guard, Pki};
use serde::Deserialize;

/// The contents of a certificate. Everything has a default.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Recipe {
    /// Calls of `openssl` that make the key. Each reads what the one before has written.
    key: Vec<String>,
    subject: String,
    /// Its extensions, one a line. `None` means X.509 version 1.
    extensions: Option<String>,
    /// More arguments for `openssl x509`, such as the digest.
    options: String,
    days: i32,
    issuer: Issuer,
}

/// The signer of a certificate.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Issuer {
    /// `root`, the CA of the broker, or `self`.
    Named(String),
    Other(Box<Recipe>),
}

impl Default for Recipe {
    fn default() -> Self {
        let extensions =
            "subjectAltName=DNS:localhost\nkeyUsage=digitalSignature\nextendedKeyUsage=serverAuth,clientAuth";
        Self {
            key: vec!["genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256".to_owned()],
            subject: "/CN=publisher".to_owned(),
            extensions: Some(extensions.to_owned()),
            options: String::new(),
            days: 365,
            issuer: Issuer::Named("root".to_owned()),
        }
    }
}

/// The certificates of a recipe.
#[derive(Clone)]
pub struct Made {
    cert: String,
    key: String,
    /// The certificate of its issuer, and of the last issuer.
    issuer: String,
    ca: String,
}

/// A folder in which `openssl` makes certificates.
pub struct Maker<'a> {
    root: &'a Pki,
    guard: Guard,
    issuers: HashMap<String, Made>,
}

impl<'a> Maker<'a> {
    pub fn new(root: &'a Pki) -> Self {
        Self { root, guard: Guard::new("openssl").expect("a folder"), issuers: HashMap::new() }
    }

    /// Makes a certificate. Its issuers are made once.
    pub fn make(&mut self, recipe: &Recipe) -> Made {
        let signers = match &recipe.issuer {
            Issuer::Named(name) if name == "self" => None,
            Issuer::Named(name) => {
                assert_eq!(name, "root");
                Some(Made {
                    cert: self.root.ca().to_owned(),
                    key: self.root.key(),
                    issuer: self.root.ca().to_owned(),
                    ca: self.root.ca().to_owned(),
                })
            }
            Issuer::Other(issuer) => Some(self.issuer(issuer)),
        };
        let key = pipeline(&recipe.key.iter().map(String::as_str).collect::<Vec<_>>(), b"");
        let key = String::from_utf8(key).expect("PEM");
        let cert = self.sign(recipe, &self.file("key.pem", &key), signers.as_ref());
        match signers {
            Some(Made { cert: issuer, ca, .. }) => Made { cert, key, issuer, ca },
            None => Made { issuer: cert.clone(), ca: cert.clone(), cert, key },
        }
    }

    fn issuer(&mut self, recipe: &Recipe) -> Made {
        let name = format!("{recipe:?}");
        if let Some(made) = self.issuers.get(&name) {
            return made.clone();
        }
        let made = self.make(recipe);
        self.issuers.insert(name, made.clone());
        made
    }

    fn sign(&self, recipe: &Recipe, key: &str, issuer: Option<&Made>) -> String {
        let days = recipe.days.to_string();
        let request = openssl(&["req", "-new", "-key", key, "-subj", &recipe.subject], b"");
        let cert = issuer.map(|issuer| self.file("issuer.pem", &issuer.cert));
        let issuer_key = issuer.map(|issuer| self.file("issuer-key.pem", &issuer.key));
        let signer = match (&cert, &issuer_key) {
            (Some(cert), Some(key)) => vec!["-CA", cert, "-CAkey", key],
            _ => vec!["-key", key],
        };
        let options: Vec<_> = recipe.options.split_whitespace().collect();
        let sign = |command: &[&str]| {
            let common = ["-set_serial", "4711", "-days", &days];
            openssl(&[command, &common, &options, &signer].concat(), &request)
        };
        let cert = match &recipe.extensions {
            Some(extensions) => sign(&["x509", "-req", "-extfile", &self.file("extensions", extensions)]),
            // Old versions of OpenSSL do this without extensions, new ones have an option for it.
            None => Some(sign(&["x509", "-req"]))
                .filter(|cert| is_version_1(cert))
                .unwrap_or_else(|| sign(&["req", "-x509v1"])),
        };
        String::from_utf8(cert).expect("PEM")
    }

    /// Writes a file, and returns its path.
    fn file(&self, name: &str, text: &str) -> String {
        let path = self.guard.scratch().join(name);
        std::fs::write(&path, text).expect("the file is written");
        path.display().to_string()
    }
}

fn is_version_1(cert: &[u8]) -> bool {
    let text = openssl(&["x509", "-noout", "-text"], cert);
    String::from_utf8_lossy(&text).contains("Version: 1 ")
}

/// The files that a program gets. `{PART|CHANGE}` stands for a changed part.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Files {
    pub ca: String,
    pub cert: String,
    pub key: String,
}

impl Default for Files {
    fn default() -> Self {
        let part = |name: &str| format!("{{{name}}}");
        Self { ca: part("ca"), cert: part("cert"), key: part("key") }
    }
}

impl Made {
    /// Expands `{cert}`, `{key}`, `{both}`, `{ca}`, `{issuer}` and `{root}`, each with changes: calls of
    /// `openssl`, or what editors do.
    fn fill(&self, template: &str, root: &str) -> Vec<u8> {
        let mut filled = Vec::new();
        let mut rest = template;
        while let Some((before, (name, after))) =
            rest.split_once('{').and_then(|(before, after)| Some((before, after.split_once('}')?)))
        {
            filled.extend(before.as_bytes());
            let mut steps = name.split('|');
            let part = match steps.next() {
                Some("cert") => self.cert.clone(),
                Some("key") => self.key.clone(),
                Some("both") => format!("{}{}", self.key, self.cert),
                Some("ca") => self.ca.clone(),
                Some("issuer") => self.issuer.clone(),
                Some("root") => root.to_owned(),
                other => panic!("unknown part: {other:?}"),
            };
            filled.extend(pipeline(&steps.collect::<Vec<_>>(), part.as_bytes()));
            rest = after;
        }
        filled.extend(rest.as_bytes());
        filled
    }

    /// Writes CA, certificate and key into `folder`, and returns their paths.
    pub fn write(&self, files: &Files, root: &str, folder: &Path) -> [PathBuf; 3] {
        [("ca.pem", &files.ca), ("cert.pem", &files.cert), ("key.pem", &files.key)].map(|(name, template)| {
            let path = folder.join(name);
            std::fs::write(&path, self.fill(template, root)).expect("the file is written");
            path
        })
    }
}

/// Lets each step read what the one before has written.
pub fn pipeline(steps: &[&str], input: &[u8]) -> Vec<u8> {
    steps.iter().fold(input.to_vec(), |input, step| {
        let text = || String::from_utf8(input.clone()).expect("text");
        match step.trim().split_once(' ').unwrap_or((step, "")) {
            ("bom", _) => [b"\xef\xbb\xbf", &input[..]].concat(),
            ("utf-16", _) => text().encode_utf16().flat_map(u16::to_le_bytes).collect(),
            ("windows", _) => text().replace('\n', "\r\n").into_bytes(),
            ("indented", _) => text().lines().flat_map(|line| ["  ", line, "\n"]).collect::<String>().into_bytes(),
            ("trimmed", _) => text().trim_end().as_bytes().to_vec(),
            ("label", label) => text().replace(" CERTIFICATE-", &format!(" {label}-")).into_bytes(),
            _ => openssl(&step.split_whitespace().collect::<Vec<_>>(), &input),
        }
    })
}

fn openssl(arguments: &[&str], input: &[u8]) -> Vec<u8> {
    rig::pki::openssl(arguments, input).unwrap_or_else(|error| panic!("{error:#}"))
}
