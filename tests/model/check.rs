//! Visits all states of a model, and prints each broken promise as a list of steps.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model, Path};

use crate::properties;
use crate::protocol::Protocol;
use crate::state::ModelState;
use crate::step::Step;

/// A run that breaks a promise.
pub struct Counterexample {
    pub promise: &'static str,
    steps: Vec<Step>,
    end: ModelState,
}

impl Counterexample {
    fn new(promise: &'static str, path: Path<ModelState, Step>) -> Self {
        Self { promise, end: path.last_state().clone(), steps: path.into_actions() }
    }

    /// Formats the run with one step per line.
    pub fn story(&self) -> String {
        let steps: Vec<String> =
            self.steps.iter().enumerate().map(|(n, step)| format!("{:3}. {step}", n + 1)).collect();
        format!("broken: {}\n{}\n     {:?}\n     {:?}", self.promise, steps.join("\n"), self.end.object, self.end.truth)
    }
}

/// Asserts that each state keeps every promise, that every situation occurs, and that there are at
/// least `at_least` states.
pub fn assert_holds(name: &str, protocol: &Protocol, at_least: usize) {
    let start = Instant::now();
    let checker = protocol.clone().checker().finish_when(HasDiscoveries::AnyFailures).threads(2).spawn_bfs().join();
    let (states, depth) = (checker.unique_state_count(), checker.max_depth());
    let seen = checker.discoveries();
    if seen.keys().any(|name| properties::is_promise(name)) {
        let story = counterexample(protocol).map(|found| found.story());
        panic!("{name}, after {states} states\n{}", story.unwrap_or_default());
    }
    let unseen: Vec<_> = protocol.situations.iter().filter(|situation| !seen.contains_key(*situation)).collect();
    assert!(unseen.is_empty(), "{name}: never occurred in {states} states: {unseen:?}");
    println!("{name}: {states} states, at most {depth} steps, {:.1} s", start.elapsed().as_secs_f32());
    assert!(states >= at_least, "{name}: only {states} states: the model has become trivial");
}

/// Returns the shortest run that breaks any promise.
pub fn counterexample(protocol: &Protocol) -> Option<Counterexample> {
    let mut shortest = None;
    let mut depth = usize::MAX;
    // The checker's first counterexample may not be the shortest: it keeps the last of a block of
    // states.
    while let Some(found) = find_within(protocol, depth) {
        depth = found.steps.len() + 1;
        shortest = Some(found);
    }
    shortest
}

/// Returns a counterexample whose run has fewer than `depth` states.
fn find_within(protocol: &Protocol, depth: usize) -> Option<Counterexample> {
    let checker =
        protocol.clone().checker().finish_when(HasDiscoveries::AnyFailures).target_max_depth(depth).spawn_bfs().join();
    let broken = checker.discoveries().into_iter().filter(|(name, _)| properties::is_promise(name));
    broken.map(|(name, path)| Counterexample::new(name, path)).min_by_key(|found| found.steps.len())
}

/// Asserts that no run returns to an earlier state. So every run ends.
pub fn assert_every_run_ends(name: &str, protocol: &Protocol) {
    let hasher = RandomState::new();
    // The value is true while the state is on the current run.
    let mut seen: HashMap<u64, bool> = HashMap::new();
    let mut stack: Vec<(ModelState, bool)> = protocol.init_states().into_iter().map(|state| (state, false)).collect();
    while let Some((state, left)) = stack.pop() {
        let key = hasher.hash_one(&state);
        if left {
            seen.insert(key, false);
            continue;
        }
        assert_ne!(seen.get(&key), Some(&true), "{name}: a run returns to {state:?}");
        if seen.contains_key(&key) {
            continue;
        }
        seen.insert(key, true);
        let next = protocol.next_states(&state);
        stack.push((state, true));
        stack.extend(next.into_iter().map(|state| (state, false)));
    }
}
