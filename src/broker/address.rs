//! A broker's address: an `amqps://` URL, checked once.

use std::fmt;
use std::str::FromStr;

use lapin::uri::{AMQPScheme, AMQPUri};

/// Where a broker listens, and which virtual host is used there.
///
/// User and password of the URL are dropped: the client certificate is the identity, and nothing
/// secret is left that could be printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerAddress {
    /// Host name or address; the broker's certificate must be for it.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Virtual host.
    pub vhost: String,
}

impl FromStr for BrokerAddress {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        const EXAMPLE: &str = "for example amqps://rabbitmq.fedoraproject.org/%2Fpubsub";
        let uri = AMQPUri::from_str(url).map_err(|error| format!("not a broker's URL ({error}): write {EXAMPLE}"))?;
        if uri.scheme != AMQPScheme::AMQPS {
            return Err(format!(
                "the URL must begin with amqps://, as messages are only sent over TLS: write {EXAMPLE}"
            ));
        }
        Ok(Self { host: uri.authority.host, port: uri.authority.port, vhost: uri.vhost })
    }
}

impl fmt::Display for BrokerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_fedoras_urls() {
        for url in
            ["amqps://rabbitmq.fedoraproject.org/%2Fpubsub", "amqps://fedora:@rabbitmq.fedoraproject.org/%2Fpubsub"]
        {
            let address: BrokerAddress = url.parse().unwrap();
            assert_eq!(
                (address.host.as_str(), address.port, address.vhost.as_str()),
                ("rabbitmq.fedoraproject.org", 5671, "/pubsub")
            );
        }
    }

    #[test]
    fn refuses_plain_amqp_and_nonsense() {
        for url in ["amqp://localhost/%2Fpubsub", "http://localhost", "", "localhost:5671"] {
            let words = url.parse::<BrokerAddress>().unwrap_err();
            assert!(words.contains("amqps://"), "{url}: {words}");
        }
    }
}
