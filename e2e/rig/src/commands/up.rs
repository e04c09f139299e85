//! `rig up`: both parts, until Ctrl-C.

use std::{
    fs,
    path::{Path, PathBuf},
    process,
    time::Duration,
};

use anyhow::{Context, Result};
use rig::{Broker, broker::USERS};

use super::{Leave, bring_up, say, shell_hint};

/// Brings up, tells how to use it, waits, cleans up.
pub(crate) fn run(apply: &[PathBuf], node: bool, env_file: Option<&Path>) -> Result<()> {
    let rig = bring_up(apply, node)?;
    let url = rig.broker.url();
    let certs = write_certificates(&rig.broker)?;
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
    let leave = Leave::watch()?;
    say::heading("In another shell");
    say::lines(shell_hint(&rig));
    say::lines([
        format!("export PROD_AMQP_URL={url} STG_AMQP_URL={url}"),
        format!("ls {}    # certificates of the broker's users", certs.display()),
    ]);
    say::note("\nCtrl-C ends both and removes what they stored.");
    while !leave.wanted() {
        std::thread::park_timeout(Duration::from_millis(100));
    }
    if let Some(file) = env_file {
        // Somebody else may have removed it: then it is gone as it should be.
        let _ = fs::remove_file(file);
    }
    drop(rig);
    say::note("All gone.");
    Ok(())
}

/// A certificate for each of the broker's users: `USER-ca.pem`, `USER-cert.pem`, `USER-key.pem`.
fn write_certificates(broker: &Broker) -> Result<PathBuf> {
    let folder = broker.guard().scratch().join("users");
    fs::create_dir(&folder)?;
    for user in USERS {
        broker.client(user)?.write(&folder, user)?;
    }
    Ok(folder)
}
