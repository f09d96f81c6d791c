//! What an image does when it runs: how it starts, how it answers, when it dies.

use super::random::Random;
use serde::{Deserialize, Serialize};
use statrs::function::erf::erfc;
use std::collections::BTreeMap;

/// Seconds of virtual time.
pub type Span = f64;

/// Upper bounds of the latency histogram in seconds: the Go client's defaults. The last bucket is `+Inf`.
pub const BOUNDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// What one image does. The default is a good service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Behaviour {
    /// Whether its container can be made at all.
    pub start: Start,
    /// Time to pull the image and make the container.
    pub starts_in: Span,
    /// Time from running to Ready; none: never.
    pub ready_after: Option<Span>,
    /// Share of requests answered with 500, from so long after the container's start on; before the first
    /// entry none. `[[0, 0.0], [300, 1.0]]` fails wholly after five minutes.
    pub errors: Vec<(Span, f64)>,
    /// How long an answer takes.
    pub latency: Latency,
    /// The container ends by itself this long after its start.
    pub crash_after: Option<Span>,
    /// With what.
    pub exit_code: i32,
    /// Memory that it uses, and where it is killed for it.
    pub memory: Memory,
    /// Refuses every connection although it is Ready.
    pub refuses: bool,
    /// Whether `/health` passes.
    pub healthy: bool,
    /// Time from being told to stop until it is gone; never longer than its grace.
    pub stops_in: Span,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            start: Start::default(),
            starts_in: 0.5,
            ready_after: Some(1.0),
            errors: Vec::new(),
            latency: Latency::default(),
            crash_after: None,
            exit_code: 1,
            memory: Memory::default(),
            refuses: false,
            healthy: true,
            stops_in: 1.0,
        }
    }
}

/// Whether a container can be made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Start {
    /// It can.
    #[default]
    Runs,
    /// There is no such image.
    PullError,
    /// It names a ConfigMap that does not exist.
    ConfigError,
}

/// A lognormal distribution.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Latency {
    /// Half of the answers are faster, in seconds.
    pub median: f64,
    /// Standard deviation of the logarithm: 0.5 puts the 95th percentile at 2.3 medians.
    pub sigma: f64,
}

impl Default for Latency {
    fn default() -> Self {
        Self { median: 0.02, sigma: 0.5 }
    }
}

/// Memory of a container in MiB.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Memory {
    /// At its start.
    pub base: f64,
    /// Added in each second.
    pub creep: f64,
    /// Where the kernel kills it.
    pub limit: f64,
}

impl Default for Memory {
    fn default() -> Self {
        Self { base: 64.0, creep: 0.0, limit: 256.0 }
    }
}

impl Behaviour {
    /// One that fails this share of its requests.
    pub fn failing(share: f64) -> Self {
        Self { errors: vec![(0.0, share)], ..Self::default() }
    }

    /// One whose container ends this long after each start.
    pub fn crashing(after: Span) -> Self {
        Self { crash_after: Some(after), ready_after: None, ..Self::default() }
    }

    /// Share of requests that fail at this age of the container.
    pub fn errors_at(&self, age: Span) -> f64 {
        let begun = self.errors.iter().filter(|(from, _)| *from <= age);
        begun.max_by(|a, b| a.0.total_cmp(&b.0)).map_or(0.0, |(_, share)| share.clamp(0.0, 1.0))
    }

    /// Memory in MiB at this age.
    pub fn memory_at(&self, age: Span) -> f64 {
        self.memory.base + self.memory.creep * age
    }

    /// Age at which the container ends, and how.
    pub fn end(&self) -> Option<(Span, End)> {
        let room = self.memory.limit - self.memory.base;
        let killed = (self.memory.creep > 0.0).then(|| (room.max(0.0) / self.memory.creep, End::OUT_OF_MEMORY));
        let crash = self.crash_after.map(|after| (after.max(0.0), End { code: self.exit_code, reason: "Error" }));
        let end = killed.into_iter().chain(crash).min_by(|a, b| a.0.total_cmp(&b.0));
        end.map(|(age, end)| if end.code == 0 { (age, End { reason: "Completed", ..end }) } else { (age, end) })
    }
}

/// How a container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// Its exit code.
    pub code: i32,
    /// The kubelet's word for it.
    pub reason: &'static str,
}

impl End {
    const OUT_OF_MEMORY: End = End { code: 137, reason: "OOMKilled" };
}

impl Latency {
    /// Share of answers that take at most `seconds`.
    fn within(&self, seconds: f64) -> f64 {
        if self.sigma <= 0.0 {
            return f64::from(u8::from(seconds >= self.median));
        }
        let z = (seconds / self.median.max(1e-9)).ln() / self.sigma;
        0.5 * erfc(-z * std::f64::consts::FRAC_1_SQRT_2)
    }

    /// Spreads `n` answers over the buckets of [`BOUNDS`] and `+Inf`; not cumulative.
    pub fn spread(&self, n: u64, random: &mut Random) -> [u64; BOUNDS.len() + 1] {
        let mut buckets = [0; BOUNDS.len() + 1];
        let (mut left, mut below) = (n, 0.0);
        for (bucket, bound) in buckets.iter_mut().zip(BOUNDS) {
            let upto = self.within(bound);
            // Of those that are not below this bucket, the share that is in it.
            *bucket = random.binomial(left, ((upto - below) / (1.0 - below).max(1e-12)).clamp(0.0, 1.0));
            (left, below) = (left - *bucket, upto);
        }
        buckets[BOUNDS.len()] = left;
        buckets
    }

    /// The mean in seconds.
    pub fn mean(&self) -> f64 {
        self.median * (self.sigma * self.sigma / 2.0).exp()
    }
}

/// What each image does; an image without an entry is a good service.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Behaviours(pub BTreeMap<String, Behaviour>);

impl Behaviours {
    /// What this image does.
    pub fn of(&self, image: &str) -> Behaviour {
        self.0.get(image).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_follow_the_schedule() {
        let behaviour = Behaviour { errors: vec![(60.0, 1.0), (0.0, 0.1)], ..Behaviour::default() };
        for (age, share) in [(0.0, 0.1), (59.9, 0.1), (60.0, 1.0), (999.0, 1.0)] {
            assert!((behaviour.errors_at(age) - share).abs() < 1e-12, "{age}");
        }
        assert!(Behaviour::default().errors_at(5.0).abs() < 1e-12);
    }

    #[test]
    fn what_comes_first_ends_it() {
        let both = |crash, creep| {
            let memory = Memory { base: 64.0, creep, limit: 256.0 };
            Behaviour { crash_after: crash, memory, ..Behaviour::default() }.end()
        };
        assert_eq!(both(None, 0.0), None);
        assert_eq!(both(Some(5.0), 0.0), Some((5.0, End { code: 1, reason: "Error" })));
        assert_eq!(both(Some(500.0), 1.0), Some((192.0, End { code: 137, reason: "OOMKilled" })));
    }

    #[test]
    fn latencies_are_lognormal() {
        let latency = Latency { median: 0.1, sigma: 0.5 };
        assert!((latency.within(0.1) - 0.5).abs() < 1e-6);
        assert!((latency.within(0.1 * (1.644_854 * 0.5_f64).exp()) - 0.95).abs() < 1e-6);
        let buckets = latency.spread(100_000, &mut Random::new(1));
        assert_eq!(buckets.iter().sum::<u64>(), 100_000);
        let upto: u64 = buckets[..5].iter().sum();
        assert!((49_000..51_000).contains(&upto), "{upto}");
        assert_eq!(Latency { median: 0.1, sigma: 0.0 }.spread(7, &mut Random::new(1))[4], 7);
    }

    #[test]
    fn a_behaviour_is_readable_and_a_typo_is_no_behaviour() {
        let read = |text: &str| serde_json::from_str::<Behaviours>(text);
        let behaviours = read(r#"{"shop/web:2": {"errors": [[0, 0.12]], "readyAfter": null}}"#).expect("reads");
        assert_eq!(behaviours.of("shop/web:2"), Behaviour { ready_after: None, ..Behaviour::failing(0.12) });
        assert_eq!(behaviours.of("shop/web:1"), Behaviour::default());
        assert!(read(r#"{"shop/web:2": {"erors": []}}"#).is_err());
    }
}
