//! The values of flags and variables: what clap's own parsers can't check.

use std::ffi::OsStr;
use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

use clap::Arg;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::error::ErrorKind;
use strum::VariantArray;
use url::Url;

use crate::broker::address::BrokerAddress;
use fedora_message::api::names::{SenderName, is_label, is_subdomain};
use fedora_message::api::v1alpha1::Environment;
use fedora_message::message::validate::valid_topic;

/// Parses a broker's URL, and quotes no invalid one: it may have a password.
#[derive(Clone)]
pub(crate) struct BrokerUrl;

impl TypedValueParser for BrokerUrl {
    type Value = BrokerAddress;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&Arg>,
        value: &OsStr,
    ) -> Result<BrokerAddress, clap::Error> {
        let parsed = match value.to_str() {
            Some(url) => url.parse::<BrokerAddress>().map_err(|error| error.to_string()),
            None => Err("the URL must be text in UTF-8: write it anew".to_owned()),
        };
        parsed.map_err(|detail| {
            let argument = argument.map(ToString::to_string).unwrap_or_default();
            let detail = format!("invalid value for '{argument}': {detail}\n");
            clap::Error::raw(ErrorKind::ValueValidation, detail).with_cmd(command)
        })
    }
}

/// Parses an environment's name.
pub(crate) fn environment() -> impl TypedValueParser<Value = Environment> {
    PossibleValuesParser::new(Environment::VARIANTS.iter().map(|environment| environment.name()))
        .try_map(|name| name.parse::<Environment>())
}

/// Parses a whole number. The texts of clap and the standard library do not say what is expected.
pub(crate) fn number<T: Copy + Display + FromStr + PartialOrd>(
    range: RangeInclusive<T>,
) -> impl Fn(&str) -> Result<T, String> + Clone {
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| format!("must be a whole number from {} to {}", range.start(), range.end()))
    }
}

/// A prefix is a topic, and may end with dots, as in the library.
pub(crate) fn topic_prefix(prefix: &str) -> Result<String, String> {
    match prefix.trim_end_matches('.') {
        "" => Ok(String::new()),
        prefix => valid_topic(prefix).map(|()| prefix.to_owned()).map_err(|detail| format!("the prefix {detail}")),
    }
}

/// Parses an IP address and a port. The text of the standard library does not say what is expected.
pub(crate) fn admin_address(address: &str) -> Result<SocketAddr, String> {
    address
        .parse()
        .map_err(|_| "must be an IP address and a port: write for example 0.0.0.0:8080 or [::]:8080".to_owned())
}

pub(crate) fn exchange(name: &str) -> Result<String, String> {
    match name.len() {
        1..=255 => Ok(name.to_owned()),
        length => Err(format!("must have 1 to 255 bytes, but has {length}: name an exchange, for example amq.topic")),
    }
}

pub(crate) fn collector(url: &str) -> Result<String, String> {
    match Url::parse(url) {
        Ok(parsed) if parsed.scheme() == "http" && parsed.has_host() => Ok(url.trim_end_matches('/').to_owned()),
        _ => Err("must be the URL of a collector that takes OTLP over plain HTTP: write for example http://localhost:4318, of one beside the operator".to_owned()),
    }
}

pub(crate) fn namespace(name: &str) -> Result<String, String> {
    if is_label(name) {
        Ok(name.to_owned())
    } else {
        Err("must be a namespace's name, of 1 to 63 lower case letters, digits and, between them, dashes: correct it"
            .to_owned())
    }
}

pub(crate) fn watched_namespace(name: &str) -> Result<String, String> {
    namespace(name)
        .map_err(|detail| format!("{detail}; separate several by commas alone, and for all leave the flag out"))
}

pub(crate) fn lease_name(name: &str) -> Result<String, String> {
    subdomain(name, "a Lease's name")
}

pub(crate) fn object_name(name: &str) -> Result<String, String> {
    subdomain(name, "an object's name")
}

fn subdomain(name: &str, what: &str) -> Result<String, String> {
    if is_subdomain(name) {
        Ok(name.to_owned())
    } else {
        Err(format!("must be {what}, of lower case letters, digits and, between them, dashes and dots: correct it"))
    }
}

/// Parses a Sender's namespace and name.
pub(crate) fn sender(text: &str) -> Result<SenderName, String> {
    match text.split_once('/') {
        Some((namespace, name)) if is_label(namespace) && is_subdomain(name) => Ok(SenderName::new(namespace, name)),
        _ => Err("must be a Sender's namespace and name: write for example apps/default".to_owned()),
    }
}
