//! Checks that the pages name only files, headings, commands, flags, variables, metrics and recipes that
//! exist.
//!
//! The examples are tested on real parts (`e2e/tests/real/docs.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use fedora_message_operator::cli;

/// Flags in running text that belong to kubectl, Helm, the compilers and our scripts.
const FOREIGN_FLAGS: [&str; 8] = [
    "--for",
    "--force-conflicts",
    "--icf",
    "--platform",
    "--remap-path-prefix",
    "--server-side",
    "--set",
    "--take-ownership",
];
/// Variables that have no flag, and those of tests, benchmarks, libraries and the kernel.
const FOREIGN_VARIABLES: [&str; 7] = [
    "CLOCK_BOOTTIME",
    "FAULTS_MESSAGES",
    "FAULTS_SEED",
    "KUBEBUILDER_ASSETS",
    "RUST_LOG",
    "SENDER_MESSAGES",
    "TCP_NODELAY",
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The Markdown files of a folder and those below.
fn pages_in(folder: &Path, found: &mut BTreeMap<PathBuf, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            pages_in(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.insert(path.clone(), read(&path));
        }
    }
}

/// All pages for people.
fn pages() -> BTreeMap<PathBuf, String> {
    let mut pages = BTreeMap::new();
    for folder in ["docs", "charts", "manifests"] {
        pages_in(&root().join(folder), &mut pages);
    }
    for name in ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"] {
        pages.insert(root().join(name), read(&root().join(name)));
    }
    assert!(pages.len() > 80, "{} pages", pages.len());
    pages
}

/// The path of a page as its readers know it.
fn name(page: &Path) -> String {
    page.strip_prefix(root()).unwrap().display().to_string()
}

/// A page without its blocks of code, and these blocks with their language.
fn split(text: &str) -> (String, Vec<(&str, String)>) {
    let (mut prose, mut blocks) = (String::new(), Vec::<(&str, String)>::new());
    let mut inside = false;
    for line in text.lines() {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            inside = !inside;
            if inside {
                blocks.push((language, String::new()));
            }
        } else if let Some((_, block)) = blocks.last_mut().filter(|_| inside) {
            *block += line;
            block.push('\n');
        } else {
            prose += line;
            prose.push('\n');
        }
    }
    (prose, blocks)
}

/// The texts between backticks.
fn code_spans(prose: &str) -> impl Iterator<Item = &str> {
    prose.split("\n\n").flat_map(|paragraph| paragraph.split('`').skip(1).step_by(2))
}

/// The anchor that GitHub and Forgejo give a heading.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn anchors(text: &str) -> BTreeSet<String> {
    split(text).0.lines().filter(|line| line.starts_with('#')).map(anchor).collect()
}

#[test]
fn links_and_anchors_resolve() {
    let pages = pages();
    let mut wrong = Vec::new();
    for (page, text) in &pages {
        let (prose, _) = split(text);
        let links = prose.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.contains("://")) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            let Ok(target) = target.canonicalize() else {
                wrong.push(format!("{}: {link}: no such file", name(page)));
                continue;
            };
            if !anchor.is_empty() && !anchors(&read(&target)).contains(anchor) {
                wrong.push(format!("{}: {link}: no such heading", name(page)));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_heading_is_empty() {
    for (page, text) in pages() {
        let mut last: Option<&str> = None;
        let level = |heading: &str| heading.chars().take_while(|c| *c == '#').count();
        let (prose, _) = split(&text.replace("```\n", "```\ncode\n"));
        for line in prose.lines().filter(|line| !line.trim().is_empty()) {
            let is_heading = line.starts_with('#');
            let is_empty = is_heading && last.is_some_and(|last| level(last) > 1 && level(last) >= level(line));
            assert!(!is_empty, "{}: nothing below {last:?}", name(&page));
            last = is_heading.then_some(line);
        }
    }
}

/// The lines of shell in a page, split into words, with the continued lines joined.
fn commands(text: &str) -> Vec<Vec<String>> {
    let (_, blocks) = split(text);
    let mut commands = Vec::new();
    for (language, block) in blocks {
        let block = block.replace("\\\n", " ");
        let lines = block.lines().map(str::trim).filter_map(|line| match language {
            "sh" | "bash" | "shell" => Some(line),
            "text" | "console" => line.strip_prefix("$ "),
            _ => None,
        });
        for line in lines {
            for command in line.split(['|', ';', '>', '&']) {
                commands.extend(shlex::split(command));
            }
        }
    }
    commands
}

/// The arguments after the program's name, if a command runs it, here or in a Pod.
fn arguments(words: &[String]) -> Option<&[String]> {
    let is_ours = |word: &str| word.rsplit('/').next() == Some("fedora-message-operator");
    let start = words.iter().position(|word| word == "--").map_or(0, |at| at + 1);
    let start = start + words[start..].iter().take_while(|word| word.contains('=')).count();
    words.get(start).filter(|word| is_ours(word)).map(|_| &words[start..])
}

#[test]
fn commands_are_understood() {
    let mut run = 0;
    for (page, text) in pages() {
        for words in commands(&text) {
            let Some(arguments) = arguments(&words) else { continue };
            // A word in capitals stands for the reader's own.
            let own = |word: &String| if *word == word.to_uppercase() { word.to_lowercase() } else { word.clone() };
            let arguments: Vec<_> = arguments.iter().map(own).collect();
            run += 1;
            if let Err(error) = cli::definition().try_get_matches_from(&arguments)
                && !matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion)
            {
                panic!("{}: {arguments:?}: {error}", name(&page));
            }
        }
    }
    assert!(run > 20, "{run} commands");
}

/// All flags and variables of the program.
fn flags_and_variables() -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut flags, mut variables) = (BTreeSet::new(), BTreeSet::new());
    let mut commands = vec![cli::definition()];
    while let Some(mut command) = commands.pop() {
        command.build();
        for argument in command.get_arguments() {
            flags.extend(argument.get_long().map(|flag| format!("--{flag}")));
            variables.extend(argument.get_env().map(|name| name.to_string_lossy().into_owned()));
        }
        commands.extend(command.get_subcommands().cloned());
    }
    (flags, variables)
}

#[test]
fn flags_and_variables_exist() {
    let (mut flags, mut variables) = flags_and_variables();
    flags.extend(FOREIGN_FLAGS.map(str::to_owned));
    variables.extend(FOREIGN_VARIABLES.map(str::to_owned));
    let is_variable = |word: &str| {
        word.contains('_')
            && word.starts_with(|c: char| c.is_ascii_uppercase())
            && word.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
    };
    let is_foreign_command = |span: &str| {
        let first = span.split_whitespace().next().unwrap_or_default();
        !first.starts_with("--")
            && !is_variable(first.split('=').next().unwrap_or_default())
            && !["fedora-message-operator", "publish", "check", "run"].contains(&first)
    };
    let mut wrong = BTreeMap::<String, String>::new();
    for (page, text) in pages() {
        let prose = split(&text).0;
        let spans = code_spans(&prose).filter(|span| !is_foreign_command(span));
        for word in spans.flat_map(str::split_whitespace) {
            let word = word.split(['=', ',', '[', ']', '"', '\'', ')', '|']).next().unwrap_or_default();
            let exists = match word {
                "--" => true,
                flag if flag.starts_with("--") => flags.contains(flag),
                name if is_variable(name) => variables.contains(name),
                _ => true,
            };
            if !exists {
                wrong.insert(word.to_owned(), name(&page));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn metrics_exist() {
    const PREFIX: &str = "fedora_message_operator_";
    let word =
        |text: &str| text.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default().to_owned();
    let metrics = |text: &str| text.split(PREFIX).skip(1).map(word).collect::<BTreeSet<_>>();
    let known = metrics(&read(&root().join("docs/metrics.md")));
    for (page, text) in pages() {
        for metric in metrics(&text) {
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| metric.strip_suffix(suffix));
            assert!(
                metric.is_empty() || known.contains(&metric) || base.is_some_and(|base| known.contains(base)),
                "{}: {PREFIX}{metric}",
                name(&page)
            );
        }
    }
}

#[test]
fn recipes_exist() {
    let justfile = read(&root().join("Justfile"));
    let recipes: BTreeSet<_> = justfile
        .lines()
        .filter(|line| !line.starts_with([' ', '#', '\t']))
        .filter_map(|line| line.split([' ', ':']).next())
        .collect();
    for (page, text) in pages() {
        let in_prose = split(&text).0;
        let in_prose = code_spans(&in_prose).filter_map(|span| span.strip_prefix("just ")).map(str::to_owned);
        let in_blocks = commands(&text).into_iter().filter(|words| words.first().is_some_and(|word| word == "just"));
        let in_blocks = in_blocks.filter_map(|words| words.get(1).cloned());
        for recipe in in_prose.chain(in_blocks) {
            let recipe = recipe.split_whitespace().next().unwrap_or_default();
            let is_known = recipe.starts_with('-') || recipes.contains(recipe);
            assert!(is_known, "{}: just {recipe}", name(&page));
        }
    }
}
