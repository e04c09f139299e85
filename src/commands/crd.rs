//! `crd`: prints the custom resource definition, generated from the Rust types.

use std::process::ExitCode;

use fedora_message::api::v1alpha1::definition;

/// The comment above the generated text.
const HEADER: &str = "# Generated from crates/fedora-message/src/api/v1alpha1.rs by `just crds`; don't edit.\n";

/// Prints the CRD.
#[must_use]
pub fn main() -> ExitCode {
    match yaml() {
        Ok(yaml) => super::print(yaml),
        Err(error) => super::fail(&format!("can't write the CRD as YAML: {error}")),
    }
}

/// Returns the CRD as YAML, as it is committed under `crds/`.
pub fn yaml() -> Result<String, serde_saphyr::ser::Error> {
    Ok(format!("{HEADER}{}", serde_saphyr::to_string(&definition())?))
}
