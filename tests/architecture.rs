//! The rooms of the crate and the doors between them: which part may know what.
//!
//! Reads the sources as text: every path that is written in code, with groups in braces and
//! `super` resolved. Comments and texts don't count.

use std::fs;
use std::iter::Peekable;
use std::path::{Path, PathBuf};
use std::vec::IntoIter;

/// A room: its folder in `src`, the rooms it may look into beside itself, and the paths it may not
/// know.
const ROOMS: [(&str, &[&str], &[&str]); 3] = [
    ("message", &[], MESSAGE_KNOWS_NO),
    ("broker", &["message"], &["kube", "k8s_openapi", "hyper", "std::fs", "std::env", "std::process"]),
    ("cluster", &["message"], &["lapin", "tokio_rustls", "rustls_pemfile", "x509_parser", "ring"]),
];

/// Clients, clocks, chance, and everything else by which a function is more than its arguments.
const MESSAGE_KNOWS_NO: &[&str] = &[
    "kube::Api",
    "kube::Client",
    "kube::Config",
    "kube::api",
    "kube::client",
    "kube::config",
    "kube::runtime",
    "lapin",
    "tokio",
    "tokio_rustls",
    "futures",
    "hyper",
    "http",
    "ring",
    "fastrand",
    "tracing",
    "Utc::now",
    "Local::now",
    "chrono::Local",
    "Timestamp::now",
    "Uuid::new_v4",
    "std::env",
    "std::fs",
    "std::io",
    "std::net",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "Instant::now",
    "SystemTime::now",
];

#[test]
fn each_room_looks_only_into_rooms_it_may_know() {
    for (room, neighbours, _) in ROOMS {
        for (file, path) in paths_below(room) {
            let Some(other) = path.strip_prefix("crate::") else { continue };
            let other = other.split("::").next().unwrap();
            let allowed = other == room || neighbours.contains(&other);
            assert!(allowed, "{} uses {path}: {room} must not know {other}", file.display());
        }
    }
}

#[test]
fn no_room_knows_what_is_not_its_business() {
    for (room, _, strangers) in ROOMS {
        for (file, path) in paths_below(room) {
            let stranger = strangers.iter().find(|stranger| contains(&path, stranger));
            assert!(stranger.is_none(), "{} uses {path}, which {room} must not know", file.display());
        }
    }
}

#[test]
fn amqp_is_spoken_in_the_brokers_room_alone() {
    let mut speakers = 0;
    for (file, path) in paths_below("") {
        if contains(&path, "lapin") {
            speakers += 1;
            let inside = file.starts_with(source().join("broker"));
            assert!(inside, "{} uses {path}: only src/broker may", file.display());
        }
    }
    assert!(speakers > 0, "nobody speaks AMQP: this test sees nothing");
}

#[test]
fn the_reader_of_paths_sees_through_all_ways_to_write_them() {
    for (text, expected) in [
        ("use kube::Client;", "kube::Client"),
        ("use kube::{Api, Client};", "kube::Client"),
        ("use {lapin as amqp, serde};", "lapin"),
        ("use ::lapin::Channel;", "lapin::Channel"),
        ("use crate::{broker, message};", "crate::broker"),
        (
            "use crate::{message::{outcome::Reason, secret}, broker::{errors::{self, Peers}}};",
            "crate::broker::errors::Peers",
        ),
        ("use crate::broker::*;", "crate::broker"),
        ("use super::super::broker::pool;", "crate::broker::pool"),
        ("use super::envelope;", "crate::message::envelope"),
        ("fn f() -> crate :: broker\n::errors::Peers {}", "crate::broker::errors::Peers"),
        ("let now = chrono::Utc::now();", "chrono::Utc::now"),
        ("fn f<'a>(c: char) { g('\"', '\\'', b'\"'); tokio::spawn() }", "tokio::spawn"),
        (r##"f(r#"a " quote"#, "\" // no comment", b"x\\"); tokio::spawn()"##, "tokio::spawn"),
        ("#[derive(kube::CustomResource)] struct A;", "kube::CustomResource"),
        ("f!(tokio::select)", "tokio::select"),
        ("extern crate lapin;", "lapin"),
    ] {
        let found = paths(text, &["message"]);
        assert!(found.iter().any(|path| path == expected), "{text}: {found:?}");
    }
    for text in
        ["// lapin::Channel", "/// [`lapin::Channel`]", "/* a /* lapin */ b lapin */", r#""lapin""#, "r#\"lapin\"#"]
    {
        let found = paths(text, &["message"]);
        assert!(!found.iter().any(|path| contains(path, "lapin")), "{text}: {found:?}");
    }
    assert!(contains("kube::runtime::watcher", "kube::runtime"));
    assert!(contains("chrono::Utc::now", "Utc::now"));
    assert!(!contains("kube::runtimes", "kube::runtime"));
    assert!(!contains("xlapin::lapins", "lapin"));
}

/// Whether `path` has all of `part` somewhere, by whole words.
fn contains(path: &str, part: &str) -> bool {
    format!("::{path}::").contains(&format!("::{part}::"))
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Every path in every file of a room, or of the whole crate.
fn paths_below(room: &str) -> Vec<(PathBuf, String)> {
    let files = files(&source().join(room));
    assert!(files.len() > 2, "src/{room} has moved: {files:?}");
    let found: Vec<_> = files
        .into_iter()
        .flat_map(|file| {
            let relative = file.strip_prefix(source()).unwrap().with_extension("");
            let mut module: Vec<_> = relative.iter().map(|name| name.to_str().unwrap()).collect();
            if let Some("mod" | "lib" | "main") = module.last().copied() {
                module.pop();
            }
            // Where `super` leads from here.
            module.pop();
            let paths = paths(&fs::read_to_string(&file).unwrap(), &module);
            paths.into_iter().map(move |path| (file.clone(), path)).collect::<Vec<_>>()
        })
        .collect();
    assert!(found.len() > 100, "src/{room} has only {} paths: this test sees nothing", found.len());
    found
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// Every path that is written in `text`, a file whose `super` is `parent`.
fn paths(text: &str, parent: &[&str]) -> Vec<String> {
    let mut tokens = tokens(text).into_iter().peekable();
    let mut found = Vec::new();
    while let Some(token) = tokens.next() {
        match token {
            // `use ::name` is a path that begins with `name`.
            Token::Word(word) if word != "use" => follow(vec![word], &mut tokens, &mut found),
            Token::Word(_) | Token::Colons | Token::Other(_) => {}
        }
    }
    found.iter().map(|path| resolve(path, parent)).collect()
}

/// Collects the path that begins with `path`, or the paths if it ends in a group.
fn follow(mut path: Vec<String>, tokens: &mut Peekable<IntoIter<Token>>, found: &mut Vec<Vec<String>>) {
    while tokens.next_if_eq(&Token::Colons).is_some() {
        match tokens.next_if(|token| matches!(token, Token::Word(_) | Token::Other('{'))) {
            Some(Token::Word(word)) => path.push(word),
            Some(_) => return group(&path, tokens, found),
            // A glob, or generic arguments.
            None => break,
        }
    }
    found.push(path);
}

/// Collects the paths of a group, the opening brace of which is behind us.
fn group(path: &[String], tokens: &mut Peekable<IntoIter<Token>>, found: &mut Vec<Vec<String>>) {
    while let Some(token) = tokens.next() {
        match token {
            Token::Other('}') => return,
            Token::Word(word) => follow([path, &[word]].concat(), tokens, found),
            Token::Colons | Token::Other(_) => {}
        }
    }
}

fn resolve(path: &[String], parent: &[&str]) -> String {
    let supers = path.iter().take_while(|word| *word == "super").count();
    if supers == 0 {
        return path.join("::");
    }
    // One level of `super` leads to the parent, each further one out of it.
    let above = &parent[..parent.len().saturating_sub(supers - 1)];
    let below = path[supers..].iter().map(String::as_str);
    std::iter::once("crate").chain(above.iter().copied()).chain(below).collect::<Vec<_>>().join("::")
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Colons,
    Other(char),
}

/// The tokens of Rust code, as far as paths go: without comments, texts and lifetimes.
fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            comment(rest)
        } else if let Some(length) = raw_text(rest) {
            length
        } else if first == '"' {
            quoted(rest, '"')
        } else if first == '\'' {
            character(rest)
        } else if rest.starts_with("::") {
            tokens.push(Token::Colons);
            2
        } else if first.is_alphabetic() || first == '_' {
            let length = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            tokens.push(Token::Word(rest[..length].to_owned()));
            length
        } else {
            if !first.is_whitespace() {
                tokens.push(Token::Other(first));
            }
            first.len_utf8()
        };
        rest = &rest[length..];
    }
    tokens
}

/// How long a block comment is, with those within it.
fn comment(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < text.len() {
        let step = match &text.as_bytes()[at..] {
            [b'/', b'*', ..] => {
                depth += 1;
                2
            }
            [b'*', b'/', ..] => {
                depth -= 1;
                2
            }
            _ => 1,
        };
        at += step;
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

/// How long a raw text is, if one begins here.
fn raw_text(text: &str) -> Option<usize> {
    let after = text.strip_prefix("br").or_else(|| text.strip_prefix('r'))?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    let inside = after[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = inside.find(&end).map_or(inside.len(), |at| at + end.len());
    Some(text.len() - inside.len() + length)
}

/// How long a text in quotes is.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// How long a character, or the tick of a lifetime, is.
fn character(text: &str) -> usize {
    let mut inside = text.chars().skip(1);
    match (inside.next(), inside.next()) {
        (Some('\\'), _) | (Some(_), Some('\'')) => quoted(text, '\''),
        _ => 1,
    }
}
