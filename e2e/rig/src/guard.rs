//! Ends all child processes with their owner: at its normal end, and after a panic, Ctrl-C or
//! SIGKILL.
//!
//! A [`Guard`] owns a scratch folder and any number of server processes. It runs them through a
//! small keeper (`keeper.py`), whose standard input is a pipe that only this process holds. When
//! the pipe closes, the keeper kills all processes that it started, with their descendants, and
//! removes the folder.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};

use crate::{cores::confine, json_lines::JsonLines, wait::wait_for};

const KEEPER: &str = include_str!("keeper.py");

/// Owns processes and their scratch folder. Its drop kills the processes and removes the folder.
#[derive(Debug)]
pub struct Guard {
    scratch: PathBuf,
    keeper: Mutex<JsonLines>,
}

/// A signal for a process of a guard; see [`Guard::signal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM: end cleanly.
    Terminate = 15,
    /// SIGINT: the signal of Ctrl-C.
    Interrupt = 2,
    /// SIGCONT: resume after [`Signal::Freeze`].
    Thaw = 18,
    /// SIGSTOP: freeze, with all connections open.
    Freeze = 19,
}

impl Guard {
    /// Starts a keeper with an empty scratch folder. The folder's name contains `name`.
    pub fn new(name: &str) -> Result<Self> {
        let mut command = Command::new("python3");
        command.args(["-I", "-S", "-c", KEEPER, name]).process_group(0);
        let mut keeper = JsonLines::start(&mut command).context("python3 does not start: apt-get install python3")?;
        let answer = keeper.answer().context("no scratch folder")?;
        let scratch = answer["ok"].as_str().context("no scratch folder")?.into();
        Ok(Self { scratch, keeper: Mutex::new(keeper) })
    }

    /// Returns the scratch folder.
    #[must_use]
    pub fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// Starts `command` under `name` and returns its process id.
    ///
    /// It uses the program, arguments, working folder (default: the scratch folder) and environment
    /// of `command`. The output goes to [`Guard::out`] and [`Guard::err`]. A second start under the
    /// same name, after the first process has ended, appends to them.
    pub fn start(&self, name: &str, command: &Command) -> Result<u32> {
        let text = |part: &std::ffi::OsStr| part.to_string_lossy().into_owned();
        let argv: Vec<_> = std::iter::once(command.get_program()).chain(command.get_args()).map(text).collect();
        let mut env = BTreeMap::new();
        let mut unset = Vec::new();
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => drop(env.insert(text(key), text(value))),
                None => unset.push(text(key)),
            }
        }
        let pid = self
            .ask(&json!({
                "do": "start", "name": name, "argv": argv, "env": env, "unset": unset,
                "cwd": command.get_current_dir(),
            }))
            .with_context(|| format!("{} does not start", argv[0]))?;
        u32::try_from(pid.as_u64().unwrap_or_default()).context("no process id")
    }

    /// Returns a name that no other guard has: that of its scratch folder.
    #[must_use]
    pub fn unique_name(&self) -> String {
        self.scratch.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Creates a control group with the name [`Guard::unique_name`] below the root of every hierarchy.
    /// The keeper removes it after the processes have ended.
    pub fn make_control_group(&self) -> Result<()> {
        self.ask(&json!({"do": "group", "name": self.unique_name()})).map(drop)
    }

    /// Sends a signal to `name` and its helpers.
    pub fn signal(&self, name: &str, signal: Signal) -> Result<()> {
        self.ask(&json!({"do": "signal", "name": name, "number": signal as u8})).map(drop)
    }

    /// Restricts `name` and its helpers to these CPU cores.
    pub fn confine(&self, name: &str, cores: &[usize]) -> Result<()> {
        let processes: Vec<u32> = serde_json::from_value(self.ask(&json!({"do": "members", "name": name}))?)?;
        processes.into_iter().try_for_each(|process| confine(process, cores))
    }

    /// Ends `name` cleanly (SIGTERM), and waits for its end. Returns false if it did not end within
    /// `grace` and was killed.
    pub fn stop(&self, name: &str, grace: Duration) -> Result<bool> {
        self.ask(&json!({"do": "stop", "name": name, "grace": grace.as_secs_f64()})).map(|clean| clean == true)
    }

    /// Kills `name` (SIGKILL) with its helpers, and waits for their end.
    pub fn kill(&self, name: &str) -> Result<()> {
        self.ask(&json!({"do": "kill", "name": name})).map(drop)
    }

    /// Returns the exit code of `name`, or `None` while it runs. A negative code is the signal that
    /// ended it.
    pub fn exited(&self, name: &str) -> Result<Option<i64>> {
        self.ask(&json!({"do": "exited", "name": name})).map(|code| code.as_i64())
    }

    /// Returns the path of the standard output of `name`.
    #[must_use]
    pub fn out(&self, name: &str) -> PathBuf {
        self.scratch.join(format!("{name}.out"))
    }

    /// Returns the path of the standard error of `name`.
    #[must_use]
    pub fn err(&self, name: &str) -> PathBuf {
        self.scratch.join(format!("{name}.err"))
    }

    /// Waits until `ready` returns true.
    ///
    /// If `name` ends first, or after the time limit `within`, the error has the last lines of its
    /// output.
    pub fn wait_ready(&self, name: &str, within: Duration, mut ready: impl FnMut() -> bool) -> Result<()> {
        wait_for(within, &format!("{name} to be ready"), || {
            if ready() {
                return Ok(Some(()));
            }
            match self.exited(name)? {
                Some(code) => bail!("{name} ended during its start, exit code {code}"),
                None => Ok(None),
            }
        })
        .with_context(|| format!("last output of {name}:\n{}", self.last_output(name)))
    }

    /// Returns the last lines that `name` printed on standard output and standard error.
    #[must_use]
    pub fn last_output(&self, name: &str) -> String {
        [self.out(name), self.err(name)]
            .iter()
            .map(|file| fs::read(file).unwrap_or_default())
            .map(|bytes| tail(&String::from_utf8_lossy(&bytes), 15))
            .collect()
    }

    fn ask(&self, request: &Value) -> Result<Value> {
        let mut keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        let mut answer = keeper.ask(request).context("no answer from the keeper of the processes")?;
        match answer["error"].as_str() {
            Some(error) => Err(anyhow!("{error}")),
            None => Ok(answer["ok"].take()),
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // The keeper ends by itself once it has cleaned up.
        self.keeper.get_mut().unwrap_or_else(PoisonError::into_inner).end();
    }
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<_> = text.lines().collect();
    let last = &all[all.len().saturating_sub(lines)..];
    last.iter().flat_map(|line| ["  ", line, "\n"]).collect()
}
