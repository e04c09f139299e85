//! Goes through all states of a model, and tells what it finds in words.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model, Path};

use crate::properties;
use crate::protocol::Protocol;
use crate::state::State;
use crate::step::Step;

/// How a promise is broken: its name, and the steps that lead there.
pub struct Counterexample {
    pub promise: &'static str,
    steps: Vec<Step>,
    end: State,
}

impl Counterexample {
    fn new(promise: &'static str, path: Path<State, Step>) -> Self {
        Self { promise, end: path.last_state().clone(), steps: path.into_actions() }
    }

    /// The story, one step a line.
    pub fn story(&self) -> String {
        let steps: Vec<String> =
            self.steps.iter().enumerate().map(|(n, step)| format!("{:3}. {step}", n + 1)).collect();
        format!("broken: {}\n{}\n     {:?}\n     {:?}", self.promise, steps.join("\n"), self.end.object, self.end.truth)
    }
}

/// Goes through all states; at least so many must be there. Every promise holds in each of them, every
/// sight is seen, and every run ends.
pub fn assert_holds(name: &str, protocol: &Protocol, at_least: usize) {
    let start = Instant::now();
    let checker = protocol.clone().checker().finish_when(HasDiscoveries::AnyFailures).threads(2).spawn_bfs().join();
    let (states, depth) = (checker.unique_state_count(), checker.max_depth());
    let seen = checker.discoveries();
    if seen.keys().any(|name| properties::is_promise(name)) {
        let story = counterexample(protocol).map(|found| found.story());
        panic!("{name}, after {states} states\n{}", story.unwrap_or_default());
    }
    let unseen: Vec<_> = protocol.sights.iter().filter(|sight| !seen.contains_key(*sight)).collect();
    assert!(unseen.is_empty(), "{name}: never seen in {states} states: {unseen:?}");
    println!("{name}: {states} states, at most {depth} steps, {:.1} s", start.elapsed().as_secs_f32());
    assert!(states >= at_least, "{name}: only {states} states: the model has become trivial");
}

/// The shortest way to break any promise.
pub fn counterexample(protocol: &Protocol) -> Option<Counterexample> {
    let mut shortest = None;
    let mut depth = usize::MAX;
    // The checker's first find need not be its shortest: it keeps the last one of a block of states.
    while let Some(found) = first_found(protocol, depth) {
        depth = found.steps.len() + 1;
        shortest = Some(found);
    }
    shortest
}

/// What is found in fewer states in a row than `depth`.
fn first_found(protocol: &Protocol, depth: usize) -> Option<Counterexample> {
    let checker =
        protocol.clone().checker().finish_when(HasDiscoveries::AnyFailures).target_max_depth(depth).spawn_bfs().join();
    let broken = checker.discoveries().into_iter().filter(|(name, _)| properties::is_promise(name));
    broken.map(|(name, path)| Counterexample::new(name, path)).min_by_key(|found| found.steps.len())
}

/// No run comes back to a state that it has been in: every run ends.
pub fn assert_every_run_ends(name: &str, protocol: &Protocol) {
    let hasher = RandomState::new();
    // Whether a state is on the way to the one that is looked at.
    let mut seen: HashMap<u64, bool> = HashMap::new();
    let mut stack: Vec<(State, bool)> = protocol.init_states().into_iter().map(|state| (state, false)).collect();
    while let Some((state, left)) = stack.pop() {
        let key = hasher.hash_one(&state);
        if left {
            seen.insert(key, false);
            continue;
        }
        assert_ne!(seen.get(&key), Some(&true), "{name}: a run comes back to {state:?}");
        if seen.contains_key(&key) {
            continue;
        }
        seen.insert(key, true);
        let next = protocol.next_states(&state);
        stack.push((state, true));
        stack.extend(next.into_iter().map(|state| (state, false)));
    }
}
