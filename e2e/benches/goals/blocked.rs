//! An environment whose broker is blocked must not slow the other one.

use rig::Broker;

use crate::drain::rate;
use crate::table::{Row, ratios};
use crate::world::{Of, World};
use e2e::bench::Result;

/// Messages of a backlog for production, in each round, and of one for staging.
const BACKLOG: Of<usize> = Of { full: 1_000, short: 300 };
const OTHERS: usize = 100;
const ROUNDS: Of<usize> = Of { full: 3, short: 1 };
const GOAL: Of<f64> = Of { full: 0.9, short: 0.4 };

pub fn measure(world: &World) -> Result<Vec<Row>> {
    let staging = Broker::start()?;
    let (mut free, mut blocked) = (Vec::new(), Vec::new());
    for round in 0..world.of(ROUNDS) {
        for is_blocked in [round % 2 == 1, round % 2 == 0] {
            let rate = drain_beside(world, &staging, is_blocked)?;
            if is_blocked { blocked.push(rate) } else { free.push(rate) }
        }
    }
    Ok(vec![
        Row::ratio(
            "drain while the other environment's broker is blocked: rate beside not blocked",
            ratios(&blocked, &free),
        )
        .at_least(world.of(GOAL)),
        Row::figure("drain, the other environment blocked", "a second", blocked),
        Row::figure("drain, the other environment not blocked", "a second", free),
    ])
}

/// How many messages a second are sent to production, while there are some for staging.
fn drain_beside(world: &World, staging: &Broker, is_blocked: bool) -> Result<f64> {
    let (ours, others, count) = (world.space("prod")?, world.space("stg")?, world.of(BACKLOG));
    world.rig.kube.apply_text(&staging.client("publisher")?.secret_yaml("certs", &others.name))?;
    others.create_all((0..OTHERS).map(|number| {
        let mut message = others.message(number);
        message["spec"]["env"] = "stg".into();
        message
    }))?;
    ours.create(count)?;
    staging.set_memory_alarm(is_blocked)?;
    let (mut audit, mut all) = (world.audit()?, world.audit()?);
    let operator = world.operator(&[&ours, &others], &["--stg-amqp-url", &staging.url()])?;
    let mut requests = audit.wait_for_writes(&ours.name, count)?;
    requests.retain(crate::audit::Request::writes_status);
    // In both cases each of the others has a status: that it is sent, or that its broker is blocked.
    all.wait_for_writes(&others.name, OTHERS)?;
    staging.set_memory_alarm(false)?;
    operator.stop()?;
    Ok(rate(&requests))
}
