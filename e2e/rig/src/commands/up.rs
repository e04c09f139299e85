//! `rig up`: runs API server and broker until Ctrl-C.

use std::{
    fs,
    path::{Path, PathBuf},
    process,
    time::Duration,
};

use anyhow::{Context, Result};
use rig::{Broker, broker::USERS};

use super::{StopSignal, say, shell_hint, start};

/// Starts the servers, prints how to use them, waits for Ctrl-C, and cleans up.
pub(crate) fn run(node: bool, env_file: Option<&Path>) -> Result<()> {
    let rig = start(node, &[])?;
    let url = rig.broker.url();
    let certs = write_certificates(&rig.broker)?;
    // A reader of the file may send a signal at once.
    let stop = StopSignal::watch()?;
    if let Some(file) = env_file {
        let kubeconfig = rig.kube.kubeconfig();
        let text = format!(
            "KUBECONFIG={}\nPROD_AMQP_URL={url}\nSTG_AMQP_URL={url}\nCERTS={}\nRIG_PID={}\n",
            kubeconfig.display(),
            certs.display(),
            process::id()
        );
        fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    say::heading("To use them, in another shell");
    say::lines(shell_hint(&rig));
    say::lines([
        format!("export PROD_AMQP_URL={url} STG_AMQP_URL={url}"),
        format!("ls {}    # certificates of the broker's users", certs.display()),
    ]);
    say::note("\nCtrl-C stops the servers and removes their data.");
    while !stop.is_set() {
        std::thread::park_timeout(Duration::from_millis(100));
    }
    if let Some(file) = env_file {
        // Ignore an error: another program may have removed the file.
        let _ = fs::remove_file(file);
    }
    drop(rig);
    say::note("All servers have stopped.");
    Ok(())
}

/// Writes a certificate for each of the broker's users: `USER-ca.pem`, `USER-cert.pem`,
/// `USER-key.pem`.
fn write_certificates(broker: &Broker) -> Result<PathBuf> {
    let folder = broker.guard().scratch().join("users");
    fs::create_dir(&folder)?;
    for user in USERS {
        broker.client(user)?.write(&folder, user)?;
    }
    Ok(folder)
}
