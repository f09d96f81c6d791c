//! Pure. Which notices are due, and what becomes of one after a try.

use super::Delivery;
use crate::{
    config::NotifierSettings,
    record::{Incident, IncidentStatus, Notice, Phase},
    report::facts::{name, status},
};
use std::fmt::Write;

/// Tries after which a notice is given up: about a day and a half of ten-minute waits.
pub const MAX_ATTEMPTS: u32 = 200;

/// The notices that should be sent now: at most one for each channel, of the phase that the incident is
/// in. `Intended` is not told: the patch may never be sent.
///
/// A notice that was tried before comes back as it is stored. The order is that of the channels.
pub fn due(incident: &Incident, channels: &[NotifierSettings]) -> Vec<Notice> {
    let status = status(incident);
    if status.phase == Phase::Intended {
        return Vec::new();
    }
    channels
        .iter()
        .map(|channel| {
            let key = key(incident, status.phase, &channel.name);
            status.notices.iter().find(|n| n.key == key).cloned().unwrap_or_else(|| Notice {
                channel: channel.name.clone(),
                phase: status.phase,
                key,
                delivered: false,
                attempts: 0,
                error: None,
            })
        })
        .filter(|notice| !notice.delivered && notice.attempts < MAX_ATTEMPTS)
        .collect()
}

/// `<namespace>/<incident name>/<phase>/<channel>`: the same for every try and after every restart, and fit
/// for an HTTP header whatever the channel is named.
pub fn key(incident: &Incident, phase: Phase, channel: &str) -> String {
    let namespace = incident.metadata.namespace.as_deref().unwrap_or_default();
    let mut key = format!("{namespace}/{}/", name(incident));
    for byte in phase.as_str().replace(' ', "-").bytes().chain(*b"/").chain(channel.bytes()) {
        if byte.is_ascii_alphanumeric() || b"-._/".contains(&byte) {
            key.push(char::from(byte));
        } else {
            let _ = write!(key, "%{byte:02X}");
        }
    }
    key
}

/// Writes the result of a try into the outbox. A notice that is given up counts as tried for the last time.
pub fn record(status: &mut IncidentStatus, notice: &Notice, delivery: &Delivery) {
    let mut told = notice.clone();
    told.attempts = notice.attempts.saturating_add(1);
    match delivery {
        Delivery::Done => {
            told.delivered = true;
            told.error = None;
        }
        Delivery::Retry { why, .. } => told.error = Some(why.clone()),
        Delivery::GiveUp { why } => {
            told.attempts = told.attempts.max(MAX_ATTEMPTS);
            told.error = Some(why.clone());
        }
    }
    match status.notices.iter_mut().find(|n| n.key == told.key) {
        // Another replica may have delivered it in between; that stays true.
        Some(stored) if stored.delivered => {}
        Some(stored) => *stored = told,
        None => status.notices.push(told),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{NotifierKind, SecretFile},
        report::fixtures::{ended, judged, verified},
    };
    use proptest::prelude::*;
    use std::time::Duration;

    fn channels() -> Vec<NotifierSettings> {
        ["slack", "hook"]
            .map(|name| NotifierSettings {
                name: name.into(),
                kind: NotifierKind::Webhook,
                url_file: SecretFile("/nowhere".into()),
                secret_file: None,
                timeout: Duration::from_secs(1),
            })
            .into()
    }

    fn apply(incident: &mut Incident, notice: &Notice, delivery: &Delivery) {
        record(incident.status.get_or_insert_default(), notice, delivery);
    }

    fn retry() -> Delivery {
        Delivery::Retry { after: Duration::from_secs(1), why: "down".into() }
    }

    #[test]
    fn fault_06_only_the_missing_notice_is_sent_after_a_restart() {
        let mut incident = verified();
        let both = due(&incident, &channels());
        assert_eq!(both.iter().map(|n| n.channel.as_str()).collect::<Vec<_>>(), ["slack", "hook"]);
        apply(&mut incident, &both[0], &Delivery::Done);
        let rest = due(&incident, &channels());
        assert_eq!(rest, [both[1].clone()]);
    }

    #[test]
    fn fault_05_an_unrecorded_notice_is_due_again_under_the_same_key() {
        let incident = verified();
        assert_eq!(due(&incident, &channels()), due(&incident.clone(), &channels()));
        assert_eq!(due(&incident, &channels())[0].key, "production/jarvis-api-4f2a9c/verified/slack");
    }

    #[test]
    fn intended_is_not_told_and_each_later_phase_is() {
        assert!(due(&ended(Phase::Intended, ""), &channels()).is_empty());
        for phase in [
            Phase::Reported,
            Phase::Applied,
            Phase::Verified,
            Phase::Unproven,
            Phase::DidNotHelp,
            Phase::Superseded,
            Phase::Failed,
        ] {
            assert_eq!(due(&ended(phase, ""), &channels()).len(), 2, "{phase:?}");
        }
        let mut none = verified();
        none.status = None;
        assert_eq!(due(&none, &channels())[0].phase, Phase::Reported);
    }

    #[test]
    fn fault_69_a_channel_that_was_down_gets_one_notice_of_the_end() {
        let mut incident = ended(Phase::Applied, "");
        let first = due(&incident, &channels())[0].clone();
        apply(&mut incident, &first, &retry());
        if let Some(status) = &mut incident.status {
            status.phase = Phase::Verified;
        }
        let slack: Vec<_> = due(&incident, &channels()).into_iter().filter(|n| n.channel == "slack").collect();
        assert_eq!(slack.len(), 1);
        assert_eq!(slack[0].phase, Phase::Verified);
    }

    #[test]
    fn a_given_up_notice_is_not_due_again_but_says_why() {
        let mut incident = judged(Phase::Reported, "");
        let notice = due(&incident, &channels())[0].clone();
        apply(&mut incident, &notice, &Delivery::GiveUp { why: "404: no_service".into() });
        assert_eq!(due(&incident, &channels()).len(), 1);
        let stored = &incident.status.as_ref().unwrap().notices[0];
        assert_eq!((stored.delivered, stored.error.as_deref()), (false, Some("404: no_service")));
    }

    #[test]
    fn a_late_failure_does_not_undo_a_delivery() {
        let mut incident = verified();
        let notice = due(&incident, &channels())[0].clone();
        apply(&mut incident, &notice, &Delivery::Done);
        apply(&mut incident, &notice, &retry());
        assert!(incident.status.unwrap().notices[0].delivered);
    }

    proptest! {
        #[test]
        fn keys_fit_a_header_and_differ_by_channel(a in ".{0,20}", b in ".{0,20}") {
            let (ka, kb) = (key(&verified(), Phase::DidNotHelp, &a), key(&verified(), Phase::DidNotHelp, &b));
            prop_assert!(http::HeaderValue::from_str(&ka).is_ok());
            prop_assert_eq!(a == b, ka == kb);
        }

        #[test]
        fn tries_end(results in proptest::collection::vec(any::<bool>(), 0..8)) {
            let mut incident = verified();
            for ok in results {
                for notice in due(&incident, &channels()) {
                    let delivery = if ok { Delivery::Done } else { Delivery::GiveUp { why: "x".into() } };
                    apply(&mut incident, &notice, &delivery);
                }
                prop_assert!(due(&incident, &channels()).is_empty());
            }
        }
    }
}
