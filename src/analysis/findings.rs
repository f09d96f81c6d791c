//! The table behind a verdict: one line per signal. Pure.

use super::{
    baseline::{Cut, ErrorBaseline},
    counter::Tally,
    draft::{Draft, Opinion, Said},
    evidence::Evidence,
    explain::{self, percent, share},
    facts::Fact,
    family::Latency,
    health::Answer,
    leak::Leak,
    trial::Trial,
    tuning::FACT_SHARE,
};
use crate::domain::{Finding, FindingCounts, HoldReason};

/// All lines, the strongest streams first.
pub(super) fn table(trial: &Trial, draft: &Draft) -> Vec<Finding> {
    let Draft { fact, answers, errors, latency, callers, .. } = draft;
    let mut lines = vec![pods(trial, fact.as_ref())];
    if let Some(family) = &trial.errors {
        let mut line = counted("errors", "new pods", &family.evidence, family.baseline.before, errors);
        line.before = before(&family.baseline);
        line.limit = Some(percent(family.evidence.theta()));
        lines.push(line);
    }
    lines.extend(latency_line(trial, latency));
    lines.extend(trial.latency.tested().and_then(|slow| slow.slower_as_a_whole()).map(typical));
    if let Some((baseline, evidence)) = trial.callers.test() {
        let mut line = counted("errors", "callers", evidence, baseline.before, callers);
        line.before = before(baseline);
        line.limit = Some(percent(evidence.theta()));
        if evidence.fired() && callers.opinion == Opinion::Open {
            line.says = "broken, old and new pods mixed: new pods speak for themselves".to_owned();
        }
        lines.push(line);
    }
    lines.extend(trial.leak.as_ref().map(memory));
    lines.extend(answers.iter().map(probe));
    lines.extend(trial.issues.all().map(|(source, issues, events)| {
        let says = if trial.issues.loud().is_some() { NEVER_ALONE } else { "not enough" };
        line("issues", source, format!("{issues} new ({events} events)"), says)
    }));
    lines
}

/// What a second signal says.
const NEVER_ALONE: &str = "speaks against it, but never alone";

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
        would_pass_if: None,
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
    let fewest = (all as f64 * FACT_SHARE).ceil().max(1.0);
    let passes = fact.map(|fact| match fact.hold {
        Some(_) => format!("fewer than {fewest} of {all} new pods failed; undone if nothing else explained it"),
        None => format!("fewer than {fewest} of {all} new pods failed"),
    });
    Finding {
        would_pass_if: passes.filter(|_| all > 0),
        old: Some(format!("{old_ready} of {old_all} Ready")),
        since: fact.and_then(|fact| fact.since),
        ..line("pods", "cluster", format!("{ready} of {all} Ready"), &says)
    }
}

fn counted(signal: &str, stream: &str, evidence: &Evidence, before: Tally, said: &Said) -> Finding {
    let what = if signal == "latency" { "slower" } else { "failed" };
    // While it is suspected, what counts is the time since it began; otherwise the whole watch.
    let onset = said.case.as_ref().and_then(|_| evidence.onset());
    let (new, old) = onset.map_or((evidence.new_total(), evidence.old_total()), |onset| (onset.new, onset.old));
    // What would have to be otherwise: the ratio within the limit, whatever chance makes of it.
    let most = (evidence.theta() * new.total).floor();
    let wrong = !matches!(said.opinion, Opinion::Clean | Opinion::Silent) && new.bad > most;
    Finding {
        would_pass_if: wrong
            .then(|| format!("at most {most} of {} {what}, not {}", new.total.round(), new.bad.round())),
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

/// Requests that are no tail, where they surely got slower by more than the limit allows.
fn typical((new, cut): (Tally, &Cut)) -> Finding {
    let slower = |share: String| format!("{share} slower than {}", explain::latency(cut.seconds));
    Finding {
        before: Some(format!("{} {}", explain::quantile(cut.quantile), explain::latency(cut.before))),
        limit: Some(slower(percent(cut.theta))),
        ..line("latency", "typical requests", slower(share(new).unwrap_or_default()), NEVER_ALONE)
    }
}

fn memory(leak: &Leak) -> Finding {
    Finding {
        old: leak.old.map(|old| format!("+ {}", explain::growth(old))),
        limit: Some(format!("{}, in {}", explain::mebibytes(leak.limit), explain::duration(leak.left))),
        ..line(
            "memory",
            "new pods",
            format!("+ {}", explain::growth(leak.new)),
            "grows: a pass may wait, never undone for it",
        )
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
    let passes = (answer.since.is_some() || answer.fails).then(|| "one new pod passed it once".to_owned());
    Finding {
        would_pass_if: passes,
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
        HoldReason::Unattributed => "nothing tells whose doing it is",
    }
}
