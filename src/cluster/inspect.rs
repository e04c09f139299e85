//! Reads a cluster's version, user, CRD and admission policies, most of it for `check --cluster`.

use http::Request;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::api::PostParams;
use kube::{Api, Client, Error};
use serde_json::Value;

use super::client::{acting_as, build, configuration};
use super::list::{ListError, answer};
use crate::fence::Fence;
use fedora_message::api::compare::{AdmissionPolicy, InstalledCrd, crd};
use fedora_message::api::v1alpha1::API_VERSION;

/// A cluster, and its clients.
pub struct Cluster {
    /// The API server's address.
    pub url: String,
    /// The client of the user who runs the program.
    pub client: Client,
    /// The client of the user whose permissions are checked.
    pub subject: Client,
}

/// The result of reading an object.
#[derive(Clone, Debug, PartialEq)]
pub enum Lookup {
    /// The object.
    Is(Value),
    /// The object does not exist.
    Absent,
    /// The user is not allowed to read it.
    Hidden,
}

impl Cluster {
    /// Opens the cluster of `KUBECONFIG`, or of the pod's service account. Permissions are checked as `user`, if one
    /// is named. No request is made yet.
    pub async fn open(user: Option<&str>) -> anyhow::Result<Self> {
        let config = configuration().await?;
        let url = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let (client, _) = build(config.clone(), Fence::always_open())?;
        let subject = user.map_or_else(
            || Ok(client.clone()),
            |user| build(acting_as(config, user), Fence::always_open()).map(|(client, _)| client),
        )?;
        Ok(Self { url, client, subject })
    }

    /// Reads an admission policy.
    pub async fn policy(&self, policy: &AdmissionPolicy) -> Result<Lookup, ListError> {
        self.admission("validatingadmissionpolicies", policy).await
    }

    /// Reads the binding of an admission policy.
    pub async fn binding(&self, policy: &AdmissionPolicy) -> Result<Lookup, ListError> {
        self.admission("validatingadmissionpolicybindings", policy).await
    }

    async fn admission(&self, plural: &str, policy: &AdmissionPolicy) -> Result<Lookup, ListError> {
        look(&self.client, &format!("/apis/admissionregistration.k8s.io/v1/{plural}/{}", policy.name)).await
    }

    /// Reads a namespace.
    pub async fn namespace(&self, name: &str) -> Result<Lookup, ListError> {
        look(&self.client, &format!("/api/v1/namespaces/{name}")).await
    }

    /// Returns the name of the user whose permissions are checked.
    pub async fn user(&self) -> Result<String, ListError> {
        let api: Api<SelfSubjectReview> = Api::all(self.subject.clone());
        let review = answer(api.create(&PostParams::default(), &SelfSubjectReview::default())).await?;
        let user = review.status.and_then(|status| status.user_info).and_then(|user| user.username);
        Ok(user.unwrap_or_default())
    }
}

/// Returns the API server's version, such as `v1.32.0`, with its first two numbers.
pub async fn version(client: &Client) -> Result<(String, [u32; 2]), ListError> {
    let info = answer(client.apiserver_version()).await?;
    // Some providers report 32+.
    let number = |text: &str| text.trim_end_matches(|c: char| !c.is_ascii_digit()).parse().unwrap_or_default();
    Ok((info.git_version, [number(&info.major), number(&info.minor)]))
}

/// Compares the installed CRD with this program's. Returns nothing if the user is not allowed to read it. By default
/// all authenticated users are.
pub async fn installed_crd(client: &Client) -> Result<Option<InstalledCrd>, ListError> {
    Ok(match look(client, &format!("/openapi/v3/apis/{API_VERSION}")).await? {
        Lookup::Is(published) => Some(crd(&published)),
        Lookup::Absent => Some(InstalledCrd::Absent),
        Lookup::Hidden => None,
    })
}

async fn look(client: &Client, path: &str) -> Result<Lookup, ListError> {
    let request = Request::get(path).body(Vec::new()).map_err(Error::HttpError)?;
    match answer(client.request(request)).await {
        Ok(value) => Ok(Lookup::Is(value)),
        Err(error) if error.code() == Some(404) => Ok(Lookup::Absent),
        Err(error) if error.code() == Some(403) => Ok(Lookup::Hidden),
        Err(error) => Err(error),
    }
}
