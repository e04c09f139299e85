//! A broker's address: an `amqps://` URL, checked once.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// The port of AMQP over TLS.
const DEFAULT_PORT: u16 = 5671;
/// What a right one looks like.
const EXAMPLE: &str = "for example amqps://rabbitmq.fedoraproject.org/%2Fpubsub";

/// Where a broker listens, and which virtual host is used there.
///
/// User and password of the URL are dropped: the client certificate is the identity, and nothing
/// secret is left that could be printed. No error quotes the URL, for the same reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerAddress {
    /// Host name or address; the broker's certificate must be for it.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Virtual host.
    pub vhost: String,
}

impl BrokerAddress {
    /// The URL that is read as this address, for other programs.
    #[must_use]
    pub fn url(&self) -> String {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        let escaped = |byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
        format!("amqps://{self}/{}", self.vhost.bytes().map(escaped).collect::<String>())
    }
}

impl FromStr for BrokerAddress {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        let rest = url.strip_prefix("amqps://").ok_or_else(|| {
            format!("the URL must begin with amqps://, as messages are only sent over TLS: write {EXAMPLE}")
        })?;
        if rest.contains(['?', '#']) {
            return Err("the URL must end after the virtual host: remove what follows ? or #".to_owned());
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let place = authority.rsplit_once('@').map_or(authority, |(_, place)| place);
        let (host, port) = host_and_port(place)?;
        Ok(Self { host: valid_host(host)?, port: valid_port(port)?, vhost: valid_vhost(path)? })
    }
}

/// An IPv6 address has colons of its own, and stands in brackets.
fn host_and_port(place: &str) -> Result<(&str, Option<&str>), String> {
    const BRACKETS: &str = "write for example amqps://[2001:db8::1]:5671";
    let Some(inside) = place.strip_prefix('[') else {
        if place.matches(':').count() > 1 {
            return Err(format!("the URL's host must stand in brackets if it is an IPv6 address: {BRACKETS}"));
        }
        return Ok(place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))));
    };
    match inside.split_once(']') {
        Some((host, "")) if host.parse::<Ipv6Addr>().is_ok() => Ok((host, None)),
        Some((host, port)) if host.parse::<Ipv6Addr>().is_ok() && port.starts_with(':') => Ok((host, Some(&port[1..]))),
        _ => {
            Err("the URL's brackets must hold an IPv6 address: write for example amqps://[2001:db8::1]:5671".to_owned())
        }
    }
}

fn valid_host(host: &str) -> Result<String, String> {
    let of_host = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
    match host {
        "" => Err(format!("the URL names no host: write {EXAMPLE}")),
        host if host.chars().all(of_host) => Ok(host.to_owned()),
        _ => Err(format!(
            "the URL's host must be a name of letters, digits, dashes and dots, or an IP address: write {EXAMPLE}"
        )),
    }
}

fn valid_port(port: Option<&str>) -> Result<u16, String> {
    match port.map(str::parse) {
        None => Ok(DEFAULT_PORT),
        Some(Ok(port)) if port > 0 => Ok(port),
        Some(_) => Err(format!(
            "the URL's port must be a number from 1 to 65535: correct it, or leave it out for {DEFAULT_PORT}"
        )),
    }
}

/// Without a path it is `/`, as everywhere.
fn valid_vhost(path: &str) -> Result<String, String> {
    if path.is_empty() {
        return Ok("/".to_owned());
    }
    if path.contains('/') {
        return Err(format!("the URL's virtual host must have its slashes written as %2F: write {EXAMPLE}"));
    }
    match percent_decoded(path) {
        Some(vhost) if !vhost.contains(char::is_control) => Ok(vhost),
        Some(_) => Err("the URL's virtual host must not have control characters: remove them".to_owned()),
        None => Err("the URL's virtual host has a % that no two hexadecimal digits of UTF-8 follow: write % as %25, and / as %2F".to_owned()),
    }
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let digits = part.get(..2).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).ok()
}

impl fmt::Display for BrokerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
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
    fn an_ipv6_address_is_not_taken_for_localhost() {
        let address: BrokerAddress = "amqps://me@[2001:db8::1]:5672/%2Fpubsub".parse().unwrap();
        assert_eq!((address.host.as_str(), address.port), ("2001:db8::1", 5672));
        assert_eq!(address.to_string(), "[2001:db8::1]:5672");
        for url in
            ["amqps:///%2Fpubsub", "amqps://:5671", "amqps://me@/", "amqps://[]", "amqps://[::1", "amqps://[::1]5"]
        {
            assert!(url.parse::<BrokerAddress>().is_err(), "{url}");
        }
    }

    #[test]
    fn the_virtual_host_is_the_path() {
        for (url, vhost) in [
            ("amqps://broker", "/"),
            ("amqps://broker/", "/"),
            ("amqps://broker/pubsub", "pubsub"),
            ("amqps://broker/%2fpub%20sub%C3%A9", "/pub subé"),
        ] {
            assert_eq!(url.parse::<BrokerAddress>().unwrap().vhost, vhost, "{url}");
        }
        let address: BrokerAddress = "amqps://broker/%2fpub%20sub%C3%A9".parse().unwrap();
        assert_eq!(address.url(), "amqps://broker:5671/%2Fpub%20sub%C3%A9");
        for url in
            ["amqps://broker/%", "amqps://broker/%2", "amqps://broker/%ZZ", "amqps://broker/%FF", "amqps://broker//a"]
        {
            assert!(url.parse::<BrokerAddress>().is_err(), "{url}");
        }
    }

    #[test]
    fn no_error_quotes_the_url() {
        for url in
            ["amqp://me:hunter2@a/", "amqps://me:hunter2@a:0/", "amqps://me:hunter2@a b/", "amqps://a/%ZZhunter2"]
        {
            assert!(!url.parse::<BrokerAddress>().unwrap_err().contains("hunter2"), "{url}");
        }
    }

    #[test]
    fn refuses_plain_amqp_and_nonsense() {
        for url in ["amqp://localhost/%2Fpubsub", "http://localhost", "", "localhost:5671"] {
            let detail = url.parse::<BrokerAddress>().unwrap_err();
            assert!(detail.contains("amqps://"), "{url}: {detail}");
        }
    }
}
