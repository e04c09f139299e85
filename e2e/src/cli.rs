//! The program as a user runs it, without a cluster.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use rig::{ClientCert, Guard, wait_for};

use crate::shared::{SOON, program};

/// Runs the program in a folder of its own.
pub struct Cli {
    guard: Guard,
    calls: AtomicU32,
}

/// The exit code and the output of a call.
#[derive(Debug)]
pub struct Output {
    /// The exit code.
    pub code: i64,
    /// The standard output.
    pub out: String,
    /// The standard error.
    pub err: String,
}

impl Cli {
    /// Makes an empty folder.
    pub fn new() -> Self {
        Self { guard: Guard::new("cli").expect("a folder"), calls: AtomicU32::new(0) }
    }

    /// Returns the folder.
    pub fn folder(&self) -> &Path {
        self.guard.scratch()
    }

    /// Writes a file, and returns its path.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder().join(name);
        std::fs::write(&path, text).expect("the file is written");
        path
    }

    /// Writes a certificate, and returns the arguments that name its files.
    pub fn certificate(&self, certificate: &ClientCert) -> Vec<String> {
        let name = self.next("certificate");
        let files = certificate.write(self.folder(), &name).expect("the files are written");
        let argument = |flag: &str, path: &Path| [flag.to_owned(), path.display().to_string()];
        [argument("--ca", &files.ca), argument("--cert", &files.cert), argument("--key", &files.key)].concat()
    }

    /// Runs the program to its end.
    pub fn run<T: AsRef<str>>(&self, arguments: &[T], env: &[(&str, &str)]) -> Output {
        let mut command = Command::new(program());
        command.args(arguments.iter().map(AsRef::as_ref)).envs(env.iter().copied());
        let name = self.next("call");
        self.guard.start(&name, &command).expect("the program starts");
        let code = wait_for(SOON, "the program ends", || self.guard.exited(&name)).expect("the program ends");
        let read = |path| std::fs::read_to_string(path).expect("UTF-8");
        Output { code, out: read(self.guard.out(&name)), err: read(self.guard.err(&name)) }
    }

    /// Runs the program with the files of a certificate as last arguments.
    pub fn run_with(&self, certificate: &ClientCert, arguments: &[&str], env: &[(&str, &str)]) -> Output {
        let files = self.certificate(certificate);
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        self.run(&[arguments, &files].concat(), env)
    }

    /// Runs `check` for the environment `prod` with this broker.
    pub fn check(&self, url: &str, certificate: &ClientCert, more: &[&str]) -> Output {
        let arguments = [&["check", "--env", "prod", "--prod-amqp-url", url], more].concat();
        self.run_with(certificate, &arguments, &[])
    }

    fn next(&self, what: &str) -> String {
        format!("{what}-{}", self.calls.fetch_add(1, Ordering::Relaxed))
    }
}

impl Output {
    /// Returns standard output and standard error.
    pub fn all(&self) -> String {
        format!("{}{}", self.out, self.err)
    }

    /// Asserts the exit code, and that the output contains each of these texts.
    #[track_caller]
    pub fn expect(&self, code: i64, expected: &[&str]) {
        let output = self.all();
        assert_eq!(self.code, code, "{output}");
        for text in expected {
            assert!(output.contains(text), "{text:?} is not in\n{output}");
        }
    }
}
