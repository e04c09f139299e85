//! `rig tools`: downloads and builds all tools in advance.

use std::time::Instant;

use anyhow::Result;
use rig::{
    images,
    kube::{binaries, node_binaries},
    python::Python,
};

use super::say;

/// Gets each tool, and prints its location and the time that took.
pub(crate) fn run() -> Result<()> {
    timed("Kubernetes", || Ok(binaries()?.display().to_string()))?;
    timed("Node", || Ok(node_binaries()?.display().to_string()))?;
    timed("Images", || Ok(images::archives()?.map(|path| path.display().to_string()).join(" ")))?;
    timed("Python", || Ok(Python::get()?.interpreter().display().to_string()))?;
    timed("RabbitMQ", rig::broker::scripts)
}

fn timed(name: &str, get: impl FnOnce() -> Result<String>) -> Result<()> {
    let start = Instant::now();
    let place = get()?;
    say::part(name, &format!("{place}  ({:.1} s)", start.elapsed().as_secs_f32()));
    Ok(())
}
