//! The broker of a message is the one of its environment, or of the library's configuration.

use clap::Parser;

use super::*;
use crate::cli::{Cli, Command};

fn arguments(more: &[&str]) -> PublishArgs {
    let all = [&["fedora-message-operator", "publish", "--topic", "a"], more].concat();
    match Cli::try_parse_from(all).unwrap().command {
        Some(Command::Publish(arguments)) => *arguments,
        other => panic!("{other:?}"),
    }
}

/// Otherwise a message for staging would go to the broker of the configuration, which may be production.
#[test]
fn environment_contradicts_configuration() {
    let refusal = |more: &[&str]| {
        let arguments = arguments(&[&["--conf", "absent.toml"], more].concat());
        configuration(&arguments, false).unwrap_err().to_string()
    };
    for more in [&["--env", "stg"][..], &["--env", "stg", "--prod-amqp-url", "amqps://broker"]] {
        let expected =
            "--env stg and the configuration absent.toml (--conf or FEDORA_MESSAGING_CONF) both name a broker";
        assert!(refusal(more).starts_with(expected), "{}", refusal(more));
    }
    for more in [&[][..], &["--env", "stg", "--stg-amqp-url", "amqps://broker"]] {
        assert!(refusal(more).starts_with("can't read absent.toml"), "{}", refusal(more));
    }
}

#[test]
fn knows_fedoras_brokers() {
    let fedoras = arguments(&[]).broker.brokers();
    let (prod, stg) = (Environment::Prod, Environment::Stg);
    assert_eq!((wrong_broker(prod, &fedoras.prod), wrong_broker(stg, &fedoras.stg)), (None, None));
    for (environment, broker, text) in [
        (
            stg,
            &fedoras.prod,
            "is for stg, but would go to rabbitmq.fedoraproject.org:5671, which is Fedora's broker for prod",
        ),
        (prod, &fedoras.stg, "is for prod, but would go to rabbitmq.stg.fedoraproject.org:5671, which is Fedora's"),
    ] {
        let fault = wrong_broker(environment, broker).unwrap();
        assert!(fault.contains(text), "{fault}");
    }
    let other: BrokerAddress = "amqps://localhost".parse().unwrap();
    assert_eq!((wrong_broker(prod, &other), wrong_broker(stg, &other)), (None, None));
}
