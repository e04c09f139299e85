//! `crd`: prints the custom resource definitions, generated from the Rust types.

#[cfg(test)]
mod reference;

use std::process::ExitCode;

use crate::cli::CrdName;
use fedora_message::api::{sender, v1alpha1};

/// The comment above the generated text.
const HEADER: &str = "# Generated from crates/fedora-message/src/api by `just crds`; don't edit.\n";

/// Prints one CRD, or all of them as a stream of YAML documents.
#[must_use]
pub fn main(name: Option<CrdName>) -> ExitCode {
    let all = [CrdName::Fedoramessages, CrdName::Fedoramessagesenders];
    let wanted = all.into_iter().filter(|other| name.is_none_or(|name| name == *other));
    match wanted.map(yaml).collect::<Result<Vec<_>, _>>() {
        Ok(documents) => super::print(documents.join("---\n")),
        Err(error) => super::fail(&format!("can't write the CRD as YAML: {error}")),
    }
}

/// Returns a CRD as YAML, as it is committed under `crds/`.
fn yaml(name: CrdName) -> Result<String, serde_saphyr::ser::Error> {
    let definition = match name {
        CrdName::Fedoramessages => v1alpha1::definition(),
        CrdName::Fedoramessagesenders => sender::definition(),
    };
    Ok(format!("{HEADER}{}", serde_saphyr::to_string(&definition)?))
}
