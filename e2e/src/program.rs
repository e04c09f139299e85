//! The program as a person calls it, without a cluster: arguments in, an exit code and words out.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use rig::{ClientCert, Guard, wait_for};

use crate::world::{SOON, program};

/// A folder in which the program is called.
pub struct Shell {
    guard: Guard,
    calls: AtomicU32,
}

/// What came of a call.
#[derive(Debug)]
pub struct Ran {
    /// The exit code.
    pub code: i64,
    /// What it printed.
    pub out: String,
    /// What it complained.
    pub err: String,
}

impl Shell {
    /// An empty folder.
    pub fn new() -> Self {
        Self { guard: Guard::new("shell").expect("a folder"), calls: AtomicU32::new(0) }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        self.guard.scratch()
    }

    /// Writes a file.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder().join(name);
        std::fs::write(&path, text).expect("the file is written");
        path
    }

    /// Writes a certificate, and returns the arguments that name it.
    pub fn certificate(&self, certificate: &ClientCert) -> Vec<String> {
        let name = self.next("certificate");
        let files = certificate.write(self.folder(), &name).expect("the files are written");
        let argument = |flag: &str, path: &Path| [flag.to_owned(), path.display().to_string()];
        [argument("--ca", &files.ca), argument("--cert", &files.cert), argument("--key", &files.key)].concat()
    }

    /// Calls the program and waits for its end.
    pub fn run<T: AsRef<str>>(&self, arguments: &[T], env: &[(&str, &str)]) -> Ran {
        let mut command = Command::new(program());
        command.args(arguments.iter().map(AsRef::as_ref)).envs(env.iter().copied());
        let name = self.next("call");
        self.guard.start(&name, &command).expect("the program starts");
        let code = wait_for(SOON, "the program ends", || self.guard.exited(&name)).expect("the program ends");
        let read = |path| std::fs::read_to_string(path).expect("UTF-8");
        Ran { code, out: read(self.guard.out(&name)), err: read(self.guard.err(&name)) }
    }

    /// Calls `check` for production's broker, which is said to be at `url`.
    pub fn check(&self, url: &str, certificate: &ClientCert, more: &[&str]) -> Ran {
        let given = ["check", "--env", "prod", "--prod-amqp-url", url];
        let arguments: Vec<String> = given.iter().chain(more).map(ToString::to_string).collect();
        self.run(&[arguments, self.certificate(certificate)].concat(), &[])
    }

    fn next(&self, what: &str) -> String {
        format!("{what}-{}", self.calls.fetch_add(1, Ordering::Relaxed))
    }
}

impl Ran {
    /// Checks the exit code, and that each of these words was said.
    #[track_caller]
    pub fn expect(&self, code: i64, words: &[&str]) {
        let said = format!("{}{}", self.out, self.err);
        assert_eq!(self.code, code, "{said}");
        for part in words {
            assert!(said.contains(part), "{part:?} is not in\n{said}");
        }
    }
}
