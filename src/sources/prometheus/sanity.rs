//! Pure. Whether the monitoring can be believed (decision.md 2.5, gate 6).

use super::{envelope::Series, promql::MARK};
use crate::{domain::TrialTarget, sources::error::SourceError};
use std::collections::HashMap;

/// Share of targets that must answer.
const ANSWERING: f64 = 0.8;
/// Two scrape intervals of a minute, seconds: no source tells its interval.
const YOUNG: f64 = 60.0;
/// The newest scrape may be this old, seconds: two intervals of a minute and some slack.
const STALE: f64 = 150.0;

/// Of the pods that Kubernetes calls Ready and that are scraped, 80 % must answer. Pods that are not Ready
/// do not count: a broken revision must not look like broken monitoring.
pub(super) fn targets_answer(trials: &[TrialTarget], answer: &[Series]) -> Result<(), SourceError> {
    let mut up: HashMap<(&str, &str), bool> = HashMap::new();
    for series in answer {
        let Some((_, value)) = series.points.first() else { continue };
        match series.label(MARK) {
            "up" => drop(up.insert((series.label("namespace"), series.label("pod")), *value > 0.5)),
            "age" if *value > STALE => {
                return Err(SourceError::Monitoring(format!("the newest scrape is {value:.0} s old")));
            }
            _ => {}
        }
    }
    let ready = trials.iter().flat_map(|t| &t.pods).filter(|p| p.ready);
    let states: Vec<bool> =
        ready.filter_map(|p| up.get(&(p.pod.namespace.as_str(), p.pod.name.as_str())).copied()).collect();
    let answering = states.iter().filter(|up| **up).count();
    if (answering as f64) < ANSWERING * states.len() as f64 {
        return Err(SourceError::Monitoring(format!(
            "only {answering} of {} Ready pods under trial can be scraped",
            states.len()
        )));
    }
    Ok(())
}

/// A Prometheus that has just started has gaps and no rules yet.
pub(super) fn old_enough(started: f64, now: f64) -> Result<(), SourceError> {
    let age = now - started;
    if age < YOUNG {
        return Err(SourceError::Monitoring(format!("Prometheus started {:.0} s ago", age.max(0.0))));
    }
    Ok(())
}
