//! Who may run on which of the machine's cores.

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

/// Who runs where, until it is dropped: then all have all cores again.
#[derive(Debug)]
pub struct Apart<'a> {
    kube: &'a Kube,
    broker: &'a Broker,
    all: Vec<usize>,
}

impl<'a> Apart<'a> {
    /// Gives the API server and its etcd half of the cores, as they have machines of their own in a cluster. The
    /// other half is left to the broker and this process, with all that it starts from now on.
    ///
    /// None on a machine with a single core.
    pub fn new(kube: &'a Kube, broker: &'a Broker) -> Result<Option<Self>> {
        let all = own_cores()?;
        let (servers, others) = all.split_at(all.len() / 2);
        if servers.is_empty() {
            return Ok(None);
        }
        let apart = Self { kube, broker, all: all.clone() };
        apart.confine(servers, others)?;
        Ok(Some(apart))
    }

    fn confine(&self, servers: &[usize], others: &[usize]) -> Result<()> {
        self.kube.confine(Etcd, servers)?;
        self.kube.confine(ApiServer, servers)?;
        self.broker.confine(others)?;
        confine(std::process::id(), others)
    }
}

impl Drop for Apart<'_> {
    fn drop(&mut self) {
        // Nothing depends on it but how fast the rest is.
        let _ = self.confine(&self.all, &self.all);
    }
}

fn own_cores() -> Result<Vec<usize>> {
    let cores = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|core| cores.is_set(*core)).collect())
}

/// Leaves all threads of a process, and so what they start, these cores and no others.
pub(crate) fn confine(process: u32, cores: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    for core in cores {
        set.set(*core);
    }
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        let name = thread?.file_name();
        let thread = name.to_str().and_then(|name| Pid::from_raw(name.parse().ok()?)).context("no thread's number")?;
        match sched_setaffinity(Some(thread), &set) {
            // It has ended meanwhile.
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
