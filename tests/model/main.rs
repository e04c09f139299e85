//! The protocol as a model, of which every state is looked at: what the API server stores, what the
//! watch tells and when, what the broker confirms, crashes, and two operators that hand over to each
//! other. docs/model.md tells what is in it, and how to read what it finds.
//!
//! Each kind of trouble may happen so many times in a run and no more, and no run comes back to a state
//! that it has been in (`check::assert_every_run_ends`). So every run ends, and "never lost" need not be asked
//! of endless runs: it says that wherever nothing is left to do but to wait for more trouble, the object is
//! sent, or its status says why not. Stateright's own `eventually` is not used: it overlooks runs that
//! join another, or go round in circles.

mod chance;
mod check;
mod choices;
mod mechanism;
mod mutants;
mod names;
mod properties;
mod protocol;
mod state;
mod step;
mod worlds;
