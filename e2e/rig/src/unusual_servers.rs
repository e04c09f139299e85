//! TLS servers with certificates that rustls can't serve: old, weak or unusual ones.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::json;

use crate::{json_lines::JsonLines, python::Python};

/// Running servers, which end with this value. OpenSSL serves them, without its usual limits.
#[derive(Debug)]
pub struct UnusualServers(JsonLines);

impl UnusualServers {
    /// Starts the process, without any server.
    pub fn start() -> Result<Self> {
        let python = Python::get()?;
        Ok(Self(JsonLines::start(&mut python.script("tls_servers.py", Path::new("")))?))
    }

    /// Starts a server with the certificate and the key in these files. Returns its port on
    /// loopback.
    pub fn serve(&mut self, cert: &Path, key: &Path) -> Result<u16> {
        let answer = self.0.ask(&json!({"cert": cert, "key": key}))?;
        Ok(answer["port"].as_u64().with_context(|| answer.to_string())?.try_into()?)
    }

    /// Returns the number of clients that began AMQP at this port, so accepted the certificate.
    pub fn accepted(&mut self, port: u16) -> Result<u64> {
        let answer = self.0.ask(&json!({"port": port}))?;
        answer["accepted"].as_u64().with_context(|| answer.to_string())
    }
}
