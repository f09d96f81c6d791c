//! Pure. Whether the monitoring can be believed (decision.md 2.5, gate 6).

use super::{envelope::Series, promql::MARK};
use crate::{
    domain::{PodId, Seconds, TrialTarget},
    sources::error::SourceError,
};
use std::collections::HashMap;

/// Share of targets that must answer.
const ANSWERING: f64 = 0.8;
/// Two scrape intervals, seconds, taking the common 30 s: no source tells its interval.
const INTERVALS: f64 = 60.0;
/// The newest scrape may be this old, seconds: two intervals of even a minute, and some slack.
pub(super) const STALE: f64 = 150.0;

/// Ready pods whose scrapes fail, and since when.
#[derive(Debug, Default)]
pub(super) struct Silent(HashMap<PodId, Seconds>);

impl Silent {
    /// Of the pods that Kubernetes calls Ready and that are scraped, 80 % must answer. Pods that are not
    /// Ready do not count: a broken revision must not look like broken monitoring. Nor does a pod that has
    /// been Ready for less than two scrape intervals: its last scrape may be from before.
    pub(super) fn judge(&mut self, trials: &[TrialTarget], answer: &[Series], t: Seconds) -> Result<(), SourceError> {
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
        let (mut silent, mut scraped, mut failing) = (HashMap::new(), 0_usize, 0_usize);
        for pod in trials.iter().flat_map(|trial| &trial.pods).filter(|pod| pod.ready) {
            let Some(answers) = up.get(&(pod.pod.namespace.as_str(), pod.pod.name.as_str())) else { continue };
            scraped += 1;
            if !answers {
                let since = self.0.get(&pod.pod).copied().unwrap_or(t);
                failing += usize::from(t - since >= INTERVALS);
                silent.insert(pod.pod.clone(), since);
            }
        }
        self.0 = silent;
        let answering = scraped - failing;
        if (answering as f64) < ANSWERING * scraped as f64 {
            return Err(SourceError::Monitoring(format!(
                "only {answering} of {scraped} Ready pods under trial can be scraped"
            )));
        }
        Ok(())
    }
}

/// A Prometheus that has just started has gaps and no rules yet.
pub(super) fn old_enough(started: f64, now: f64) -> Result<(), SourceError> {
    let age = now - started;
    if age < INTERVALS {
        return Err(SourceError::Monitoring(format!("Prometheus started {:.0} s ago", age.max(0.0))));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::testing::trial;

    fn up(pod: &str, value: f64) -> Series {
        let labels = [(MARK, "up"), ("namespace", "shop"), ("pod", pod)];
        let labels = labels.map(|(n, v)| (n.to_owned(), v.to_owned())).into();
        Series { labels, points: vec![(0.0, value)], malformed: 0 }
    }

    #[test]
    fn a_pod_that_has_just_become_ready_is_given_two_scrapes() {
        let (mut silent, trials) = (Silent::default(), [trial("shop", "checkout")]);
        let one_down = [up("checkout-old-1", 1.0), up("checkout-new-1", 0.0)];
        let both_up = [up("checkout-old-1", 1.0), up("checkout-new-1", 1.0)];
        assert_eq!(silent.judge(&trials, &one_down, 0.0), Ok(()));
        assert_eq!(silent.judge(&trials, &both_up, 15.0), Ok(()));
        for t in [30.0, 45.0, 75.0, 89.0] {
            assert_eq!(silent.judge(&trials, &one_down, t), Ok(()), "{t}");
        }
        let Err(SourceError::Monitoring(why)) = silent.judge(&trials, &one_down, 90.0) else { panic!() };
        assert_eq!(why, "only 1 of 2 Ready pods under trial can be scraped");
        assert_eq!(silent.judge(&trials, &both_up, 105.0), Ok(()));
    }

    #[test]
    fn a_pod_that_is_not_ready_may_be_down_for_ever() {
        let (mut silent, mut trials) = (Silent::default(), [trial("shop", "checkout")]);
        trials[0].pods[1].ready = false;
        for t in [0.0, 100.0, 1000.0] {
            assert_eq!(silent.judge(&trials, &[up("checkout-old-1", 1.0), up("checkout-new-1", 0.0)], t), Ok(()));
        }
    }

    #[test]
    fn no_targets_are_no_fault() {
        assert_eq!(Silent::default().judge(&[trial("shop", "checkout")], &[], 0.0), Ok(()));
    }
}
