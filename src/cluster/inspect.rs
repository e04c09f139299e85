//! Looks at a cluster, for `check --cluster`: which it is, who asks, and what is installed.

use std::time::Duration;

use http::Request;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::api::PostParams;
use kube::{Api, Client, Error};
use serde_json::Value;
use tokio::time::timeout;

use super::client::{acting_as, build, configuration, explain};
use fedora_message::api::compare::{InstalledCrd, POLICY_NAME, crd};
use fedora_message::api::v1alpha1::API_VERSION;

/// How long one answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A cluster, and the ways to ask it.
pub struct Cluster {
    /// The API server's address.
    pub url: String,
    /// As the one who calls the program.
    pub client: Client,
    /// As the one whose rights are looked at.
    pub subject: Client,
}

/// What became of a look at something.
#[derive(Clone, Debug, PartialEq)]
pub enum Lookup {
    /// This is there.
    Is(Value),
    /// Nothing is.
    Absent,
    /// Who asks may not see it.
    Hidden,
}

impl Cluster {
    /// The cluster of `KUBECONFIG`, or of the pod's service account; with rights looked at as `user`, if
    /// another is named. Nothing is asked yet.
    pub async fn open(user: Option<&str>) -> Result<Self, String> {
        let config = configuration().await?;
        let url = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let client = build(config.clone())?;
        let subject = user.map_or_else(|| Ok(client.clone()), |user| build(acting_as(config, user)))?;
        Ok(Self { url, client, subject })
    }

    /// Its version, such as `v1.32.0`, with the numbers in it.
    pub async fn version(&self) -> Result<(String, [u32; 2]), String> {
        let info = ask(self.client.apiserver_version()).await.map_err(|error| explain(&error))?;
        // Some call themselves 32+.
        let number = |text: &str| text.trim_end_matches(|c: char| !c.is_ascii_digit()).parse().unwrap_or_default();
        Ok((info.git_version, [number(&info.major), number(&info.minor)]))
    }

    /// What is stored under the policy's name.
    pub async fn policy(&self) -> Result<Lookup, String> {
        self.admission("validatingadmissionpolicies").await
    }

    /// What is stored under its binding's name.
    pub async fn binding(&self) -> Result<Lookup, String> {
        self.admission("validatingadmissionpolicybindings").await
    }

    async fn admission(&self, plural: &str) -> Result<Lookup, String> {
        look(&self.client, &format!("/apis/admissionregistration.k8s.io/v1/{plural}/{POLICY_NAME}")).await
    }

    /// A namespace.
    pub async fn namespace(&self, name: &str) -> Result<Lookup, String> {
        look(&self.client, &format!("/api/v1/namespaces/{name}")).await
    }

    /// The name of the one whose rights are looked at.
    pub async fn user(&self) -> Result<String, String> {
        let api: Api<SelfSubjectReview> = Api::all(self.subject.clone());
        let asked = ask(api.create(&PostParams::default(), &SelfSubjectReview::default())).await;
        let review = asked.map_err(|error| explain(&error))?;
        let user = review.status.and_then(|status| status.user_info).and_then(|user| user.username);
        Ok(user.unwrap_or_default())
    }
}

/// The CRD of a cluster, beside this program's. Everybody who is known to the API server may ask.
pub async fn installed_crd(client: &Client) -> Result<InstalledCrd, String> {
    match look(client, &format!("/openapi/v3/apis/{API_VERSION}")).await? {
        Lookup::Is(published) => Ok(crd(&published)),
        Lookup::Absent => Ok(InstalledCrd::Absent),
        Lookup::Hidden => {
            Err("the API server does not let it be read: grant the ClusterRole system:discovery".to_owned())
        }
    }
}

async fn look(client: &Client, path: &str) -> Result<Lookup, String> {
    let request = Request::get(path).body(Vec::new()).map_err(|error| error.to_string())?;
    match ask(client.request(request)).await {
        Ok(value) => Ok(Lookup::Is(value)),
        Err(Error::Api(status)) if status.code == 404 => Ok(Lookup::Absent),
        Err(Error::Api(status)) if status.code == 403 => Ok(Lookup::Hidden),
        Err(error) => Err(explain(&error)),
    }
}

/// The API server's answer; one that does not come in time is an error too.
pub(crate) async fn ask<T>(request: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let late = || Error::Service(format!("no answer within {} s", TIMEOUT.as_secs()).into());
    timeout(TIMEOUT, request).await.unwrap_or_else(|_| Err(late()))
}
