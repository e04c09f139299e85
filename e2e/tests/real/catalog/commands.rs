//! Bad flags, variables and files: the program reports them at once.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;

use rig::port::Port;
use serde::Deserialize;

use super::pem::Pems;
use super::text::{expand, with_placeholders};
use super::{COMMANDS, Entry, Outcome, RefusedBy, assert_expected, load};
use e2e::cli::{Cli, Output};
use e2e::shared;

/// A call of the program. `{folder}` is the folder of the files, `{broker}` the shared broker,
/// `{taken}` an address that is in use. Nobody listens at `{nobody}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    arguments: Vec<String>,
    /// Variables beside `PROD_AMQP_URL`, which is that of the shared broker.
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// The contents of files by name. `{folder}` makes a folder, `{binary}` contains all bytes.
    #[serde(default)]
    files: BTreeMap<String, String>,
    /// The exit code. The default is 2, or 1 with a status.
    exit: Option<i64>,
}

struct Places {
    cli: Cli,
    known: Vec<(&'static str, String)>,
}

impl Places {
    fn fill(&self, text: &str) -> String {
        self.known.iter().fold(expand(text), |text, (name, place)| text.replace(name, place))
    }

    fn write(&self, name: &str, text: &str, pems: &Pems<'_>) {
        let path = self.cli.folder().join(name);
        let result = match text {
            "{folder}" => fs::create_dir(path),
            "{binary}" => fs::write(path, (0..=u8::MAX).cycle().skip(100).take(1000).collect::<Vec<_>>()),
            text => fs::write(path, pems.fill(&expand(text))),
        };
        result.expect("a file");
    }

    fn call(&self, input: &Input) -> Output {
        let arguments: Vec<_> = input.arguments.iter().map(|argument| self.fill(argument)).collect();
        let mut env: BTreeMap<_, _> = [
            ("PROD_AMQP_URL".to_owned(), shared().broker.url()),
            ("KUBECONFIG".to_owned(), "/nowhere".to_owned()),
            ("RUST_LOG".to_owned(), "off".to_owned()),
        ]
        .into();
        env.extend(input.env.iter().map(|(name, value)| (name.clone(), self.fill(value))));
        let env: Vec<_> = env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        self.cli.run(&arguments, &env)
    }

    fn with_placeholders(&self, message: &str) -> String {
        let known: Vec<_> = self.known.iter().map(|(name, place)| (place.as_str(), *name)).collect();
        with_placeholders(message, &known)
    }
}

#[test]
fn reports_bad_calls() {
    let entries: Vec<Entry<Input>> = COMMANDS.into_iter().flat_map(load).collect();
    let (taken, nobody) = (TcpListener::bind("127.0.0.1:0").expect("a port"), Port::reserve().expect("a free port"));
    let cli = Cli::new();
    let known = vec![
        ("{folder}", cli.folder().display().to_string()),
        ("{broker}", format!("localhost:{}", shared().broker.port())),
        ("{taken}", taken.local_addr().expect("an address").to_string()),
        ("{nobody}", format!("localhost:{}", nobody.number())),
    ];
    let places = Places { cli, known };
    let pems = Pems::new(shared().broker.pki());
    let outcomes = entries.iter().enumerate().map(|(index, entry)| {
        for (name, text) in &entry.input.files {
            places.write(name, text, &pems);
        }
        let output = places.call(&entry.input);
        let usual = match (entry.refused_by, &entry.reason) {
            (RefusedBy::Nobody, _) => 0,
            (_, Some(_)) => 1,
            (_, None) => 2,
        };
        let Outcome { reason, message } = outcome(&output);
        let message = places.with_placeholders(&message);
        let exit = entry.input.exit.unwrap_or(usual);
        let message = if output.code == exit { message } else { format!("(exit code {}) {message}", output.code) };
        (index, Outcome { reason, message })
    });
    assert_expected(&entries, outcomes.collect::<Vec<_>>());
}

/// Reads a status or an error from the output of the program.
fn outcome(output: &Output) -> Outcome {
    const HELP: &str = "For more information, try '--help'.";
    let error = output.err.trim_end();
    let error = error.strip_suffix(HELP).unwrap_or(error).trim_end();
    let error = ["fedora-message-operator: ", "error: "]
        .iter()
        .fold(error, |error, before| error.strip_prefix(before).unwrap_or(error));
    // NAME  ID  REASON: MESSAGE
    match output.out.trim_end().splitn(3, "  ").nth(2).and_then(|status| status.split_once(": ")) {
        Some((reason, message)) => Outcome { reason: Some(reason.to_owned()), message: format!("{message}{error}") },
        None => Outcome { reason: None, message: error.to_owned() },
    }
}
