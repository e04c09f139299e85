//! Measures schema checks: their time compared with the Python library, the time to compile schemas, and
//! memory. It uses all schemas of the catalog with valid bodies.

use std::fs;
use std::hint::black_box;
use std::time::{Duration, Instant};

use fedora_message::schema::catalog::{Catalog, Schema, SchemaLookup};
use fedora_message::schema::validator::value;
use rig::schemas;
use serde_json::{Value, json};

use e2e::bench::operator::mebibytes;
use e2e::bench::{Result, machine};
use e2e::process_status;

/// The number of checks of each body here, and by the library.
const ROUNDS: u32 = 20;
const LIBRARY_ROUNDS: u32 = 2;

fn main() -> Result<()> {
    let bytes = fs::read(schemas::catalog()?)?;
    let cases = fs::read_to_string(schemas::cases()?)?;
    let before = memory();
    let started = Instant::now();
    let catalog = Catalog::read(&bytes)?;
    let read = started.elapsed();
    let idle = memory() - before;
    let started = Instant::now();
    for schema in &catalog.schemas {
        catalog.test(schema)?;
    }
    let compiled = started.elapsed();
    let all = memory() - before;

    let messages = cases.lines().map(|line| case(&catalog, line)).collect::<Result<Vec<_>>>()?;
    let messages: Vec<_> = messages.into_iter().flatten().collect();
    let ours = check(&catalog, &messages)?;
    let library = schemas::library_time(LIBRARY_ROUNDS)?;
    let number = u32::try_from(catalog.schemas.len())?;
    println!("{}", machine());
    println!("| what | | |");
    println!("|---|---|---|");
    println!("| a check, of {} valid bodies | {ours:.1?} | JSON parsed each time |", messages.len());
    println!(
        "| the library's | {library:.1?} | {:.0} times ours, JSON parsed before |",
        library.as_secs_f64() / ours.as_secs_f64()
    );
    println!("| a schema compiled, once | {:.1?} | mean of {number} |", compiled / number);
    println!("| the catalog read, {} KiB | {read:.1?} | {idle:.1} MiB resident |", bytes.len() / 1024);
    println!("| with all schemas compiled | {compiled:.1?} | {all:.1} MiB resident |");
    Ok(())
}

fn memory() -> f64 {
    mebibytes(process_status(std::process::id(), "VmRSS:") * 1024)
}

/// Returns a valid body as text, and its schema.
fn case<'a>(catalog: &'a Catalog, line: &str) -> Result<Option<(&'a Schema, String)>> {
    let case: Value = serde_json::from_str(line)?;
    if case["part"] != "body" || case["valid"] != true {
        return Ok(None);
    }
    let text = |key: &str| case[key].as_str().ok_or("a case without a text");
    match catalog.find(text("name")?, Some(text("distribution")?)) {
        SchemaLookup::Found(schema) => Ok(Some((schema, text("json")?.to_owned()))),
        other => Err(format!("{line}: {other:?}").into()),
    }
}

/// Returns the mean time of a check with compiled schemas.
fn check(catalog: &Catalog, messages: &[(&Schema, String)]) -> Result<Duration> {
    let headers = json!({"fedora_messaging_severity": 20, "fedora_messaging_schema": "a", "sent-at": "now"});
    let started = Instant::now();
    for _ in 0..ROUNDS {
        for (schema, json) in messages {
            let body = value(black_box(json)).ok_or("a body that is not JSON")?;
            catalog.check(schema, &headers, &body, false).map_err(|error| format!("{schema}: {error:?}"))?;
        }
    }
    Ok(started.elapsed() / (ROUNDS * u32::try_from(messages.len())?))
}
