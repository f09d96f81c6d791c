//! Sentences (decision.md 2.8): what is seen and why it means what it means. Pure.

use super::{
    bake::Baked,
    baseline::{Cut, ErrorBaseline, Span},
    counter::Tally,
    draft::Case,
    evidence::Evidence,
    family::Latency,
    lately::Doubt,
    leak::Leak,
    monitoring::Outage,
    roster::Pod,
    scene::Compared,
    trial::Trial,
    tuning::{LEVEL, SOME_TRAFFIC, STUCK},
};
use crate::domain::{FailReason, HoldReason, Kind, LatencyLimit, Seconds};

/// A share for people: `8.1 %`, `0.3 %`, `12 %`; two digits, three near 100 %.
pub(super) fn percent(share: f64) -> String {
    let value = share * 100.0;
    if !value.is_finite() {
        "unknown".to_owned()
    } else if value <= 0.0 {
        "0 %".to_owned()
    } else if value < 0.01 {
        "below 0.01 %".to_owned()
    } else {
        let decimals = match value {
            v if v < 0.1 => 3,
            v if v < 1.0 => 2,
            v if v < 9.95 || (v > 99.0 && v < 100.0) => 1,
            _ => 0,
        };
        format!("{} %", trimmed(value, decimals))
    }
}

fn trimmed(value: f64, decimals: usize) -> String {
    let mut text = format!("{value:.decimals$}");
    if text.contains('.') {
        text.truncate(text.trim_end_matches('0').trim_end_matches('.').len());
    }
    text
}

/// `8.1 % of 7512`.
pub(super) fn share(tally: Tally) -> Option<String> {
    tally.ratio().map(|ratio| format!("{} of {}", percent(ratio), tally.total.round()))
}

/// A time for people: `310 ms`, `1.2 s`.
pub(super) fn latency(seconds: f64) -> String {
    if seconds < 0.9995 {
        let ms = seconds * 1000.0;
        format!("{} ms", trimmed(ms, if ms < 10.0 { 1 } else { 0 }))
    } else {
        format!("{} s", trimmed(seconds, if seconds < 10.0 { 2 } else { 0 }))
    }
}

/// A duration for people: `45 s`, `12 min`, `3 h`.
pub(super) fn duration(seconds: Seconds) -> String {
    match seconds.max(0.0) {
        s if s < 120.0 => format!("{} s", s.ceil()),
        s if s < 7200.0 => format!("{} min", (s / 60.0).ceil()),
        s => format!("{} h", trimmed(s / 3600.0, 1)),
    }
}

/// `p95`.
pub(super) fn quantile(q: f64) -> String {
    format!("p{}", trimmed(q * 100.0, 2))
}

pub(super) fn plural(n: usize, one: &str) -> String {
    format!("{n} {one}{}", if n == 1 { "" } else { "s" })
}

/// What convicts, with who was asked besides, and how sure it is.
pub(super) fn convicted(case: &Case, compared: &Compared) -> String {
    let mut text = case.sentence.clone();
    if compared.told > 0 {
        let peers = format!("{} of {} affected", compared.broken, plural(compared.told, "peer"));
        match text.strip_suffix(')') {
            Some(open) => text = format!("{open}, {peers})"),
            None => text.push_str(&format!(" ({peers})")),
        }
    } else if !case.compared {
        text.push_str("; neither old pods beside them for long enough nor peers are there to compare with, so the cluster is not ruled out");
    }
    text + if case.seconded { SECONDED } else { SURE }
}

/// Ends a sentence with how sure it is.
const SURE: &str = "; chance of a false alarm below 1 in 10000.";
/// The same where a second signal makes up for half of the evidence.
const SECONDED: &str = "; by itself a false alarm of 1 in 100 at most, and a second signal says the same.";

/// A hard fact, without the final stop.
pub(super) fn fact(reason: FailReason, affected: &[(&Pod, Seconds)], total: usize) -> String {
    let pods = format!("{} of {}", affected.len(), plural(total, "new pod"));
    let first = affected.first().map(|(pod, _)| *pod);
    let waiting = first.and_then(|pod| pod.state.waiting.as_deref()).unwrap_or("waiting");
    let name = first.map_or("", |pod| pod.state.pod.name.as_str());
    match reason {
        FailReason::CrashLoop => {
            let exit = match first {
                Some(pod) if pod.state.oom_killed => "killed for memory".to_owned(),
                Some(pod) => format!("exit code {}", pod.state.exit_code.unwrap_or(1)),
                None => String::new(),
            };
            let restarts = first.map_or(0, |pod| pod.state.restarts) as usize;
            let verb = if affected.len() == 1 { "crashes" } else { "crash" };
            format!("{pods} {verb} again and again ({name}: {}, {exit})", plural(restarts, "restart"))
        }
        FailReason::ImagePull => format!("{pods} cannot get the image for more than a minute ({name}: {waiting})"),
        FailReason::ConfigError => {
            format!("{pods} cannot be made from the configuration for more than a minute ({name}: {waiting})")
        }
        _ if total == 0 => "Kubernetes gave up waiting for progress: no new pod could be made".to_owned(),
        _ => format!("Kubernetes gave up waiting for progress: {pods} not Ready"),
    }
}

/// Why a hard fact is not blamed on the rollout; ends the sentence.
pub(super) fn fact_hold(hold: HoldReason) -> &'static str {
    match hold {
        HoldReason::Shared => ", but pods that are not of this rollout show the same fault.",
        HoldReason::NoBaseline => {
            ", but the old revision crashed as well and was never seen Ready: there is no good one to go back to."
        }
        HoldReason::Node => ", but all of them run on one node and new pods elsewhere are Ready.",
        _ => ", but it is not this rollout's doing.",
    }
}

pub(super) fn probe_pods(name: &str, pods: usize, fails: u32, old: (u32, u32), detail: Option<&str>) -> String {
    let detail = detail.map(|d| format!(" ({d})")).unwrap_or_default();
    format!(
        "Probe {name} failed {fails} times in a row on {}{detail}; on old pods it failed {} of {} times",
        if pods == 1 { "the new pod".to_owned() } else { format!("all {pods} new pods") },
        old.0,
        old.1
    )
}

pub(super) fn probe_service(name: &str, fails: u32, detail: Option<&str>) -> String {
    let detail = detail.map(|d| format!(" ({d})")).unwrap_or_default();
    format!("Probe {name} failed {fails} times in a row through the Service{detail}; it passed before the rollout")
}

/// What was measured before the rollout, and over which time if not the usual one.
pub(super) fn before(tally: Tally, span: Span) -> Option<String> {
    let ratio = percent(tally.ratio()?);
    Some(match span {
        Span::Window => ratio,
        Span::Season => format!("{ratio} at this time of day"),
        Span::Lifetime => format!("{ratio} since the old pods started"),
    })
}

fn old_pods(old: Tally) -> String {
    match old.ratio().filter(|_| old.total >= 1.0) {
        Some(ratio) => format!(", old pods now {}", percent(ratio)),
        None => String::new(),
    }
}

/// `8.1 % of 7512 requests on new pods failed (limit 5 %, before 0.3 %, old pods now 0.4 %)`.
pub(super) fn errors(new: Tally, old: Tally, baseline: &ErrorBaseline, limit: f64) -> String {
    let before = before(baseline.before, baseline.span).unwrap_or_else(|| "not measured".to_owned());
    let share = share(new).unwrap_or_else(|| "None".to_owned());
    format!("{share} requests on new pods failed ({}, before {before}{})", tested(baseline, limit), old_pods(old))
}

/// The limit that is tested, and why it is another than people wrote.
fn tested(baseline: &ErrorBaseline, limit: f64) -> String {
    if baseline.theta > limit {
        format!("limit {}, taken as {} because of what was before", percent(limit), percent(baseline.theta))
    } else {
        format!("limit {}", percent(limit))
    }
}

/// `30 % of 900 requests failed as callers see it (limit 5 %, before 0.3 %); new pods answer nothing`.
pub(super) fn callers(seen: Tally, baseline: &ErrorBaseline, limit: f64, silent: bool) -> String {
    let before = before(baseline.before, baseline.span).unwrap_or_else(|| "not measured".to_owned());
    let why = if silent { "no new pod was counted" } else { "new pods do not show it" };
    let share = share(seen).unwrap_or_else(|| "None".to_owned());
    format!("{share} requests failed as callers see it, where {why} (limit {}, before {before})", percent(limit))
}

/// `31 % of 7512 requests on new pods took longer than 450 ms (limit 5 %; p95 was 300 ms before, +50 % allowed)`.
pub(super) fn slow(new: Tally, old: Tally, cut: &Cut, limit: LatencyLimit) -> String {
    let share = share(new).unwrap_or_else(|| "None".to_owned());
    let lifetime = match cut.span {
        Span::Window => " before",
        Span::Lifetime => " since the old pods started",
        Span::Season => " at this time of an earlier day",
    };
    format!(
        "{share} requests on new pods took longer than {} (limit {}; {} was {}{lifetime}, +{} allowed{})",
        latency(cut.seconds),
        percent(cut.theta),
        quantile(cut.quantile),
        latency(cut.before),
        percent(limit.max_increase),
        old_pods(old)
    )
}

/// The second signal of slowness: `typical requests are slower, too: 31 % took longer than 58 ms, limit 22 %`.
pub(super) fn slower_as_a_whole(new: Tally, cut: &Cut) -> String {
    let share = percent(new.ratio().unwrap_or(0.0));
    format!(
        "typical requests are slower, too: {share} took longer than {}, limit {}",
        latency(cut.seconds),
        percent(cut.theta)
    )
}

/// Why nothing can be told now.
pub(super) fn frozen(outage: &Outage) -> String {
    let reason = if outage.reason.is_empty() { String::new() } else { format!(" ({})", outage.reason) };
    if outage.monitoring {
        format!("Monitoring itself is not sane{reason}, so nothing is concluded from its numbers.")
    } else {
        format!("Nothing is measured now because {} cannot be read{reason}.", outage.source)
    }
}

/// What is still missing, or why it is enough.
pub(super) fn baked(trial: &Trial, baked: Baked, t: Seconds) -> String {
    let new: Vec<&Pod> = trial.roster.of(&trial.to).collect();
    let ready = new.iter().filter(|pod| pod.state.ready).count();
    let age = trial.first_ready.map_or(0.0, |first| t - first);
    let so_far = so_far(trial);
    let (strongest, doubt) = strongest(trial).map_or((0.0, None), |evidence| (evidence.log_e(), evidence.doubt()));
    let min = trial.rules.min_requests;
    match baked {
        Baked::NotReady if new.is_empty() => format!("No new pod has been seen yet.{}", in_the_way(trial, t)),
        Baked::NotReady => {
            format!("{ready} of {} Ready{so_far}.{}", plural(new.len(), "new pod"), in_the_way(trial, t))
        }
        Baked::Baking(_) if strongest >= 1.0 => format!(
            "{ready} of {} Ready{so_far}; evidence against it is {strongest:.1} of {LEVEL:.1}{}.",
            plural(new.len(), "new pod"),
            doubt.map_or("", doubted)
        ),
        Baked::Baking(left) => {
            let more = min as f64 - trial.requests;
            let more = if more > 0.0 { format!(" and after {} more requests", more.ceil()) } else { String::new() };
            format!(
                "{ready} of {} Ready{so_far}; passes in {}{more} at the earliest.",
                plural(new.len(), "new pod"),
                duration(left)
            )
        }
        Baked::Unsettled if strongest < 1.0 => {
            format!("The watch is over{so_far}, but that is too close to the limit to pass.")
        }
        Baked::Unsettled => format!(
            "The watch is over{so_far}, but that is too much to pass, and not yet enough to convict (evidence \
             {strongest:.1} of {LEVEL:.1}{}).",
            doubt.map_or("", doubted)
        ),
        Baked::NoData => format!(
            "No source has measured anything of the new pods in the {} since the first was Ready.",
            duration(age)
        ),
        Baked::TooFew if trial.requests >= min as f64 => {
            "Neither errors nor latency of the new pods are measured; requests alone do not prove them good.".to_owned()
        }
        Baked::TooFew => format!(
            "Only {} requests were measured on new pods in {}; {min} are needed to pass.",
            trial.requests.round(),
            duration(age)
        ),
        Baked::Saturated => {
            format!("Latency cannot be judged: the limit lies in the last bucket of the histogram{so_far}.")
        }
        Baked::Leaking(left) => format!(
            "The watch is over{so_far}, but {}: it passes in {} at the earliest.",
            trial.leak.as_ref().filter(|_| !trial.killed_for_memory()).map_or_else(killed_for_memory, leaks),
            duration(left)
        ),
        Baked::Pass => format!("All {} Ready for {}{so_far}.", plural(new.len(), "new pod"), duration(age)),
    }
}

/// A StatefulSet waits for a pod of an earlier revision that will never be Ready, and does not replace it
/// (kubernetes/kubernetes#67250): a person has to.
fn in_the_way(trial: &Trial, t: Seconds) -> String {
    let stuck = |pod: &&Pod| !pod.state.ready && (pod.looping.is_some() || pod.stuck_for(t) >= STUCK);
    let mut old = trial.roster.not_of(&trial.to).filter(stuck);
    match old.next() {
        Some(pod) if trial.workload.kind == Kind::StatefulSet => format!(
            " {} of an earlier revision is stuck, and a StatefulSet waits for it: delete that pod.",
            pod.state.pod.name
        ),
        _ => String::new(),
    }
}

fn killed_for_memory() -> String {
    "a new pod was killed for memory".to_owned()
}

/// How memory grows, without an end.
fn leaks(leak: &Leak) -> String {
    let old = leak.old.map(|old| format!(", old pods {}", growth(old))).unwrap_or_default();
    format!(
        "new pods hold {} more memory{old}, and reach their limit of {} in {}",
        growth(leak.new),
        mebibytes(leak.limit),
        duration(leak.left)
    )
}

/// Bytes a second for people: `4.2 MiB a minute`.
pub(super) fn growth(per_second: f64) -> String {
    format!("{} a minute", mebibytes(60.0 * per_second))
}

/// Bytes for people.
pub(super) fn mebibytes(bytes: f64) -> String {
    let mib = bytes / 1_048_576.0;
    format!("{} MiB", trimmed(mib, if mib.abs() < 10.0 { 1 } else { 0 }))
}

/// Ends a sentence about a rollout whose watch is over.
pub(super) const SELDOM: &str = " It is looked at every 5 min now.";

fn strongest(trial: &Trial) -> Option<&Evidence> {
    let errors = trial.errors.as_ref().map(|family| &family.evidence);
    let slow = trial.latency.tested().map(|slow| slow.evidence());
    errors.into_iter().chain(slow).max_by(|a, b| a.log_e().total_cmp(&b.log_e()))
}

/// Why evidence that is enough does not convict.
fn doubted(doubt: Doubt) -> &'static str {
    match doubt {
        Doubt::Over => ", but the last minute is within the limit again",
        Doubt::ColdStart => ", but it may be their cold start",
        Doubt::Burst => ", but it may be a burst",
    }
}

/// What the new pods show so far, to go after another clause.
fn so_far(trial: &Trial) -> String {
    let mut text = String::new();
    match trial.errors.as_ref().map(|family| (family, family.evidence.new_total())) {
        Some((family, new)) if new.total >= 1.0 => {
            let ratio = share(new).unwrap_or_default();
            let limit = tested(&family.baseline, trial.rules.errors.max);
            text.push_str(&format!(", {ratio} requests failed ({limit})"));
        }
        _ if trial.requests >= 1.0 => {
            text.push_str(&format!(", {} requests, errors not measured", trial.requests.round()));
        }
        _ => text.push_str(", no requests measured"),
    }
    match &trial.latency {
        Latency::Tested(slow) if slow.evidence().new_total().total >= 1.0 => {
            let ratio = slow.evidence().new_total().ratio().unwrap_or(0.0);
            let (cut, limit) = (latency(slow.cut.seconds), percent(slow.cut.theta));
            text.push_str(&format!(", {} took longer than {cut} (limit {limit})", percent(ratio)));
        }
        Latency::NoBaseline => text.push_str(", latency without a baseline"),
        _ => {}
    }
    if let Some((_, evidence)) = trial.callers.test() {
        let seen = evidence.new_total();
        if seen.total >= SOME_TRAFFIC && evidence.log_e() >= 0.0 {
            let ratio = percent(seen.ratio().unwrap_or(0.0));
            text.push_str(&format!(", callers see {ratio} failing on old and new pods together"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_few_digits() {
        for (share, text) in [
            (0.0812, "8.1 %"),
            (0.05, "5 %"),
            (0.003, "0.3 %"),
            (0.1234, "12 %"),
            (1.0, "100 %"),
            (0.9966, "99.7 %"),
            (0.0, "0 %"),
            (0.00051, "0.051 %"),
            (0.000_01, "below 0.01 %"),
            (f64::NAN, "unknown"),
        ] {
            assert_eq!(percent(share), text);
        }
        assert_eq!(latency(0.31), "310 ms");
        assert_eq!(latency(0.0042), "4.2 ms");
        assert_eq!(latency(1.25), "1.25 s");
        assert_eq!(duration(45.0), "45 s");
        assert_eq!(duration(1800.0), "30 min");
        assert_eq!(duration(10_800.0), "3 h");
        assert_eq!(quantile(0.95), "p95");
        assert_eq!(quantile(0.999), "p99.9");
    }
}
