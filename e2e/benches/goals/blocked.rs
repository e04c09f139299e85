//! Measures that a blocked broker does not slow the other environment.

use rig::Broker;

use crate::drain::rate;
use crate::setup::{Scaled, Setup};
use crate::table::{Row, ratios};
use e2e::bench::Result;

/// The backlog of each round for production, and for staging.
const BACKLOG: Scaled<usize> = Scaled { full: 1_000, short: 300 };
const OTHERS: usize = 100;
const ROUNDS: Scaled<usize> = Scaled { full: 3, short: 1 };
const GOAL: Scaled<f64> = Scaled { full: 0.9, short: 0.4 };

pub fn measure(setup: &Setup) -> Result<Vec<Row>> {
    let staging = Broker::start()?;
    let (mut free, mut blocked) = (Vec::new(), Vec::new());
    for round in 0..setup.pick(ROUNDS) {
        for is_blocked in [round % 2 == 1, round % 2 == 0] {
            let rate = drain_beside(setup, &staging, is_blocked)?;
            if is_blocked { blocked.push(rate) } else { free.push(rate) }
        }
    }
    Ok(vec![
        Row::ratio(
            "drain while the other environment's broker is blocked: rate beside not blocked",
            ratios(&blocked, &free),
        )
        .at_least(setup.pick(GOAL)),
        Row::figure("drain, the other environment blocked", "a second", blocked),
        Row::figure("drain, the other environment not blocked", "a second", free),
    ])
}

/// Returns the messages per second to production, while staging has messages too.
fn drain_beside(setup: &Setup, staging: &Broker, is_blocked: bool) -> Result<f64> {
    let (ours, others, count) = (setup.namespace("prod")?, setup.namespace("stg")?, setup.pick(BACKLOG));
    setup.rig.kube.apply_text(&staging.client("publisher")?.secret_yaml("certs", &others.name))?;
    others.create_all((0..OTHERS).map(|number| {
        let mut message = others.message(number);
        message["spec"]["env"] = "stg".into();
        message
    }))?;
    ours.create(count)?;
    staging.set_memory_alarm(is_blocked)?;
    let (mut audit, mut all) = (setup.audit()?, setup.audit()?);
    let operator = setup.operator(&[&ours, &others], &["--stg-amqp-url", &staging.url()]);
    let mut requests = audit.wait_for_writes(&ours.name, count)?;
    requests.retain(crate::audit::AuditedRequest::writes_status);
    // In both cases, each message for staging gets a status: sent, or blocked.
    all.wait_for_writes(&others.name, OTHERS)?;
    staging.set_memory_alarm(false)?;
    operator.stop();
    Ok(rate(&requests))
}
