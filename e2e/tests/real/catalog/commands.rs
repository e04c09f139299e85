//! What is wrong with flags, variables, and the files that they name: said by the program at once.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;

use rig::port::Port;
use serde::Deserialize;

use super::pem::Pems;
use super::text::{expand, with_placeholders};
use super::{COMMANDS, Entry, RefusedBy, Said, all_as_expected, load};
use e2e::program::{Ran, Shell};
use e2e::world::world;

/// A call of the program. `{folder}` is where the files are, `{broker}` the usual broker, `{taken}` an
/// address that somebody else serves on; nobody listens at `{nobody}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    arguments: Vec<String>,
    /// Beside `PROD_AMQP_URL`, which is the usual broker's.
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// What stands in the files, by name; `{folder}` alone makes a folder, `{binary}` all bytes.
    #[serde(default)]
    files: BTreeMap<String, String>,
    /// The exit code, if it is another than 2, or than 1 for what has a status.
    exit: Option<i64>,
}

struct Places {
    shell: Shell,
    known: Vec<(&'static str, String)>,
}

impl Places {
    fn fill(&self, text: &str) -> String {
        self.known.iter().fold(expand(text), |text, (name, place)| text.replace(name, place))
    }

    fn write(&self, name: &str, text: &str, pems: &Pems<'_>) {
        let path = self.shell.folder().join(name);
        let done = match text {
            "{folder}" => fs::create_dir(path),
            "{binary}" => fs::write(path, (0..=u8::MAX).cycle().skip(100).take(1000).collect::<Vec<_>>()),
            text => fs::write(path, pems.fill(&expand(text))),
        };
        done.expect("it is written");
    }

    fn call(&self, input: &Input) -> Ran {
        let arguments: Vec<_> = input.arguments.iter().map(|argument| self.fill(argument)).collect();
        let mut env: BTreeMap<_, _> = [
            ("PROD_AMQP_URL".to_owned(), world().broker.url()),
            ("KUBECONFIG".to_owned(), "/nowhere".to_owned()),
            ("RUST_LOG".to_owned(), "off".to_owned()),
        ]
        .into();
        env.extend(input.env.iter().map(|(name, value)| (name.clone(), self.fill(value))));
        let env: Vec<_> = env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        self.shell.run(&arguments, &env)
    }

    fn with_placeholders(&self, words: &str) -> String {
        let known: Vec<_> = self.known.iter().map(|(name, place)| (place.as_str(), *name)).collect();
        with_placeholders(words, &known)
    }
}

#[test]
fn what_is_wrong_with_a_call_is_said_in_these_words() {
    let entries: Vec<Entry<Input>> = COMMANDS.into_iter().flat_map(load).collect();
    let (taken, nobody) = (TcpListener::bind("127.0.0.1:0").expect("a port"), Port::reserve().expect("a free port"));
    let shell = Shell::new();
    let known = vec![
        ("{folder}", shell.folder().display().to_string()),
        ("{broker}", format!("localhost:{}", world().broker.port())),
        ("{taken}", taken.local_addr().expect("an address").to_string()),
        ("{nobody}", format!("localhost:{}", nobody.number())),
    ];
    let places = Places { shell, known };
    let pems = Pems::new(world().broker.pki());
    let said = entries.iter().enumerate().map(|(index, entry)| {
        for (name, text) in &entry.input.files {
            places.write(name, text, &pems);
        }
        let ran = places.call(&entry.input);
        let usual = match (entry.refused_by, &entry.reason) {
            (RefusedBy::Nobody, _) => 0,
            (_, Some(_)) => 1,
            (_, None) => 2,
        };
        let Said { reason, words } = said(&ran);
        let words = places.with_placeholders(&words);
        let exit = entry.input.exit.unwrap_or(usual);
        let words = if ran.code == exit { words } else { format!("(exit code {}) {words}", ran.code) };
        (index, Said { reason, words })
    });
    all_as_expected(&entries, said.collect::<Vec<_>>());
}

/// What the program printed: a status, or a complaint without what stands before and after each.
fn said(ran: &Ran) -> Said {
    const HELP: &str = "For more information, try '--help'.";
    let complaint = ran.err.trim_end();
    let complaint = complaint.strip_suffix(HELP).unwrap_or(complaint).trim_end();
    let complaint = ["fedora-message-operator: ", "error: "]
        .iter()
        .fold(complaint, |words, before| words.strip_prefix(before).unwrap_or(words));
    // NAME  ID  REASON: WORDS
    match ran.out.trim_end().splitn(3, "  ").nth(2).and_then(|status| status.split_once(": ")) {
        Some((reason, words)) => Said { reason: Some(reason.to_owned()), words: format!("{words}{complaint}") },
        None => Said { reason: None, words: complaint.to_owned() },
    }
}
