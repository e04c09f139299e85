//! A model of the protocol between API server, operators and broker. The checker visits every
//! state.
//!
//! docs/model.md describes the model and its results.
//!
//! Each kind of fault happens a limited number of times in a run. No run returns to an earlier
//! state (`check::assert_every_run_ends`). So every run ends, and "never lost" needs no endless
//! runs: if only faults can still happen, the object is sent, or its status has the reason why not.
//!
//! Stateright's `eventually` is not used, because it misses runs that join another run, or that
//! contain a cycle.

mod check;
mod fault;
mod mechanism;
mod mutants;
mod names;
mod possible;
mod properties;
mod protocol;
mod scenarios;
mod sender;
mod state;
mod step;
