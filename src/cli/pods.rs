//! The flags of delivery by Pods.

use clap::Args;
use k8s_openapi::api::core::v1::{ResourceRequirements, Toleration};
use serde::de::DeserializeOwned;

use super::values::{number, object_name};
use fedora_message::pod::manifest::PodSettings;
use fedora_message::text::{MAX_QUOTE, printable};

/// Flags of delivery by Pods. They have no effect without `--delivery-mode pod` or `fallback`.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Delivery by Pods")]
pub struct PodArgs {
    /// Image of the Pods: any image with the fedora-messaging CLI
    #[arg(long, env = "CLI_IMAGE", value_name = "IMAGE", default_value = "localhost/fedora-messaging:3.9.1")]
    pub cli_image: String,
    /// When to pull the image. The default is Never for an image of localhost, which is on the nodes or
    /// nowhere, and IfNotPresent for others
    #[arg(long, env = "CLI_IMAGE_PULL_POLICY", value_name = "POLICY", value_parser = ["Always", "IfNotPresent", "Never"])]
    pub cli_image_pull_policy: Option<String>,
    /// Secrets with the registry's credentials, in the Pods' namespaces, separated by commas
    #[arg(long, env = "CLI_IMAGE_PULL_SECRETS", value_name = "SECRET", value_delimiter = ',', value_parser = object_name)]
    pub cli_image_pull_secrets: Vec<String>,
    /// Message schemas whose packages are in the image, separated by commas. Pods send only messages of
    /// base.message and of these schemas
    #[arg(long, env = "CLI_SCHEMAS", value_name = "SCHEMA", value_delimiter = ',')]
    pub cli_schemas: Vec<String>,
    /// Maximum number of Pods at a time
    #[arg(long, env = "MAX_PODS", default_value_t = 4, value_name = "NUMBER", value_parser = number::<u16>(1..=1024))]
    pub max_pods: u16,
    /// Keep a failed Pod this many seconds, for inspection
    #[arg(long, env = "KEEP_FAILED_PODS", default_value_t = 600, value_name = "SECONDS", value_parser = number(0..=u32::MAX))]
    pub keep_failed_pods: u32,
    /// Time for a Pod to start, in seconds
    #[arg(long, env = "POD_START_TIMEOUT", default_value_t = 60, value_name = "SECONDS", value_parser = number(1..=u16::MAX))]
    pub pod_start_timeout: u16,
    /// Time for a Pod to run, in seconds. The CLI itself gives up after 30
    #[arg(long, env = "POD_RUN_TIMEOUT", default_value_t = 60, value_name = "SECONDS", value_parser = number(1..=u16::MAX))]
    pub pod_run_timeout: u16,
    /// Resource requests and limits of a Pod, as in a manifest
    #[arg(long, env = "POD_RESOURCES", value_name = "JSON", default_value = r#"{"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "192Mi"}}"#, value_parser = json::<ResourceRequirements>)]
    pub pod_resources: ResourceRequirements,
    /// Priority class of the Pods
    #[arg(long, env = "POD_PRIORITY_CLASS", value_name = "NAME", value_parser = object_name)]
    pub pod_priority_class: Option<String>,
    /// Labels that the nodes of Pods must have, separated by commas
    #[arg(long, env = "POD_NODE_SELECTOR", value_name = "KEY=VALUE", value_delimiter = ',', value_parser = key_value)]
    pub pod_node_selector: Vec<(String, String)>,
    /// Tolerations of the Pods: a list as in a manifest
    // clap takes Vec without its path for a flag that may be repeated.
    #[arg(long, env = "POD_TOLERATIONS", value_name = "JSON", default_value = "[]", value_parser = json::<Vec<Toleration>>)]
    pub pod_tolerations: std::vec::Vec<Toleration>,
    /// With fallback: consecutive failures of direct delivery before a Pod sends the message
    #[arg(long, env = "FALLBACK_AFTER", default_value_t = 3, value_name = "FAILURES", value_parser = number(1..=u32::MAX))]
    pub fallback_after: u32,
}

impl PodArgs {
    /// Returns the settings that all Pods share.
    #[must_use]
    pub fn settings(&self) -> PodSettings {
        // A node would ask a registry at its own loopback address, which any of its programs may pose as.
        let pull_policy = if self.cli_image.starts_with("localhost/") { "Never" } else { "IfNotPresent" };
        PodSettings {
            image: self.cli_image.clone(),
            image_pull_policy: self.cli_image_pull_policy.clone().unwrap_or_else(|| pull_policy.to_owned()),
            image_pull_secrets: self.cli_image_pull_secrets.clone(),
            resources: self.pod_resources.clone(),
            priority_class: self.pod_priority_class.clone(),
            node_selector: self.pod_node_selector.clone(),
            tolerations: self.pod_tolerations.clone(),
            schemas: self.cli_schemas.clone(),
            start_seconds: self.pod_start_timeout.into(),
            run_seconds: self.pod_run_timeout.into(),
        }
    }
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("must be a label's key and value with = between them: write for example disk=ssd".to_owned()),
    }
}

/// Decodes JSON. A field that nothing reads is an error, because it may be misspelled.
fn json<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    let mut unknown = Vec::new();
    let mut decoder = serde_json::Deserializer::from_str(text);
    let value = serde_ignored::deserialize(&mut decoder, |path| unknown.push(printable(&path.to_string(), MAX_QUOTE)))
        .and_then(|value| decoder.end().map(|()| value))
        .map_err(|error| format!("must be JSON as in a Pod's manifest ({error}): correct it"))?;
    if unknown.is_empty() {
        Ok(value)
    } else {
        Err(format!("has unknown fields: {}; correct or remove them", unknown.join(", ")))
    }
}
