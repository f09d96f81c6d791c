//! The table behind a verdict: one line per signal. Pure.

use super::{
    baseline::ErrorBaseline,
    counter::Tally,
    evidence::Evidence,
    explain::{self, percent, share},
    facts::Fact,
    family::Latency,
    health::Answer,
    trial::Trial,
    verdict::{Opinion, Said},
};
use crate::domain::{Finding, FindingCounts, HoldReason};

/// All lines, the strongest streams first.
pub(super) fn table(
    trial: &Trial,
    fact: Option<&Fact>,
    answers: &[Answer],
    errors: &Said,
    latency: &Said,
) -> Vec<Finding> {
    let mut lines = vec![pods(trial, fact)];
    if let Some(family) = &trial.errors {
        let mut line = counted("errors", "new pods", &family.evidence, family.baseline.before, errors);
        line.before = before(&family.baseline);
        line.limit = Some(percent(family.evidence.theta()));
        lines.push(line);
    }
    lines.extend(latency_line(trial, latency));
    if let Some((baseline, evidence)) = trial.callers.test() {
        let opinion = match evidence.log_e() {
            e if e < 0.0 => Opinion::Clean,
            _ => Opinion::Open,
        };
        let mut line = counted("errors", "callers", evidence, baseline.before, &Said { opinion, since: None });
        line.before = before(baseline);
        line.limit = Some(percent(evidence.theta()));
        if evidence.fired() {
            line.says = "broken, old and new pods mixed: blames nobody".to_owned();
        }
        lines.push(line);
    }
    lines.extend(answers.iter().map(probe));
    lines
}

fn line(signal: &str, stream: &str, new: String, says: &str) -> Finding {
    Finding {
        signal: signal.to_owned(),
        stream: stream.to_owned(),
        new,
        old: None,
        before: None,
        limit: None,
        log_e: None,
        since: None,
        counts: None,
        says: says.to_owned(),
    }
}

fn pods(trial: &Trial, fact: Option<&Fact>) -> Finding {
    let count = |pods: &mut dyn Iterator<Item = &super::roster::Pod>| {
        pods.fold((0, 0), |(ready, all), pod| (ready + usize::from(pod.state.ready), all + 1))
    };
    let (ready, all) = count(&mut trial.roster.of(&trial.to));
    let (old_ready, old_all) = count(&mut trial.roster.not_of(&trial.to));
    let says = match fact {
        Some(fact) => match fact.hold {
            Some(hold) => hold_says(hold).to_owned(),
            None => format!("convicts: {}", fact.reason),
        },
        None if all > 0 && ready == all => "clean".to_owned(),
        None => "not all Ready".to_owned(),
    };
    Finding {
        old: Some(format!("{old_ready} of {old_all} Ready")),
        since: fact.and_then(|fact| fact.since),
        ..line("pods", "cluster", format!("{ready} of {all} Ready"), &says)
    }
}

fn counted(signal: &str, stream: &str, evidence: &Evidence, before: Tally, said: &Said) -> Finding {
    // While it is suspected, what counts is the time since it began; otherwise the whole watch.
    let onset = evidence.onset().filter(|_| evidence.fired());
    let (new, old) = onset.map_or((evidence.new_total(), evidence.old_total()), |onset| (onset.new, onset.old));
    Finding {
        old: share(old),
        before: share(before),
        log_e: Some(evidence.log_e()),
        since: said.since,
        counts: Some(FindingCounts {
            new_bad: new.bad,
            new_total: new.total,
            old_bad: old.bad,
            old_total: old.total,
            before_bad: before.bad,
            before_total: before.total,
        }),
        ..line(signal, stream, share(new).unwrap_or_else(|| "no requests".to_owned()), says(&said.opinion))
    }
}

fn before(baseline: &ErrorBaseline) -> Option<String> {
    explain::before(baseline.before, baseline.span)
}

fn latency_line(trial: &Trial, said: &Said) -> Option<Finding> {
    let plain = |says: String| Some(line("latency", "new pods", "cannot be judged".to_owned(), &says));
    match &trial.latency {
        Latency::Unmeasured => None,
        Latency::NoBaseline => plain("not enough requests before the rollout to compare with".to_owned()),
        Latency::Saturated(bound) => plain(format!(
            "saturated: the limit lies in the last bucket of the histogram (above {})",
            explain::latency(*bound)
        )),
        Latency::Tested(slow) => {
            let cut = &slow.cut;
            let mut line = counted("latency", "new pods", slow.evidence(), cut.before_tally, said);
            line.new = format!("{} slower than {}", line.new, explain::latency(cut.seconds));
            line.before = Some(format!("{} {}", explain::quantile(cut.quantile), explain::latency(cut.before)));
            line.limit = Some(format!("{} slower than {}", percent(cut.theta), explain::latency(cut.seconds)));
            Some(line)
        }
    }
}

fn probe(answer: &Answer) -> Finding {
    let of = |(failed, all): (u32, u32)| format!("{failed} of {all} failed");
    let says = match (answer.fails, answer.hold) {
        (true, Some(hold)) => hold_says(hold),
        (true, None) => "convicts",
        (false, _) if answer.since.is_some() => "fails, but was never seen to pass before the rollout",
        (false, _) if answer.new.1 == 0 => "not asked yet",
        (false, _) if answer.new.0 == 0 => "clean",
        (false, _) => "not enough",
    };
    Finding {
        old: (answer.old.1 > 0).then(|| of(answer.old)),
        since: answer.since,
        ..line("health", &format!("probe {}", answer.probe), of(answer.new), says)
    }
}

fn says(opinion: &Opinion) -> &'static str {
    match opinion {
        Opinion::Silent => "not measured",
        Opinion::Clean => "clean",
        Opinion::Open | Opinion::Wait(_) => "not enough",
        Opinion::Hold(reason, _) => hold_says(*reason),
        Opinion::Fail(_) => "convicts",
    }
}

fn hold_says(hold: HoldReason) -> &'static str {
    match hold {
        HoldReason::OldVersion => "old pods fail too",
        HoldReason::ClusterWide => "peers broke too",
        HoldReason::Node => "one node",
        HoldReason::Dependency => "a dependency broke first",
        HoldReason::Before => "was so before",
        HoldReason::OnePod => "one pod",
        HoldReason::Shared => "other pods show it too",
        HoldReason::NoBaseline => "no good revision to go back to",
    }
}
