//! The tools that create a deleted resource again, and the marks that they leave on their resources.

use serde::Deserialize;
use serde::de::IgnoredAny;

/// A tool that keeps resources as they stand elsewhere, and creates a deleted one again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, strum::Display)]
pub enum DeploymentTool {
    /// Argo CD.
    #[strum(to_string = "Argo CD")]
    ArgoCd,
    /// Flux.
    Flux,
    /// Helm.
    Helm,
}

/// The labels of a resource by which tools know it.
#[derive(Default, Deserialize)]
pub(super) struct Labels {
    #[serde(rename = "kustomize.toolkit.fluxcd.io/name")]
    kustomization: Option<IgnoredAny>,
    #[serde(rename = "helm.toolkit.fluxcd.io/name")]
    flux_helm_release: Option<IgnoredAny>,
    #[serde(rename = "argocd.argoproj.io/instance")]
    argocd_instance: Option<IgnoredAny>,
    /// The label that Argo CD sets by default until its version 3. People and Helm charts set it too.
    #[serde(rename = "app.kubernetes.io/instance")]
    instance: Option<IgnoredAny>,
    #[serde(rename = "app.kubernetes.io/managed-by")]
    managed_by: Option<String>,
}

impl Labels {
    /// Returns the tool that a resource with these labels belongs to. The flags say whether the resource has Argo CD's or
    /// Helm's annotation too.
    pub(super) fn tool(&self, argocd: bool, helm: bool) -> Option<DeploymentTool> {
        if self.kustomization.is_some() || self.flux_helm_release.is_some() {
            Some(DeploymentTool::Flux)
        } else if argocd || self.argocd_instance.is_some() {
            Some(DeploymentTool::ArgoCd)
        } else if helm || self.managed_by.as_deref() == Some("Helm") {
            Some(DeploymentTool::Helm)
        } else {
            self.instance.map(|_| DeploymentTool::ArgoCd)
        }
    }
}
