//! A broker's address: an `amqps://` URL, checked once.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;
use url::{Host, ParseError, Url};

/// The port of AMQP over TLS.
pub const DEFAULT_PORT: u16 = 5671;
/// A valid URL, for error messages.
const EXAMPLE: &str = "for example amqps://rabbitmq.fedoraproject.org/%2Fpubsub";
/// The maximum length of a virtual host in bytes, by AMQP.
const MAX_VHOST: usize = 255;
/// The beginning of every URL.
const SCHEME: &str = "amqps://";

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

/// Why a URL is not a broker's address.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum AddressError {
    /// The scheme is not `amqps`.
    #[error("the URL must begin with amqps://, because messages are sent only over TLS: write {}", EXAMPLE)]
    Scheme,
    /// The URL has a query or a fragment.
    #[error("the URL must end after the virtual host: remove what follows ? or #")]
    Tail,
    /// The host is missing.
    #[error("the URL names no host: write {}", EXAMPLE)]
    NoHost,
    /// The host has characters that no host has.
    #[error("the URL's host must be a name of letters, digits, dashes and dots, or an IP address: write {}", EXAMPLE)]
    Host,
    /// An IPv6 address stands without brackets.
    #[error(
        "the URL's host must stand in brackets if it is an IPv6 address: write for example amqps://[2001:db8::1]:5671"
    )]
    NoBrackets,
    /// The brackets do not hold an IPv6 address.
    #[error("the URL's brackets must hold an IPv6 address: write for example amqps://[2001:db8::1]:5671")]
    Brackets,
    /// The port is not one.
    #[error("the URL's port must be a number from 1 to 65535: correct it, or leave it out for {}", DEFAULT_PORT)]
    Port,
    /// The path has more than one segment.
    #[error("the URL's virtual host must have its slashes written as %2F: write {}", EXAMPLE)]
    Slash,
    /// The virtual host has control characters.
    #[error("the URL's virtual host must not have control characters: remove them")]
    Control,
    /// The virtual host has no room in AMQP.
    #[error("the URL's virtual host must have at most {} bytes: correct it", MAX_VHOST)]
    LongVhost,
    /// The virtual host is not percent-encoded UTF-8.
    #[error(
        "the URL's virtual host has a % that no two hexadecimal digits of UTF-8 follow: write % as %25, and / as %2F"
    )]
    Encoding,
}

impl BrokerAddress {
    /// Returns the URL of this address, for other programs.
    #[must_use]
    pub fn url(&self) -> String {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        let escaped = |byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
        format!("amqps://{self}/{}", self.vhost.bytes().map(escaped).collect::<String>())
    }
}

impl FromStr for BrokerAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let rest = text.strip_prefix(SCHEME).ok_or(AddressError::Scheme)?;
        // The parser would drop white space.
        let (authority, _) = rest.split_once(['/', '?', '#']).unwrap_or((rest, ""));
        let place = authority.rsplit_once('@').map_or(authority, |(_, place)| place);
        if place.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(AddressError::Host);
        }
        if !place.starts_with('[') && place.matches(':').count() > 1 {
            return Err(AddressError::NoBrackets);
        }
        let url = Url::parse(text).map_err(|error| match error {
            ParseError::EmptyHost => AddressError::NoHost,
            ParseError::InvalidIpv6Address => AddressError::Brackets,
            ParseError::InvalidPort => AddressError::Port,
            _ => AddressError::Host,
        })?;
        if url.query().is_some() || url.fragment().is_some() {
            return Err(AddressError::Tail);
        }
        let host = valid_host(&url)?;
        let port = url.port().unwrap_or(DEFAULT_PORT);
        if port == 0 {
            return Err(AddressError::Port);
        }
        Ok(Self { host, port, vhost: valid_vhost(url.path())? })
    }
}

fn valid_host(url: &Url) -> Result<String, AddressError> {
    match url.host() {
        None | Some(Host::Domain("")) => Err(AddressError::NoHost),
        Some(Host::Domain(name)) if name.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c)) => {
            Ok(name.to_owned())
        }
        Some(Host::Domain(_)) => Err(AddressError::Host),
        Some(Host::Ipv4(address)) => Ok(address.to_string()),
        Some(Host::Ipv6(address)) => Ok(address.to_string()),
    }
}

/// Returns the virtual host that a path names. Without a path it is `/`, as in other clients.
fn valid_vhost(path: &str) -> Result<String, AddressError> {
    let path = path.strip_prefix('/').unwrap_or(path);
    if path.is_empty() {
        return Ok("/".to_owned());
    }
    if path.contains('/') {
        return Err(AddressError::Slash);
    }
    match percent_decoded(path) {
        Some(vhost) if vhost.contains(char::is_control) => Err(AddressError::Control),
        Some(vhost) if vhost.len() > MAX_VHOST => Err(AddressError::LongVhost),
        Some(vhost) => Ok(vhost),
        None => Err(AddressError::Encoding),
    }
}

/// Decodes strictly: the crates for URLs keep a `%` that no two digits follow.
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
    fn refuses_a_long_virtual_host() {
        let parse = |length| format!("amqps://broker/{}", "v".repeat(length)).parse::<BrokerAddress>();
        assert!(parse(MAX_VHOST).is_ok());
        assert_eq!(parse(MAX_VHOST + 1), Err(AddressError::LongVhost));
    }

    #[test]
    fn no_error_quotes_the_url() {
        for url in
            ["amqp://me:hunter2@a/", "amqps://me:hunter2@a:0/", "amqps://me:hunter2@a b/", "amqps://a/%ZZhunter2"]
        {
            assert!(!url.parse::<BrokerAddress>().unwrap_err().to_string().contains("hunter2"), "{url}");
        }
    }

    #[test]
    fn refuses_plain_amqp_and_nonsense() {
        for url in ["amqp://localhost/%2Fpubsub", "http://localhost", "", "localhost:5671"] {
            let detail = url.parse::<BrokerAddress>().unwrap_err().to_string();
            assert!(detail.contains("amqps://"), "{url}: {detail}");
        }
    }
}
