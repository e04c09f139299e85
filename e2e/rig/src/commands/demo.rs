//! `rig demo`: shows a Sender, and the path of its message through real servers.

use std::{
    env, fs,
    io::{IsTerminal, Write},
    path::PathBuf,
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};
use clap::Args;
use rig::{Consumer, Guard, Rig, consumer::Format, images, project, python::Python, wait_until};

use super::{Parts, StopSignal, say, shell_hint, start};

const OPERATOR: &str = "operator";

/// The arguments of `rig demo`.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// The manifest to show. Paths are below the project's folder.
    #[arg(long, value_name = "FILE", default_value = "docs/examples/sender.yaml")]
    example: PathBuf,
    /// Send the message by a Pod, on a node. Needs Linux and root.
    #[arg(long)]
    pods: bool,
    /// Exit after the demo instead of waiting for Ctrl-C. This is the default without a terminal.
    #[arg(long)]
    once: bool,
}

impl Demo {
    /// Starts everything, shows one message, and waits for Ctrl-C.
    pub(crate) fn run(&self) -> Result<()> {
        env::set_current_dir(project(".")).context("no project folder")?;
        let rig = start(self.pods, &[("operator", build_operator)])?;
        let consumer = Consumer::start_with(&Python::get()?, &rig.broker, "#", Format::Text)?;
        say::part("consumer", "fedora-messaging, bound to every topic");
        let operator = self.start_operator(&rig)?;
        say::part("operator", &program().display().to_string());

        self.show(&rig, &consumer)
            .map_err(|error| anyhow!("{error:#}\nLast output of the operator:\n{}", operator.last_output(OPERATOR)))?;
        if !self.once && std::io::stdin().is_terminal() {
            self.stay(&rig, &consumer, &operator)?;
        }
        drop((operator, consumer, rig));
        say::note("\nAll servers have stopped.");
        Ok(())
    }

    fn start_operator(&self, rig: &Rig) -> Result<Guard> {
        let guard = Guard::new(OPERATOR)?;
        let mut command = Command::new(program().canonicalize()?);
        command
            .arg("run")
            .env("KUBECONFIG", rig.kube.kubeconfig())
            .env("PROD_AMQP_URL", rig.broker.url())
            .env("STG_AMQP_URL", rig.broker.url())
            .env("ADMIN_ADDRESS", "127.0.0.1:0");
        if self.pods {
            command.env("DELIVERY_MODE", "pod").env("CLI_IMAGE", images::CLI);
        }
        guard.start(OPERATOR, &command)?;
        Ok(guard)
    }

    /// Applies Sender and message, waits until the message is sent and received, and prints the statuses.
    fn show(&self, rig: &Rig, consumer: &Consumer) -> Result<()> {
        let file = self.example.display().to_string();
        kubectl(rig, &["apply", "-f", &file])?;
        let message = fs::read_to_string(&self.example)?;
        let name = message.rsplit("metadata: {name: ").next().and_then(|rest| rest.split('}').next());
        let message = format!("fmsg/{}", name.context("the example has no message")?);
        kubectl(rig, &["wait", "--for=condition=FedoraMessageSent", &message, "--timeout=60s"])?;
        if rig.kube.run(&["get", "fmsender", "-o", "name"])?.contains("default") {
            rig.kube.run(&["wait", "--for=condition=Ready", "fmsender/default", "--timeout=60s"])?;
            kubectl(rig, &["get", "fmsender"])?;
        }
        wait_until(Duration::from_secs(20), "the message at the consumer", || {
            consumer.text().is_ok_and(|text| !text.is_empty())
        })?;
        say::heading("The consumer received a valid message");
        say::lines(consumer.text()?.trim().lines());
        kubectl(rig, &["get", "fmsg"])?;
        say::typed(&format!("kubectl get {message} -o yaml    # its status"));
        let object = rig.kube.run(&["get", &message, "-o", "yaml"])?;
        let status = object.lines().skip_while(|line| line.trim() != "status:");
        say::lines(status);
        Ok(())
    }

    /// Prints each new message at the consumer until Ctrl-C.
    fn stay(&self, rig: &Parts, consumer: &Consumer, operator: &Guard) -> Result<()> {
        say::heading("To try more, in another shell");
        say::lines(shell_hint(rig));
        say::lines([
            format!("sed s/nice-message/nice-again/ {} | kubectl apply -f -", self.example.display()),
            "kubectl explain fmsg.spec.message".to_owned(),
            "kubectl explain fmsender.spec".to_owned(),
            "kubectl get fmsg -w".to_owned(),
            format!("tail -f {}    # the operator's log", operator.out(OPERATOR).with_extension("*").display()),
        ]);
        say::note("\nEach message at the consumer is printed here. Ctrl-C stops all servers.");
        let stop = StopSignal::watch()?;
        let mut shown = consumer.text()?.len();
        while !stop.is_set() {
            std::thread::park_timeout(Duration::from_millis(100));
            let text = consumer.text()?;
            if let Some(new) = text.get(shown..).filter(|new| !new.is_empty()) {
                println!("\n{}", new.trim());
                std::io::stdout().flush()?;
                shown = text.len();
            }
            ensure!(operator.exited(OPERATOR)?.is_none(), "the operator ended:\n{}", operator.last_output(OPERATOR));
        }
        Ok(())
    }
}

/// Prints and runs a kubectl command.
fn kubectl(rig: &Rig, args: &[&str]) -> Result<()> {
    say::typed(&format!("kubectl {}", args.join(" ")));
    let printed = rig.kube.run(args)?;
    print!("{printed}");
    std::io::stdout().flush()?;
    Ok(())
}

/// Returns the path of the operator's program.
fn program() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    PathBuf::from(target).join("debug/fedora-message-operator")
}

/// Builds the operator's program, and returns its path.
fn build_operator() -> Result<String> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // If these differ, a build script of ring runs again, and with it half of the build.
    for (name, _) in env::vars_os() {
        if ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|start| name.to_string_lossy().starts_with(start)) {
            cargo.env_remove(name);
        }
    }
    let built = cargo.args(["build", "--quiet", "--package", "fedora-message-operator"]).status();
    ensure!(built.context("cargo does not start")?.success(), "the operator does not build");
    Ok(program().display().to_string())
}
