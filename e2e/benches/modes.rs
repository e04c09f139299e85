//! Compares delivery by Pods with direct delivery: time, CPU and memory per message, and messages per
//! minute. Both run in turns on one node.

#![expect(clippy::cast_precision_loss, reason = "figures for people")]

use std::fs::read_to_string;
use std::pin::pin;
use std::time::Instant;

use fedora_message::api::v1alpha1::FedoraMessageDefinition;
use futures::TryStreamExt;
use kube::api::WatchParams;
use kube::core::WatchEvent;
use kube::{Api, Client};
use rig::{Cluster, images, project, wait_until};
use tokio::runtime::Runtime;

use e2e::bench::operator::{self, Operator, create, create_one, is_done, mebibytes};
use e2e::bench::{NAMESPACE, Result, TIMEOUT, machine, manifest, prepare, quantile};

/// Messages of each round, one after another, in each mode.
const DIRECT: usize = 100;
const BY_POD: usize = 10;
const ROUNDS: usize = 2;
/// The backlog for Pods, and the limits of concurrent Pods.
const WAITING: usize = 40;
const POD_LIMITS: [usize; 5] = [1, 2, 4, 6, 8];
/// The backlog for direct delivery.
const WAITING_DIRECT: usize = 1_000;

/// The cost of some messages.
#[derive(Default)]
struct Cost {
    /// The milliseconds from apply to the status "sent", for each message.
    times: Vec<f64>,
    /// The CPU time in seconds of the operator, of all Pods, and of the whole machine.
    cpu: [f64; 3],
    /// The operator's resident memory afterwards, in MiB.
    resident: f64,
    /// The peak memory of all Pods in MiB. Only one Pod runs at a time.
    pods: f64,
}

fn main() -> Result<()> {
    let bench = Bench::start()?;
    let (mut direct, mut by_pod) = (Cost::default(), Cost::default());
    bench.measure("warm-up", "pod", 1, &mut Cost::default())?;
    for round in 0..ROUNDS {
        bench.measure(&format!("direct{round}"), "direct", DIRECT, &mut direct)?;
        bench.measure(&format!("pod{round}"), "pod", BY_POD, &mut by_pod)?;
    }
    let rate = bench.drain("drain", &["--delivery-mode", "direct"], WAITING_DIRECT)?;
    println!("{}", machine());
    println!("| one message at a time | direct | by Pod | ratio |");
    println!("|---|---|---|---|");
    for (per_cent, name) in [(50, "half of all, ms"), (90, "90 %, ms"), (100, "slowest, ms")] {
        let [fast, slow] = [&direct, &by_pod].map(|cost| quantile(&cost.times, per_cent));
        row(&format!("apply to sent: {name}"), fast, slow, 0);
    }
    row("CPU of the whole machine, ms a message", direct.milliseconds(2), by_pod.milliseconds(2), 1);
    row("CPU of the operator, ms a message", direct.milliseconds(0), by_pod.milliseconds(0), 1);
    println!("| CPU of a Pod, ms | | {:.0} | |", by_pod.milliseconds(1));
    row("memory of the operator, MiB", direct.resident, by_pod.resident, 1);
    println!("| memory of a Pod, MiB | | {:.0} | |", by_pod.pods);
    println!();
    println!("| {WAITING} waiting messages | a minute |");
    println!("|---|---|");
    println!("| direct ({WAITING_DIRECT} messages) | {rate:.0} |");
    for limit in POD_LIMITS {
        let arguments = ["--delivery-mode", "pod", "--max-pods", &limit.to_string()];
        let rate = bench.drain(&format!("pods{limit}"), &arguments, WAITING)?;
        println!("| by Pods, {limit} at a time | {rate:.0} |");
    }
    Ok(())
}

/// Watches a message until it is sent.
async fn until_sent(api: &Api<FedoraMessageDefinition>, name: &str) -> Result<()> {
    let parameters = WatchParams::default().fields(&format!("metadata.name={name}"));
    // A watch from version 0 starts with the current object.
    let mut events = pin!(api.watch(&parameters, "0").await?);
    while let Some(event) = events.try_next().await? {
        if let WatchEvent::Added(message) | WatchEvent::Modified(message) = event
            && message.status.is_some_and(|status| status.status == Some(true))
        {
            return Ok(());
        }
    }
    Err(format!("the watch on {name} has ended").into())
}

fn row(name: &str, direct: f64, by_pod: f64, digits: usize) {
    println!("| {name} | {direct:.digits$} | {by_pod:.digits$} | {:.0} |", by_pod / direct);
}

impl Cost {
    fn milliseconds(&self, whose: usize) -> f64 {
        self.cpu[whose] * 1000.0 / self.times.len() as f64
    }
}

struct Bench {
    cluster: Cluster,
    runtime: Runtime,
    client: Client,
}

impl Bench {
    fn start() -> Result<Self> {
        let cluster = Cluster::start()?;
        let (runtime, client) = prepare(&cluster.kube, &cluster.broker)?;
        cluster.kube.apply(&[project("manifests/base/admission-policy.yaml")])?;
        Ok(Self { cluster, runtime, client })
    }

    /// Sends messages one after another.
    fn measure(&self, name: &str, mode: &str, count: usize, cost: &mut Cost) -> Result<()> {
        let operator = self.operator(&["--delivery-mode", mode]);
        // The first message makes the operator connect and read the Secret.
        self.runtime.block_on(self.send(&format!("{name}-first"), 0))?;
        std::fs::write(self.pods("memory", "memory.max_usage_in_bytes"), "0")?;
        let before = self.cpu(operator.pid)?;
        for number in 0..count {
            cost.times.push(self.runtime.block_on(self.send(name, number))?);
        }
        for (total, (after, before)) in cost.cpu.iter_mut().zip(self.cpu(operator.pid)?.into_iter().zip(before)) {
            *total += after - before;
        }
        cost.resident = mebibytes(operator.resident());
        let pods: f64 = read_to_string(self.pods("memory", "memory.max_usage_in_bytes"))?.trim().parse()?;
        cost.pods = cost.pods.max(pods / 1024.0 / 1024.0);
        operator.stop();
        Ok(())
    }

    /// Returns the milliseconds from a message's creation until its status is "sent".
    async fn send(&self, name: &str, number: usize) -> Result<f64> {
        let api: Api<FedoraMessageDefinition> = Api::namespaced(self.client.clone(), NAMESPACE);
        let start = Instant::now();
        let message = create_one(&self.client, &manifest(name, number)).await?;
        tokio::time::timeout(TIMEOUT, until_sent(&api, message.name())).await??;
        Ok(start.elapsed().as_secs_f64() * 1000.0)
    }

    /// Returns the messages per minute that an operator sends from a backlog.
    fn drain(&self, name: &str, arguments: &[&str], count: usize) -> Result<f64> {
        self.runtime.block_on(create(&self.client, (0..count).map(|number| manifest(name, number))))?;
        let operator = self.operator(arguments);
        let start = Instant::now();
        wait_until(TIMEOUT, "all are sent", || self.runtime.block_on(is_done(&self.client)).unwrap_or(false))?;
        let rate = count as f64 * 60.0 / start.elapsed().as_secs_f64();
        operator.stop();
        Ok(rate)
    }

    fn operator(&self, arguments: &[&str]) -> Operator {
        let arguments = [&["--cli-image", images::CLI], arguments].concat();
        operator::start(&self.cluster.kube, &self.cluster.broker, &arguments)
    }

    /// Returns the path of a file in the control group of all Pods.
    fn pods(&self, controller: &str, file: &str) -> String {
        format!("/sys/fs/cgroup/{controller}/{}/{file}", self.cluster.pods_control_group())
    }

    /// Returns the CPU time in seconds of the operator, of all Pods, and of the whole machine.
    fn cpu(&self, operator: u32) -> Result<[f64; 3]> {
        let mut own = 0.0;
        for thread in std::fs::read_dir(format!("/proc/{operator}/task"))? {
            let times = read_to_string(thread?.path().join("schedstat"))?;
            own += times.split(' ').next().unwrap_or_default().parse::<f64>()? / 1e9;
        }
        let pods = read_to_string(self.pods("cpuacct", "cpuacct.usage"))?.trim().parse::<f64>()? / 1e9;
        let stat = read_to_string("/proc/stat")?;
        let numbers = stat.lines().next().unwrap_or_default().split_whitespace().skip(1);
        let ticks: Vec<f64> = numbers.map(str::parse).collect::<std::result::Result<_, _>>()?;
        // User, nice, system and interrupts, in hundredths of a second.
        let busy: f64 = [0, 1, 2, 5, 6].iter().filter_map(|field| ticks.get(*field)).sum();
        Ok([own, pods, busy / 100.0])
    }
}
