//! A broker refuses many messages of one user: each is told so for its own sake, and the others go on.

use fedora_message::policy::outcome::{Failure, Reason};
use fedora_message_operator::internals::Fence;
use fedora_message_operator::internals::{Brokers, Pool};
use rig::{Proxy, wait_until};

use crate::credentials::{credentials, publish};
use e2e::world::{SOON, world};

/// More than twice as many as the broker allows a connection to have channels.
const REFUSALS: usize = 300;

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn each_refusal_is_a_messages_own_and_the_connection_never_wears_out() {
    let proxy = Proxy::start(world().broker.port()).expect("a proxy");
    let brokers = Brokers { prod: proxy.url().parse().expect("a URL"), stg: proxy.url().parse().expect("a URL") };
    let pool = Pool::new(brokers, SOON, Fence::always_open(), |_| {});
    let nice = credentials(&world().broker.client("nice-app").expect("a certificate"));
    for n in 0..REFUSALS {
        let topic = format!("evil.topic{n}");
        let error = publish(&pool, &nice, &topic).await.expect_err("it is refused");
        assert_eq!(error.reason(), Reason::TopicForbidden, "{error:?}");
        assert!(error.to_string().contains(&format!("'{topic}'")), "{topic}: {error}");
        publish(&pool, &nice, &format!("nice.topic{n}")).await.expect("it is confirmed");
    }
    wait_until(SOON, "connections without channels end", || proxy.open() == 1).expect("they end");
    assert!(proxy.accepted() <= 4, "{} connections", proxy.accepted());
}
