//! Pure. Which revision an undo goes to (I2).

use crate::{
    cluster::{RevisionEntry, TemplateMark},
    domain::Revision,
    record::{Pin, PinState},
};
use serde_json::Value;
use std::collections::BTreeSet;

/// The revision that an undo goes to, and why it is believed to be good.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its names.
    pub mark: TemplateMark,
    /// Its number now, if Kubernetes still keeps it.
    pub number: Option<i64>,
    /// Object that holds the template.
    pub object: String,
    /// The template as it will be written.
    pub template: Value,
    /// Why it counts as good.
    pub why: String,
}

/// Why there is no target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoTarget {
    /// The bad revision is a mere restart of a good one: going back would change nothing.
    RestartOnly,
    /// Nothing safe is left; each revision that was looked at, and why it does not do.
    NothingSafe(Vec<String>),
    /// A person chose a revision that is not there, or is the live one; those that are there.
    NotThere(Vec<String>),
}

/// All that is known of a workload's revisions when a target is chosen.
pub struct Known<'a> {
    /// The bad revision.
    pub bad: &'a Revision,
    /// The revision that was serving before it.
    pub from: Option<&'a Revision>,
    /// Whether measurements from before the rollout show `from` within its limits.
    pub from_measured_good: Option<bool>,
    /// Whether the bad revision was measured to be worse than `from`, which was beyond its limits as well.
    pub worse_than_from: bool,
    /// What Kubernetes keeps, newest number first.
    pub entries: &'a [RevisionEntry],
    /// What we keep, latest first.
    pub pins: &'a [Pin],
    /// Revisions that an incident names as bad.
    pub known_bad: &'a BTreeSet<Revision>,
}

/// Why a doubted revision does not do.
const BEYOND: &str = "was measured beyond its limits";

/// The last revision that is known good: the one that was serving before, if it is; else the latest
/// pin. Never "the second highest number".
///
/// # Errors
/// What was looked at.
pub fn choose(known: &Known<'_>) -> Result<Target, NoTarget> {
    let content = |revision: &Revision| mark(known, revision).map(|m| &m.but_restart);
    let bad_content = content(known.bad);
    let is_bad = |m: &TemplateMark| {
        known.known_bad.contains(&m.revision)
            || known.known_bad.iter().filter_map(content).any(|bad| *bad == m.but_restart)
    };
    let same = |m: &TemplateMark| bad_content == Some(&m.but_restart);
    let mut looked_at = Vec::new();

    if let Some(from) = known.from.and_then(|from| mark(known, from)) {
        match goodness(known, from) {
            Ok(_) if same(from) => return Err(NoTarget::RestartOnly),
            Ok(why) if !is_bad(from) => {
                if let Some(target) = target(known, &from.revision, why) {
                    return Ok(target);
                }
            }
            Ok(_) => looked_at.push(format!("{}: an incident names it as bad", named(from))),
            Err(why) => looked_at.push(format!("{}: {why}", named(from))),
        }
    }
    for pin in known.pins.iter().filter(|p| p.state != PinState::Doubted) {
        if pin.mark.revision == *known.bad || Some(&pin.mark.revision) == known.from || same(&pin.mark) {
            continue;
        }
        if is_bad(&pin.mark) {
            looked_at.push(format!("{}: an incident names it as bad", named(&pin.mark)));
        } else if doubted(known, &pin.mark) {
            looked_at.push(format!("{}: {BEYOND}", named(&pin.mark)));
        } else if let Some(target) = target(known, &pin.mark.revision, pinned(pin)) {
            return Ok(target);
        }
    }
    for entry in known.entries {
        let m = &entry.mark;
        let told = known.pins.iter().any(|p| p.mark.revision == m.revision) || Some(&m.revision) == known.from;
        if m.revision != *known.bad && !told {
            looked_at.push(format!("{} (revision {}): never seen good", named(m), entry.number));
        }
    }
    Err(NoTarget::NothingSafe(looked_at))
}

/// Any revision that a person chose, known good or not.
pub fn chosen(known: &Known<'_>, revision: &Revision) -> Option<Target> {
    target(known, revision, "chosen by a person".into())
}

fn goodness(known: &Known<'_>, from: &TemplateMark) -> Result<String, &'static str> {
    let pin = known.pins.iter().find(|p| p.mark.revision == from.revision && p.state == PinState::Passed);
    if let Some(pin) = pin {
        return Ok(pinned(pin));
    }
    if known.from_measured_good == Some(false) {
        // What served a moment ago, fully available, and did less harm: going back cannot make it worse. This is said
        // of no other revision: what an older one was like in its day is compared with nothing that was measured now.
        let was_there = known.pins.iter().any(|p| p.mark.revision == from.revision);
        return match known.worse_than_from && was_there {
            true => Ok("was beyond its limits before the rollout, but measurably less than what came after it".into()),
            false => Err("was beyond its limits before the rollout"),
        };
    }
    let doubted = doubted(known, from);
    if let Some(pin) = known.pins.iter().find(|p| p.mark.revision == from.revision).filter(|_| !doubted) {
        return Ok(pinned(pin));
    }
    match known.from_measured_good {
        Some(true) => Ok("kept its limits before the rollout".into()),
        _ if doubted => Err(BEYOND),
        _ => Err("was not seen fully available before the rollout, and nothing measured it"),
    }
}

/// Whether a revision (or the one that it only restarts) was measured beyond its limits after it was presumed
/// good. Whoever passed a trial is above that.
fn doubted(known: &Known<'_>, m: &TemplateMark) -> bool {
    let passed = |p: &Pin| p.state == PinState::Passed && p.mark.revision == m.revision;
    let doubted = |p: &Pin| p.state == PinState::Doubted && p.mark.but_restart == m.but_restart;
    known.pins.iter().any(doubted) && !known.pins.iter().any(passed)
}

fn pinned(pin: &Pin) -> String {
    let when = crate::clock::timestamp(pin.pinned).strftime("%Y-%m-%d %H:%MZ").to_string();
    match pin.state {
        PinState::Passed => format!("passed its trial on {when}"),
        PinState::Presumed => format!("was fully rolled out and available on {when}"),
        PinState::Doubted => format!("was beyond its limits on {when}"),
    }
}

fn mark<'a>(known: &Known<'a>, revision: &Revision) -> Option<&'a TemplateMark> {
    let entry = known.entries.iter().map(|e| &e.mark).find(|m| m.revision == *revision);
    entry.or_else(|| known.pins.iter().map(|p| &p.mark).find(|m| m.revision == *revision))
}

fn target(known: &Known<'_>, revision: &Revision, why: String) -> Option<Target> {
    if let Some(e) = known.entries.iter().find(|e| e.mark.revision == *revision) {
        let (mark, object, template) = (e.mark.clone(), e.object.clone(), e.template.clone());
        return Some(Target { mark, number: Some(e.number), object, template, why });
    }
    let pin = known.pins.iter().find(|p| p.mark.revision == *revision)?;
    let object = format!("ControllerRevision/{}", pin.object);
    Some(Target { mark: pin.mark.clone(), number: None, object, template: pin.template.clone(), why })
}

fn named(mark: &TemplateMark) -> String {
    format!("{} ({})", mark.images.join(", "), mark.revision)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn template(image: &str, restarted: bool) -> Value {
        let annotations = if restarted { json!({"kubectl.kubernetes.io/restartedAt": "x"}) } else { json!({}) };
        json!({"metadata": {"annotations": annotations}, "spec": {"containers": [{"image": image}]}})
    }

    fn entry(number: i64, image: &str, restarted: bool) -> RevisionEntry {
        let template = template(image, restarted);
        RevisionEntry {
            mark: TemplateMark::of(&template),
            number,
            created: 0.0,
            object: format!("ReplicaSet/rs-{number}"),
            pod_label: number.to_string(),
            change_cause: None,
            template,
        }
    }

    fn pin(image: &str, state: PinState, pinned: f64) -> Pin {
        let template = template(image, false);
        let mark = TemplateMark::of(&template);
        Pin { mark, state, pinned, number: 1, object: format!("pin-{image}"), template }
    }

    fn choice(
        entries: &[RevisionEntry],
        pins: &[Pin],
        bad: &[&RevisionEntry],
        measured: Option<bool>,
    ) -> Result<String, NoTarget> {
        let known_bad = bad.iter().map(|e| e.mark.revision.clone()).collect();
        let known = Known {
            bad: &entries[0].mark.revision,
            from: entries.get(1).map(|e| &e.mark.revision),
            from_measured_good: measured,
            worse_than_from: false,
            entries,
            pins,
            known_bad: &known_bad,
        };
        choose(&known).map(|t| t.mark.images.join(","))
    }

    #[test]
    fn the_revision_before_if_it_was_seen_good() {
        let entries = [entry(2, "b", false), entry(1, "a", false)];
        assert_eq!(choice(&entries, &[pin("a", PinState::Presumed, 1.0)], &[], None), Ok("a".into()));
        assert_eq!(choice(&entries, &[], &[], Some(true)), Ok("a".into()));
    }

    #[test]
    fn nothing_unknown_is_ever_a_target() {
        let entries = [entry(2, "b", false), entry(1, "a", false)];
        let Err(NoTarget::NothingSafe(looked_at)) = choice(&entries, &[], &[], None) else { panic!("a target") };
        assert_eq!(looked_at.len(), 1);
        assert!(choice(&entries, &[pin("a", PinState::Presumed, 1.0)], &[], Some(false)).is_err());
        assert!(choice(&entries[..1], &[], &[], None).is_err());
    }

    #[test]
    fn bad_then_worse_goes_to_the_last_good_and_not_to_the_first_bad() {
        let entries = [entry(3, "worse", false), entry(2, "bad", false), entry(1, "good", false)];
        let pins = [pin("good", PinState::Presumed, 1.0)];
        assert_eq!(choice(&entries, &pins, &[&entries[1]], None), Ok("good".into()));
        assert_eq!(choice(&entries, &pins, &[], None), Ok("good".into()), "the middle one was never seen good");
    }

    #[test]
    fn a_restart_of_a_bad_image_goes_to_the_good_one() {
        let entries = [entry(3, "bad", true), entry(2, "bad", false), entry(1, "good", false)];
        let pins = [pin("bad", PinState::Presumed, 2.0), pin("good", PinState::Passed, 1.0)];
        // kubectl's rule would take revision 2, the same image again.
        assert_eq!(choice(&entries, &pins[1..], &[&entries[1]], None), Ok("good".into()));
    }

    #[test]
    fn a_restart_of_a_good_image_is_not_undone() {
        let entries = [entry(2, "good", true), entry(1, "good", false), entry(0, "older", false)];
        let pins = [pin("good", PinState::Passed, 2.0), pin("older", PinState::Passed, 1.0)];
        assert_eq!(choice(&entries, &pins, &[], None), Err(NoTarget::RestartOnly));
    }

    #[test]
    fn a_pin_outlives_the_history() {
        let entries = [entry(2, "b", false)];
        assert_eq!(choice(&entries, &[pin("a", PinState::Passed, 1.0)], &[], None), Ok("a".into()));
    }

    #[test]
    fn what_was_presumed_good_and_measured_otherwise_is_no_target() {
        // "a" was presumed good when "b" came, and its numbers from before said otherwise; now "c" is bad.
        let entries = [entry(3, "c", false), entry(2, "b", false), entry(1, "a", false)];
        let mut pins = vec![pin("a", PinState::Doubted, 2.0), pin("a", PinState::Presumed, 1.0)];
        let Err(NoTarget::NothingSafe(why)) = choice(&entries, &pins, &[], None) else { panic!("a target") };
        assert!(why.iter().any(|w| w.starts_with("a ") && w.ends_with(BEYOND)), "{why:?}");
        assert!(choice(&entries[..2], &pins, &[], None).is_err(), "history does not matter");
        // Before "c" came, "a" was live again: presumed once more, and again nothing was measured.
        let again = [entries[0].clone(), entries[2].clone()];
        assert!(choice(&again, &pins, &[], None).is_err());
        assert_eq!(choice(&again, &pins, &[], Some(true)), Ok("a".into()), "measured good now");
        // A trial that it passed is worth more.
        pins.push(pin("a", PinState::Passed, 3.0));
        assert_eq!(choice(&entries, &pins, &[], None), Ok("a".into()));
    }

    #[test]
    fn from_bad_to_worse_goes_back_to_the_bad_one_that_was_there_and_to_no_other() {
        let entries = [entry(3, "worse", false), entry(2, "bad", false), entry(1, "a", false)];
        let worse = |measured, pins: &[Pin], known_bad: &[&RevisionEntry]| {
            let known = Known {
                bad: &entries[0].mark.revision,
                from: Some(&entries[1].mark.revision),
                from_measured_good: measured,
                worse_than_from: true,
                entries: &entries,
                pins,
                known_bad: &known_bad.iter().map(|e| e.mark.revision.clone()).collect(),
            };
            choose(&known).map(|t| t.mark.images.join(","))
        };
        let there = [pin("bad", PinState::Doubted, 2.0), pin("bad", PinState::Presumed, 1.0)];
        assert_eq!(worse(Some(false), &there, &[]), Ok("bad".into()));
        assert_eq!(worse(Some(false), &there[1..], &[]), Ok("bad".into()), "the doubt is not written down yet");
        assert!(worse(Some(false), &[], &[]).is_err(), "it was never seen fully available");
        assert!(worse(None, &there, &[]).is_err(), "what it was worse than is another revision");
        assert!(worse(Some(false), &there, &[&entries[1]]).is_err(), "an incident names it as bad");
        let older = [pin("a", PinState::Doubted, 1.0), pin("a", PinState::Presumed, 0.5)];
        assert!(worse(Some(false), &older, &[]).is_err(), "an older one that was doubted stays refused");
    }

    #[test]
    fn a_known_bad_pin_is_passed_over() {
        let (bad, old) = (entry(1, "a", false), pin("z", PinState::Passed, 0.5));
        let entries = [entry(2, "b", false), bad.clone()];
        let pins = [pin("a", PinState::Presumed, 1.0), old];
        assert_eq!(choice(&entries, &pins, &[&bad], None), Ok("z".into()));
    }
}
