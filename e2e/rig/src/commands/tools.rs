//! `rig tools`: finds, downloads or builds everything that the other commands start.

use std::{path::Path, thread, time::Instant};

use anyhow::{Context, Result, ensure};
use rig::{
    base_images, debian, helm, images,
    kube::{any_binaries, binaries, node_binaries, proxy_binary},
    packages::{install_command, is_on_path},
    python::Python,
    rabbitmq::RabbitMq,
    services,
};

use super::say;

/// The name of a part that takes minutes to get the first time, and the function that returns its place.
pub(crate) type Tool = (&'static str, fn() -> Result<String>);

/// The tools of every command.
const TOOLS: [Tool; 2] =
    [("Python", || Ok(text(&Python::get()?.interpreter()))), ("RabbitMQ", || Ok(text(&RabbitMq::find()?.place())))];
/// The further tools of a command without a node, and of one with a node.
const SERVER_TOOLS: [Tool; 1] = [("Kubernetes", || any_binaries().map(|path| text(&path)))];
const NODE_TOOLS: [Tool; 3] = [
    ("Kubernetes", || binaries().map(|path| text(&path))),
    ("Node", || node_binaries().map(|path| text(&path))),
    ("Images", || Ok(images::archives()?.map(|path| text(&path)).join(" "))),
];
/// The tools that only tests need: those of a Docker engine, RabbitMQ 4.0, Ansible, Helm, and those
/// of Service addresses.
const TEST_TOOLS: [Tool; 7] = [
    ("Docker", || debian::docker().map(|path| text(&path))),
    ("RabbitMQ's image", || base_images::rabbitmq().map(|image| text(image.archive()))),
    ("Python's image", || base_images::python().map(|image| text(image.archive()))),
    ("RabbitMQ 4.0", || debian::rabbitmq().map(|path| text(&path))),
    ("Ansible", || Ok(text(&Python::with_ansible()?.interpreter()))),
    ("Helm", || helm::program().map(|path| text(&path))),
    ("Services", || {
        services::Programs::get()?;
        proxy_binary().map(|path| text(&path))
    }),
];
/// The programs that a node needs, and their packages.
const NODE_PROGRAMS: [(&str, &str); 5] = [
    ("containerd", "containerd"),
    ("runc", "runc"),
    ("unshare", "util-linux"),
    ("ip", "iproute2"),
    ("mmdebstrap", "mmdebstrap"),
];

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Gets each tool, and prints its location and the time that took.
pub(crate) fn run() -> Result<()> {
    for (name, place, seconds) in get(true, &TEST_TOOLS)? {
        say::part(name, &format!("{place}  ({seconds:.1} s)"));
    }
    Ok(())
}

/// Gets all tools at the same time. Returns the name, the place and the seconds of each.
pub(crate) fn get(node: bool, more: &[Tool]) -> Result<Vec<(&'static str, String, f32)>> {
    check(node)?;
    let node_tools = if node { &NODE_TOOLS[..] } else { &SERVER_TOOLS };
    let tools: Vec<&Tool> = TOOLS.iter().chain(node_tools).chain(more).collect();
    thread::scope(|scope| {
        let getting: Vec<_> = tools.iter().map(|tool| scope.spawn(|| get_one(tool))).collect();
        // All end before an error is returned, so that the cache has what the others got.
        let got: Vec<_> = getting.into_iter().map(|getting| getting.join().unwrap_or_default()).collect();
        got.into_iter().collect::<Option<_>>().context("not all parts are there: see the errors above")
    })
}

/// Gets one tool. Prints an error at once, because the others may take minutes.
fn get_one((name, get): &Tool) -> Option<(&'static str, String, f32)> {
    let start = Instant::now();
    let place = get().inspect_err(|error| eprintln!("{name}: {error:#}")).ok()?;
    Some((name, place, start.elapsed().as_secs_f32()))
}

/// Checks that the programs are there that can't be brought, before anything that takes minutes.
fn check(node: bool) -> Result<()> {
    let mut missing = Vec::new();
    if !is_on_path("python3") {
        missing.push("python3");
    }
    if node {
        missing.extend(NODE_PROGRAMS.iter().filter(|(program, _)| !is_on_path(program)).map(|(_, package)| *package));
    }
    ensure!(missing.is_empty(), "some programs are missing: {} {}", install_command(), missing.join(" "));
    Ok(())
}
