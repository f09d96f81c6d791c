//! The command line of `tests/e2e/run`.
use crate::{
    conformance::{self, Case},
    fail::{Result, bail},
    story::Story,
    true_path::TruePath,
};

#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    pub(crate) list: bool,
    pub(crate) show: bool,
    pub(crate) keep: bool,
    pub(crate) jobs: usize,
    /// Play the conformance cases: alone when asked for, else before all stories.
    pub(crate) conformance: bool,
    /// Measure at scale instead of playing stories.
    pub(crate) scale: Option<Scale>,
    /// Soak instead of playing stories.
    pub(crate) soak: Option<Soak>,
    /// Play scenarios of the benchmark instead of stories.
    pub(crate) true_path: Option<TruePath>,
    wanted: Vec<String>,
}

/// How large the cluster of `--scale` is, and how long is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale {
    /// Deployments at rest.
    pub(crate) idle: usize,
    /// Deployments with a live trial.
    pub(crate) live: usize,
    /// Length of each window.
    pub(crate) minutes: u64,
}

/// How long `--soak` goes on, and what its chance comes from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Soak {
    pub(crate) minutes: u64,
    pub(crate) seed: u64,
}

impl Default for Soak {
    fn default() -> Self {
        // Told at the start, so that a failure can be played again.
        Self { minutes: 10, seed: jiff::Timestamp::now().as_second().unsigned_abs() }
    }
}

impl Default for Scale {
    fn default() -> Self {
        Self { idle: 5000, live: 200, minutes: 3 }
    }
}

impl Options {
    pub(crate) fn read(mut args: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self { jobs: 6, ..Self::default() };
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--list" => options.list = true,
                "--show" => options.show = true,
                "--keep" => options.keep = true,
                "--conformance" => options.conformance = true,
                "--jobs" => match args.next().and_then(|n| n.parse().ok()) {
                    Some(jobs) if jobs > 0 => options.jobs = jobs,
                    _ => bail!("--jobs needs a number, at least 1"),
                },
                "--scale" => {
                    options.scale.get_or_insert_default();
                }
                "--soak" => {
                    options.soak.get_or_insert_default();
                }
                "--true-path" => {
                    options.true_path.get_or_insert_default();
                }
                "--scenario" => match args.next() {
                    Some(id) => options.true_path.get_or_insert_default().scenarios.push(id),
                    None => bail!("--scenario needs the id of one, such as S03"),
                },
                "--seeds" => match args.next().and_then(|n| n.parse().ok()) {
                    Some(seeds @ 1..=100) => options.true_path.get_or_insert_default().seeds = Some(seeds),
                    _ => bail!("--seeds needs a number, from 1 to 100"),
                },
                "--seed" => match args.next().and_then(|n| n.parse().ok()) {
                    Some(seed) => options.soak.get_or_insert_default().seed = seed,
                    None => bail!("--seed needs a number"),
                },
                "--minutes" if options.soak.is_some() => match args.next().and_then(|n| n.parse().ok()) {
                    Some(minutes @ 1..=1440) => options.soak.get_or_insert_default().minutes = minutes,
                    _ => bail!("--minutes needs a number, from 1 to 1440"),
                },
                "--idle" | "--live" | "--minutes" => {
                    let scale = options.scale.get_or_insert_default();
                    match (arg.as_str(), args.next().and_then(|n| n.parse().ok())) {
                        ("--idle", Some(n)) if n > 0 => scale.idle = n,
                        ("--live", Some(n)) if n > 0 => scale.live = n,
                        ("--minutes", Some(n)) if n > 0 => scale.minutes = n as u64,
                        _ => bail!("{arg} needs a number, at least 1"),
                    }
                }
                unknown if unknown.starts_with('-') => bail!("unknown option {unknown}; see tests/e2e/run --help"),
                _ => options.wanted.push(arg),
            }
        }
        if options.show {
            // Several stories told at once cannot be followed.
            options.jobs = 1;
        }
        Ok(options)
    }

    /// Whether the conformance cases are to be played.
    pub(crate) fn with_conformance(&self) -> bool {
        self.conformance || (self.wanted.is_empty() && !self.keep && !self.show && self.soak.is_none())
    }

    /// The conformance cases that were asked for: those whose name has one of the words.
    pub(crate) fn choose_cases(&self) -> Vec<&'static Case> {
        let fits = |case: &&'static Case| self.wanted.is_empty() || self.wanted.iter().any(|w| case.name.contains(w));
        conformance::all().into_iter().filter(fits).collect()
    }

    /// The stories that were asked for: by name, by beginning, or by a part of the name.
    pub(crate) fn choose(&self, all: Vec<Story>) -> Result<Vec<Story>> {
        if self.conformance {
            return Ok(Vec::new());
        }
        if self.wanted.is_empty() {
            return Ok(all);
        }
        let mut chosen = Vec::new();
        for wanted in &self.wanted {
            let exact: Vec<&Story> = all
                .iter()
                .filter(|s| {
                    s.name == *wanted
                        || s.name.split_once('-').is_some_and(|(number, rest)| number == wanted || rest == wanted)
                })
                .collect();
            let found = if exact.is_empty() { all.iter().filter(|s| s.name.contains(wanted)).collect() } else { exact };
            if found.is_empty() {
                bail!("no story is called \"{wanted}\"; tests/e2e/run --list names them all");
            }
            chosen.extend(found.into_iter().cloned());
        }
        chosen.sort_by(|a: &Story, b: &Story| a.name.cmp(&b.name));
        chosen.dedup_by(|a, b| a.name == b.name);
        Ok(chosen)
    }
}
