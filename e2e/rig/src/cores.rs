//! Assigns CPU cores to processes.

use std::fs;

use anyhow::{Context, Result};
use rustix::{
    io::Errno,
    process::Pid,
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};

use crate::{
    Broker, Kube,
    kube::Process::{ApiServer, Etcd},
};

/// A division of the CPU cores. After its drop, all processes may use all cores again.
#[derive(Debug)]
pub struct SeparateCores<'a> {
    kube: &'a Kube,
    broker: &'a Broker,
    all: Vec<usize>,
}

impl<'a> SeparateCores<'a> {
    /// Gives the API server and etcd half of the cores, because in a cluster they have their own
    /// machines. The broker, this process and its new child processes get the other half.
    ///
    /// Returns `None` on a machine with a single core.
    pub fn new(kube: &'a Kube, broker: &'a Broker) -> Result<Option<Self>> {
        let all = own_cores()?;
        let (servers, others) = all.split_at(all.len() / 2);
        if servers.is_empty() {
            return Ok(None);
        }
        let separate = Self { kube, broker, all: all.clone() };
        separate.confine(servers, others)?;
        Ok(Some(separate))
    }

    fn confine(&self, servers: &[usize], others: &[usize]) -> Result<()> {
        self.kube.confine(Etcd, servers)?;
        self.kube.confine(ApiServer, servers)?;
        self.broker.confine(others)?;
        confine(std::process::id(), others)
    }
}

impl Drop for SeparateCores<'_> {
    fn drop(&mut self) {
        // Ignore an error: it affects only the speed of the rest.
        let _ = self.confine(&self.all, &self.all);
    }
}

fn own_cores() -> Result<Vec<usize>> {
    let cores = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|core| cores.is_set(*core)).collect())
}

/// Restricts all threads of a process, and their new children, to these cores.
pub(crate) fn confine(process: u32, cores: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    for core in cores {
        set.set(*core);
    }
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        let name = thread?.file_name();
        let thread = name.to_str().and_then(|name| Pid::from_raw(name.parse().ok()?)).context("invalid thread id")?;
        match sched_setaffinity(Some(thread), &set) {
            // The thread has ended meanwhile.
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
