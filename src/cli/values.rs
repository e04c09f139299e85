//! What flags and variables may be, with words for what they may not.

use std::ffi::OsStr;
use std::net::SocketAddr;

use clap::Arg;
use clap::builder::TypedValueParser;
use clap::error::ErrorKind;

use crate::broker::address::BrokerAddress;
use fedora_message::api::names::{is_label, is_subdomain};
use fedora_message::api::v1alpha1::Environment;
use fedora_message::message::validate::valid_topic;

/// Reads a broker's URL, without quoting one that is wrong: there may be a password in it.
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
        let url = value.to_str().ok_or_else(|| "the URL must be text in UTF-8: write it anew".to_owned());
        url.and_then(str::parse).map_err(|detail| {
            let argument = argument.map(ToString::to_string).unwrap_or_default();
            let detail = format!("invalid value for '{argument}': {detail}\n");
            clap::Error::raw(ErrorKind::ValueValidation, detail).with_cmd(command)
        })
    }
}

pub(crate) fn environment(name: &str) -> Result<Environment, String> {
    name.parse().map_err(|_| "there are prod and stg".to_owned())
}

/// A prefix is a topic, but for dots at its end, which the library allows too.
pub(crate) fn topic_prefix(prefix: &str) -> Result<String, String> {
    match prefix.trim_end_matches('.') {
        "" => Ok(String::new()),
        prefix => valid_topic(prefix).map(|()| prefix.to_owned()).map_err(|detail| format!("the prefix {detail}")),
    }
}

pub(crate) fn exchange(name: &str) -> Result<String, String> {
    match name.len() {
        1..=255 => Ok(name.to_owned()),
        length => Err(format!("must have 1 to 255 bytes, but has {length}: name an exchange, for example amq.topic")),
    }
}

pub(crate) fn concurrency(number: &str) -> Result<u16, String> {
    number
        .parse()
        .ok()
        .filter(|number| (1..=1024).contains(number))
        .ok_or_else(|| "must be a whole number from 1 to 1024: correct it".to_owned())
}

pub(crate) fn seconds(number: &str) -> Result<u16, String> {
    number
        .parse()
        .ok()
        .filter(|number| *number > 0)
        .ok_or_else(|| format!("must be a whole number of seconds from 1 to {}, without a unit: correct it", u16::MAX))
}

pub(crate) fn time_to_live(number: &str) -> Result<u32, String> {
    let most = i32::MAX.cast_unsigned();
    number
        .parse()
        .ok()
        .filter(|number| *number <= most)
        .ok_or_else(|| format!("must be a whole number of seconds from 0 to {most}, without a unit: correct it"))
}

pub(crate) fn admin_address(address: &str) -> Result<SocketAddr, String> {
    address
        .parse()
        .map_err(|_| "must be an IP address and a port: write for example 0.0.0.0:8080 or [::]:8080".to_owned())
}

#[cfg(feature = "otlp")]
pub(crate) fn collector(url: &str) -> Result<String, String> {
    match url.parse::<http::Uri>() {
        Ok(uri) if uri.scheme_str() == Some("http") && uri.host().is_some() => {
            Ok(url.trim_end_matches('/').to_owned())
        }
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
    named(name, "a Lease's name")
}

pub(crate) fn object_name(name: &str) -> Result<String, String> {
    named(name, "an object's name")
}

fn named(name: &str, what: &str) -> Result<String, String> {
    if is_subdomain(name) {
        Ok(name.to_owned())
    } else {
        Err(format!("must be {what}, of lower case letters, digits and, between them, dashes and dots: correct it"))
    }
}
