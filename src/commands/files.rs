//! Files that hold a client certificate, for the commands that work without a cluster.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::anyhow;
use chrono::Utc;
use zeroize::Zeroizing;

use crate::broker::credential_cache::CredentialCache;
use crate::broker::credentials::{Credentials, check_ca};
use fedora_message::message::secret::{OperatorCa, PemFiles, PemText};

/// Reads CA, certificate and key from files. The error names the file and its fault.
pub fn credentials(ca: &Path, cert: &Path, key: &Path) -> anyhow::Result<Arc<Credentials>> {
    let read = |file: &Path| {
        let place = file.display().to_string();
        let bytes = fs::read(file).map_err(|error| anyhow!("can't read {place}: {error}: check the file's name"))?;
        anyhow::Ok((place, Zeroizing::new(bytes)))
    };
    let (ca, cert, key) = (read(ca)?, read(cert)?, read(key)?);
    let material = PemFiles { ca: part(&ca), cert: part(&cert), key: part(&key) };
    Ok(CredentialCache::default().credentials(&material, Utc::now())?)
}

/// Reads the operator's own CA from a file. The error names the file and its fault.
pub fn operator_ca(file: &Path) -> anyhow::Result<OperatorCa> {
    let place = file.display().to_string();
    let pem = fs::read_to_string(file).map_err(|error| anyhow!("can't read {place}: {error}: check the file"))?;
    check_ca(&PemText { place: place.clone(), bytes: pem.as_bytes() })?;
    Ok(OperatorCa { place, pem })
}

fn part((place, bytes): &(String, Zeroizing<Vec<u8>>)) -> PemText<'_> {
    PemText { place: place.clone(), bytes }
}
