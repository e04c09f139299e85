//! Files that hold a client certificate, for the commands that work without a cluster.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::Utc;
use zeroize::Zeroizing;

use crate::broker::credential_cache::CredentialCache;
use crate::broker::credentials::{Credentials, check_ca};
use fedora_message::message::secret::{OperatorCa, PemFiles, PemText};

/// Reads CA, certificate and key from files. The error names the file and its fault.
pub fn credentials(ca: &Path, cert: &Path, key: &Path) -> Result<Arc<Credentials>, String> {
    let texts = [ca, cert, key].map(PathBuf::from).map(|path| match std::fs::read(&path) {
        Ok(bytes) => Ok((path.display().to_string(), Zeroizing::new(bytes))),
        Err(error) => Err(format!("can't read {}: {error}: check the file's name", path.display())),
    });
    let [ca, cert, key] = texts;
    let (ca, cert, key) = (ca?, cert?, key?);
    let material = PemFiles { ca: part(&ca), cert: part(&cert), key: part(&key) };
    CredentialCache::default().credentials(&material, Utc::now()).map_err(|error| error.to_string())
}

/// Reads the operator's own CA from a file. The error names the file and its fault.
pub fn operator_ca(file: &Path) -> Result<OperatorCa, String> {
    let place = file.display().to_string();
    let pem = std::fs::read_to_string(file).map_err(|error| format!("can't read {place}: {error}: check the file"))?;
    check_ca(&PemText { place: place.clone(), bytes: pem.as_bytes() }).map_err(|error| error.to_string())?;
    Ok(OperatorCa { place, pem })
}

fn part((place, bytes): &(String, Zeroizing<Vec<u8>>)) -> PemText<'_> {
    PemText { place: place.clone(), bytes }
}
