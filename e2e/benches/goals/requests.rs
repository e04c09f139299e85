//! Counts the requests per message in steady state: one write, no read.

use crate::setup::{Scaled, Setup};
use crate::table::Row;
use e2e::bench::Result;

const MESSAGES: Scaled<usize> = Scaled { full: 500, short: 100 };

pub fn measure(setup: &Setup) -> Result<Vec<Row>> {
    let count = setup.pick(MESSAGES);
    let namespace = setup.namespace("requests")?;
    let mut audit = setup.audit()?;
    let operator = setup.operator(&[&namespace], &[]);
    // The first message makes the operator read the Secret.
    namespace.create(1)?;
    audit.wait_for_steady_state(&namespace.name)?;
    let mut audit = setup.audit()?;
    namespace.create_all((1..=count).map(|number| namespace.message(number)))?;
    let mut requests = audit.wait_for_writes(&namespace.name, count)?;
    operator.stop();
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
