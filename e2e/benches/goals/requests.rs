//! What a message costs the API server in steady state, counted in its audit log: one write, no read.

use crate::table::Row;
use crate::world::{Of, World};
use e2e::bench::Result;

const MESSAGES: Of<usize> = Of { full: 500, short: 100 };

pub fn measure(world: &World) -> Result<Vec<Row>> {
    let count = world.of(MESSAGES);
    let space = world.space("requests")?;
    let mut audit = world.audit()?;
    let operator = world.operator(&[&space], &[])?;
    // The first one has the Secret read.
    space.create(1)?;
    audit.wait_for_steady_state(&space.name)?;
    let mut audit = world.audit()?;
    space.create_all((1..=count).map(|number| space.message(number)))?;
    let mut requests = audit.wait_for_writes(&space.name, count)?;
    operator.stop()?;
    requests.extend(audit.read()?);
    requests.retain(|request| request.is_operators() && request.verb != "watch");
    let (reads, writes): (Vec<_>, Vec<_>) =
        requests.iter().partition(|request| ["get", "list"].contains(&request.verb.as_str()));
    let each = |requests: Vec<_>| [requests.len() as f64 / count as f64];
    Ok(vec![
        Row::ratio(format!("writes to the API server for a message, of {count} in steady state"), each(writes))
            .exactly(1.0),
        Row::ratio("reads from the API server for a message", each(reads)).exactly(0.0),
    ])
}
