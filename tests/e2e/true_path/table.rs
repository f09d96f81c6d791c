//! What both legs decided, side by side.
use crate::fail::{Context, Result};
use std::{fmt::Write, path::Path, time::Duration};

/// Share of rollouts on which both must agree (decision.md 4.1).
const WANTED: f64 = 0.99;
/// From the least to the most that can be done about a rollout.
const ACTIONS: [&str; 4] = ["none", "hold", "report", "undo"];

/// The most that was done about one rollout, and when it was first done, in seconds from the rollout's begin.
#[derive(Debug, Clone, Default)]
pub(super) struct Decided {
    rank: usize,
    at: Option<f64>,
    /// Everything that was said, in order.
    said: Vec<String>,
}

impl Decided {
    /// Takes one more word.
    pub(super) fn is(&mut self, action: &str, at: f64, why: &str) {
        self.said.push(format!("{at:6.0} s {action}: {why}"));
        let rank = ACTIONS.iter().position(|known| *known == action).unwrap_or(0);
        if rank > self.rank {
            (self.rank, self.at) = (rank, Some(at));
        }
    }

    fn tell(&self) -> String {
        self.at.map_or(ACTIONS[self.rank].to_owned(), |at| format!("{} {at:.0} s", ACTIONS[self.rank]))
    }

    /// Whether Prometheus once did not answer it in time.
    fn was_blind(&self) -> bool {
        self.said.iter().any(|said| said.contains("prometheus cannot be read"))
    }

    fn undone(&self) -> Option<f64> {
        self.at.filter(|_| ACTIONS[self.rank] == "undo")
    }
}

/// One rollout.
pub(super) struct Pair {
    pub(super) scenario: &'static str,
    pub(super) seed: u64,
    pub(super) workload: String,
    pub(super) fast: Decided,
    pub(super) slow: Decided,
}

impl Pair {
    fn agrees(&self) -> bool {
        self.fast.rank == self.slow.rank
    }
}

/// Prints the table, and writes it into `out`; says how many rollouts are missing to the agreement that is wanted.
pub(super) fn tell(pairs: &[Pair], took: Duration, out: &Path) -> Result<usize> {
    let mut text = format!("{:<9}{:<9}{:<14}{:<14}{:<14}\n", "scenario", "seed", "workload", "fast path", "true path");
    for pair in pairs {
        let Pair { scenario, seed, workload, fast, slow } = pair;
        let mark = if pair.agrees() { "" } else { "DIFFERS" };
        let line = format!("{scenario:<9}{seed:<9}{workload:<14}{:<14}{:<14}{mark}", fast.tell(), slow.tell());
        writeln!(text, "{}", line.trim_end())?;
    }
    for pair in pairs.iter().filter(|pair| !pair.agrees()) {
        writeln!(text, "\n{} {} {}", pair.scenario, pair.seed, pair.workload)?;
        for (path, decided) in [("fast", &pair.fast), ("true", &pair.slow)] {
            decided.said.iter().try_for_each(|said| writeln!(text, "  {path} {said}"))?;
        }
    }
    let agree = pairs.iter().filter(|pair| pair.agrees()).count();
    let all = pairs.len();
    writeln!(text, "\nagreement: {agree} of {all} rollouts ({:.1} %)", 100.0 * agree as f64 / all as f64)?;
    for action in ACTIONS {
        let of = |decided: &Decided| ACTIONS[decided.rank] == action;
        let (fast, slow) = (pairs.iter().filter(|p| of(&p.fast)).count(), pairs.iter().filter(|p| of(&p.slow)).count());
        writeln!(text, "  {action}: {fast} by the fast path, {slow} by the true path")?;
    }
    let mut later: Vec<f64> = pairs.iter().filter_map(|p| Some(p.slow.undone()? - p.fast.undone()?)).collect();
    later.sort_by(f64::total_cmp);
    if let (Some(first), Some(last)) = (later.first(), later.last()) {
        let median = later[later.len() / 2];
        writeln!(text, "the true path undoes {median:+.0} s later (median; {first:+.0} to {last:+.0} s)")?;
    }
    // A daemon that cannot read says nothing of the daemon.
    let blind: Vec<&Pair> = pairs.iter().filter(|pair| pair.slow.was_blind()).collect();
    let differ = blind.iter().filter(|pair| !pair.agrees()).count();
    if !blind.is_empty() {
        let n = blind.len();
        writeln!(
            text,
            "Prometheus did not answer in time for {n} rollouts ({differ} of those that differ): too busy a machine"
        )?;
    }
    println!("{text}took {:.0} s", took.as_secs_f64());
    std::fs::write(out.join("true-path.txt"), &text).context("true-path.txt")?;
    Ok(((WANTED * all as f64).ceil() as usize).saturating_sub(agree))
}
