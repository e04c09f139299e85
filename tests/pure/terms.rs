//! The operator's loop, as it loses the Lease and takes it again, while the API server does not
//! answer.

use std::sync::Arc;
use std::time::Duration;

use fedora_message_operator::broker::address::BrokerAddress;
use fedora_message_operator::broker::gate::Gate;
use fedora_message_operator::broker::keyring::Keyring;
use fedora_message_operator::broker::pool::{Brokers, Pool};
use fedora_message_operator::certificates::Certificates;
use fedora_message_operator::cluster::bodies::Bodies;
use fedora_message_operator::cluster::events::Events;
use fedora_message_operator::cluster::janitor::Janitor;
use fedora_message_operator::cluster::lease::Tenure;
use fedora_message_operator::cluster::queue::{Pods, Queue};
use fedora_message_operator::cluster::secrets::Secrets;
use fedora_message_operator::cluster::status::StatusWriter;
use fedora_message_operator::cluster::watch::Event;
use fedora_message_operator::controller::Controller;
use fedora_message_operator::delivery::Delivery;
use fedora_message_operator::message::resource::Environment;
use fedora_message_operator::metrics::Metrics;
use fedora_message_operator::operator::{self, Inputs};
use futures::{StreamExt, stream};
use kube::{Client, Config};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::yield_now;
use tokio::time::{Instant, timeout};

use crate::fixture::{example, message, plain_routing};

/// Within this everything happens that is to happen.
const SOON: Duration = Duration::from_secs(30);

fn leader(term: u64) -> Tenure {
    Tenure::Leader { term, until: Instant::now() + 10 * SOON }
}

fn controller(client: Client) -> Controller {
    let broker: BrokerAddress = "amqps://localhost:1/%2F".parse().unwrap();
    let brokers = Brokers { prod: broker.clone(), stg: broker };
    Controller {
        janitor: Janitor::new(None, |_| {}),
        statuses: StatusWriter::new(client.clone(), 8),
        bodies: Bodies::new(client.clone()),
        events: Events::new(client.clone(), "me".to_owned()),
        routing: plain_routing(),
        secrets: Secrets::new(client, drop),
        keyring: Keyring::default(),
        certificates: Certificates::default(),
        schemas: Arc::default(),
        #[cfg(feature = "otlp")]
        traces: None,
        metrics: Arc::new(Metrics::new()),
        delivery: Delivery::Direct(Pool::new(brokers, SOON, Gate::always_open(), drop)),
    }
}

#[tokio::test]
async fn a_term_begins_once_the_hands_of_the_one_before_have_ended() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", silent.local_addr().unwrap());
    let client = Client::try_from(Config::new(address.parse().unwrap())).unwrap();
    let (tenure, receiver) = watch::channel(leader(1));
    let (begun, mut term) = watch::channel(None);
    let (_waker, wakes) = mpsc::unbounded_channel();
    let (asker, questions) = mpsc::channel(1);
    let inputs = Inputs {
        watch: || {
            let pending = [Event::Begin, Event::Seen(Box::new(message(&example()))), Event::Complete];
            stream::iter(pending.map(|event| (0, event))).chain(stream::pending()).boxed()
        },
        scopes: 1,
        wakes,
        questions,
        tenure: receiver,
        begun,
        obstacle: watch::channel(None).0,
    };
    let running = tokio::spawn(operator::run(
        Arc::new(controller(client)),
        Queue::new(8, Pods::default()),
        inputs,
        std::future::pending(),
    ));

    let connection = timeout(SOON, silent.accept()).await.expect("a hand reads the Secret").unwrap();
    assert_eq!(*term.borrow(), Some(1));
    let (question, answer) = oneshot::channel();
    asker.send(question).await.unwrap();
    let report = timeout(SOON, answer).await.expect("it answers while a hand waits").unwrap();
    assert!(report.leads);
    assert_eq!(report.pending[0], (Some(Environment::Prod), [1; 5]));
    tenure.send_replace(Tenure::Follower);
    timeout(SOON, term.wait_for(Option::is_none)).await.expect("the term ends").unwrap();
    tenure.send_replace(leader(2));
    for _ in 0..100 {
        yield_now().await;
    }
    assert_eq!(*term.borrow(), None, "a hand of the first term still waits for its Secret");
    drop((connection, silent));
    timeout(SOON, term.wait_for(|term| *term == Some(2))).await.expect("the next term begins").unwrap();
    running.abort();
}
