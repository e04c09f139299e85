//! Tests that no process outlives its owner, for each end of the owner.

use std::{
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use rig::{Guard, wait_for, wait_until};

const SOON: Duration = Duration::from_secs(30);

/// Starts `rig up` in its own process group, as a shell does. Returns it with its environment file.
fn rig_up(folder: &Path) -> (Child, PathBuf) {
    let env_file = folder.join("env");
    let rig = Command::new(env!("CARGO_BIN_EXE_rig"))
        .args(["up", "--env-file"])
        .arg(&env_file)
        .env("TMPDIR", folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap();
    wait_until(Duration::from_secs(90), "rig up", || {
        fs::read_to_string(&env_file).is_ok_and(|text| text.contains("RIG_PID"))
    })
    .unwrap();
    (rig, env_file)
}

fn signal(target: &str, signal: &str) {
    let status = Command::new("kill").args([signal, "--", target]).status().unwrap();
    assert!(status.success());
}

/// Returns the command lines of processes that name the folder. All servers of a rig name it.
fn processes_of(folder: &Path) -> Vec<String> {
    let folder = folder.to_str().unwrap();
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| {
            let entry = entry.unwrap().path();
            let environment = fs::read(entry.join("environ")).unwrap_or_default();
            let command = fs::read(entry.join("cmdline")).unwrap_or_default();
            let has = |bytes: &[u8]| String::from_utf8_lossy(bytes).contains(folder);
            (has(&command) || has(&environment)).then(|| String::from_utf8_lossy(&command).replace('\0', " "))
        })
        .collect()
}

fn assert_nothing_left(folder: &Path) {
    let left = || {
        let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        let folders: Vec<_> = files.filter(|name| name != "env").collect();
        (processes_of(folder), folders)
    };
    let gone = wait_for(SOON, "everything to be gone", || {
        let (processes, folders) = left();
        Ok((processes.is_empty() && folders.is_empty()).then_some(()))
    });
    assert!(gone.is_ok(), "{:?}", left());
}

#[test]
fn cleans_up_after_sigkill_or_ctrl_c() {
    for (name, number) in [("sigkill", "-KILL"), ("ctrl-c", "-INT")] {
        let home = Guard::new("guard-test").unwrap();
        let folder = home.scratch().join(name);
        fs::create_dir(&folder).unwrap();
        let (mut rig, env_file) = rig_up(&folder);
        assert!(processes_of(&folder).iter().any(|command| command.contains("beam")));

        // Signal the whole process group, as Ctrl-C in a terminal does.
        signal(&format!("-{}", rig.id()), number);
        let status = rig.wait().unwrap();

        assert_nothing_left(&folder);
        let clean = number == "-INT";
        assert_eq!(status.success(), clean, "{name}: {status}");
        assert_eq!(env_file.exists(), !clean, "{name}");
    }
}

#[test]
fn ends_daemons() {
    let guard = Guard::new("daemon-test").unwrap();
    let scratch = guard.scratch().to_owned();
    let mut command = Command::new("sh");
    command.args(["-c", "setsid sleep 1000 & exit 0"]);
    command.env("MARK", &scratch);
    guard.start("daemon", &command).unwrap();
    let sleeping = || processes_of(&scratch).iter().any(|command| command.contains("sleep 1000"));
    wait_until(SOON, "the daemon", sleeping).unwrap();

    drop(guard);

    assert!(!sleeping());
    assert!(!scratch.exists());
}

#[test]
fn reports_output_of_failed_start() {
    let guard = Guard::new("output-test").unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", "echo no such luck; exit 3"]);
    guard.start("server", &command).unwrap();
    let error = guard.wait_ready("server", SOON, || false).unwrap_err();
    let text = format!("{error:#}");
    assert!(text.contains("no such luck"), "{text}");
    assert!(text.contains("exit code 3"), "{text}");
}

#[test]
fn confines_server_to_cores() {
    let guard = Guard::new("confine-test").unwrap();
    let mut command = Command::new("sleep");
    command.arg("1000");
    let process = guard.start("server", &command).unwrap();

    guard.confine("server", &[0]).unwrap();

    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    assert!(status.contains("\nCpus_allowed_list:\t0\n"), "{status}");
}

#[test]
fn names_missing_program() {
    let guard = Guard::new("missing-test").unwrap();
    let error = guard.start("server", &Command::new("no-such-program")).unwrap_err();
    assert!(format!("{error:#}").contains("no-such-program"), "{error:#}");
}
