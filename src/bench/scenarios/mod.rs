//! The scenarios: S01 to S50 of the design, and those that an adversary of the rule thought of. Pure.
//!
//! Each is one small function from chance to a [`World`]: what happens and what is true of it. What is not said
//! in a scenario is drawn from the ranges of `build::typical`. None may be dropped or softened.

mod adversary;
mod attribution;
mod build;
mod errors;
mod kubernetes;
mod latency;
mod monitoring;

use super::{
    random::Random,
    world::{Moment, World},
};

/// One scenario.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// `S01` … `S50`, `A01` …
    pub id: &'static str,
    /// What happens.
    pub title: &'static str,
    /// Whether its rollouts that must not be undone count towards false undos of clean deploys.
    pub clean: bool,
    build: fn(&mut Random) -> World,
}

impl Scenario {
    /// What happens in the run of this seed, and the chance that is left for it.
    pub fn world(&self, seed: u64) -> (World, Random) {
        // Scenarios of the same seed must not share their chance.
        let name = self.id.bytes().fold(0_u64, |sum, byte| sum.wrapping_mul(131).wrapping_add(u64::from(byte)));
        let mut random = Random::new(seed ^ name.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let world = (self.build)(&mut random);
        (world, random)
    }
}

/// All scenarios, in order.
pub fn all() -> Vec<Scenario> {
    let groups = [
        errors::SCENARIOS,
        latency::SCENARIOS,
        kubernetes::SCENARIOS,
        monitoring::SCENARIOS,
        attribution::SCENARIOS,
        adversary::SCENARIOS,
    ];
    let mut all: Vec<Scenario> = groups.into_iter().flatten().copied().collect();
    // S before A.
    all.sort_by_key(|scenario| (scenario.id.starts_with('A'), scenario.id));
    all
}

/// The scenario with this id, in any case.
pub fn find(id: &str) -> Option<Scenario> {
    all().into_iter().find(|scenario| scenario.id.eq_ignore_ascii_case(id))
}

/// A step of failures of this size at this traffic, a minute after an otherwise clean rollout.
pub(super) fn step(seed: u64, share: f64, rps: f64) -> (World, Random) {
    let mut random = Random::new(seed ^ share.to_bits() ^ rps.to_bits().rotate_left(17));
    let mut world = build::typical(&mut random);
    (world.subject().rps, world.subject().pods, world.deploys[0].start_up) = (rps, 4, 10.0);
    world.errors(Moment::Done(0, 60.0), share, f64::INFINITY);
    (world, random)
}

const fn scenario(id: &'static str, title: &'static str, build: fn(&mut Random) -> World) -> Scenario {
    Scenario { id, title, clean: false, build }
}

/// One of the mix that false undos of clean deploys are counted on.
const fn clean(id: &'static str, title: &'static str, build: fn(&mut Random) -> World) -> Scenario {
    Scenario { id, title, clean: true, build }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_of_the_design_is_there_once() {
        let ids: Vec<&str> = all().iter().map(|scenario| scenario.id).collect();
        for n in 1..=50 {
            assert_eq!(ids.iter().filter(|id| **id == format!("S{n:02}")).count(), 1, "S{n:02}");
        }
        assert!(ids.iter().filter(|id| id.starts_with('A')).count() >= 10);
        let mix: Vec<&str> = all().iter().filter(|s| s.clean).map(|s| s.id).collect();
        let wanted = ["S01", "S02", "S13", "S14", "S15", "S20", "S21", "S23", "S34", "S35", "S36", "S37", "S42"];
        assert_eq!(mix, wanted);
    }
}
