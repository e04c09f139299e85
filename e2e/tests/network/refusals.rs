//! A broker refuses many messages of one user. Each gets its own error, and the others are sent.

use fedora_message::policy::outcome::{Failure, Reason};
use fedora_message_operator::internals::{Brokers, Fence, Pool};
use rig::Proxy;

use crate::credentials::{login, publish};
use e2e::{SOON, certificate, shared, wait_soon};

/// More than twice the number of channels that the broker allows on a connection.
const REFUSALS: usize = 300;

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn refusals_keep_connection() {
    let proxy = Proxy::start(shared().broker.port()).expect("a proxy");
    let brokers = Brokers { prod: proxy.url().parse().expect("a URL"), stg: proxy.url().parse().expect("a URL") };
    let pool = Pool::new(brokers, SOON, Fence::always_open(), |_| {});
    let nice = login(&certificate("nice-app"));
    for n in 0..REFUSALS {
        let topic = format!("evil.topic{n}");
        let error = publish(&pool, &nice, &topic).await.expect_err("a refusal");
        assert_eq!(error.reason(), Reason::TopicForbidden, "{error:?}");
        assert!(error.to_string().contains(&format!("'{topic}'")), "{topic}: {error}");
        publish(&pool, &nice, &format!("nice.topic{n}")).await.expect("a confirm");
    }
    wait_soon("connections without channels end", || proxy.open() == 1);
    assert!(proxy.accepted() <= 4, "{} connections", proxy.accepted());
}
