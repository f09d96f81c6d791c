//! Pure. The reasons not to act (I10, I11, I14). Each is told in one sentence.

use super::target::{NoTarget, Target};
use crate::domain::{Brake, Mode, Owner, Response, Revision, Rules, Seconds, WorkloadId};
use std::fmt;

/// Why nothing is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Gate {
    /// Another replica leads.
    NotLeader,
    /// A newer template is live, or another object has the name (I4).
    Superseded,
    /// The workload is being deleted.
    Deleting,
    /// The workload is paused.
    Paused,
    /// A person froze it.
    Frozen,
    /// It is told only, because it is not severe enough.
    ToldOnly,
    /// A person may deploy a fix first.
    HotfixWindow,
    /// Observe mode.
    Observe,
    /// Switched off.
    Off,
    /// Somebody else would put it back.
    ForeignOwner,
    /// This bad template was undone before (I1).
    AlreadyUndone,
    /// Too many undos of this workload.
    BrakeWorkload,
    /// Too many undos in this namespace.
    BrakeNamespace,
    /// Too many undos in this cluster: usually the sensor is wrong.
    BrakeCluster,
    /// The rollout was a restart of a good revision.
    RestartOnly,
    /// Nothing safe to go back to.
    NoTarget,
    /// The target's template names something that is gone.
    NotRunnable,
    /// The API server or an admission webhook would refuse or change the undo.
    Admission,
}

impl Gate {
    /// The gate as a metric label and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Gate::NotLeader => "not_leader",
            Gate::Superseded => "superseded",
            Gate::Deleting => "deleting",
            Gate::Paused => "paused",
            Gate::Frozen => "frozen",
            Gate::ToldOnly => "told_only",
            Gate::HotfixWindow => "hotfix_window",
            Gate::Observe => "observe",
            Gate::Off => "off",
            Gate::ForeignOwner => "foreign_owner",
            Gate::AlreadyUndone => "already_undone",
            Gate::BrakeWorkload => "brake_workload",
            Gate::BrakeNamespace => "brake_namespace",
            Gate::BrakeCluster => "brake_cluster",
            Gate::RestartOnly => "restart_only",
            Gate::NoTarget => "no_target",
            Gate::NotRunnable => "not_runnable",
            Gate::Admission => "admission",
        }
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A gate that stands in the way, and what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocked {
    /// Which.
    pub gate: Gate,
    /// One sentence for people.
    pub why: String,
}

/// What an earlier undo did, for the brakes.
#[derive(Debug, Clone)]
pub struct PastUndo {
    /// Of which workload uid.
    pub uid: String,
    /// In which namespace.
    pub namespace: String,
    /// When it was applied (or intended, if it is not known to be applied).
    pub t: Seconds,
    /// Whether a person asked for it; such undos pull no brake.
    pub manual: bool,
}

/// All that the gates look at, read freshly.
pub struct Situation<'a> {
    /// Now.
    pub now: Seconds,
    /// The workload.
    pub id: &'a WorkloadId,
    /// Uid that was judged.
    pub judged_uid: &'a str,
    /// Uid of the live object.
    pub live_uid: &'a str,
    /// Revision that was judged bad.
    pub bad: &'a Revision,
    /// Live revision.
    pub live: &'a Revision,
    /// Whether this replica leads.
    pub leads: bool,
    /// `spec.paused`.
    pub paused: bool,
    /// Whether a deletion is under way.
    pub deleting: bool,
    /// Who else owns it.
    pub owner: Option<Owner>,
    /// Why a person froze it, if so.
    pub frozen: Option<&'a str>,
    /// The rules in force.
    pub rules: &'a Rules,
    /// What is to be done about a conviction of this severity.
    pub response: Response,
    /// Whether this bad template of this uid was undone before.
    pub undone_before: bool,
    /// Undos in the past.
    pub past: &'a [PastUndo],
    /// The target, or why there is none.
    pub target: Result<&'a Target, &'a NoTarget>,
    /// Whether a person asks. A person may act in observe mode, beside owners and brakes.
    pub manual: bool,
}

/// Whether an undo may go on.
///
/// # Errors
/// The first gate that stands in the way; what only a person can lift comes last, so that the sentence
/// names what matters most.
pub fn gate(s: &Situation<'_>) -> Result<(), Blocked> {
    let blocked = |gate, why: String| Err(Blocked { gate, why });
    if !s.leads {
        return blocked(Gate::NotLeader, "another replica of Lastgood leads".into());
    }
    if s.judged_uid != s.live_uid {
        return blocked(Gate::Superseded, format!("{} was deleted and made anew since the verdict", s.id));
    }
    if s.live != s.bad {
        return blocked(
            Gate::Superseded,
            format!("a newer deploy is live: {} instead of the judged {}", s.live, s.bad),
        );
    }
    if s.deleting {
        return blocked(Gate::Deleting, format!("{} is being deleted", s.id));
    }
    if s.paused {
        return blocked(Gate::Paused, format!("{} is paused (spec.paused); resume it first", s.id));
    }
    if !s.manual {
        automatic(s)?;
    }
    match s.target {
        Ok(_) => Ok(()),
        Err(NoTarget::RestartOnly) => blocked(
            Gate::RestartOnly,
            "the rollout was only a restart of a revision that was good: going back would change nothing".into(),
        ),
        Err(NoTarget::NothingSafe(looked_at)) if looked_at.is_empty() => {
            blocked(Gate::NoTarget, "nothing safe is left to go back to: there is no earlier revision".into())
        }
        Err(NoTarget::NotThere(kept)) => {
            blocked(Gate::NoTarget, format!("there is no such earlier revision; there are: {}", kept.join(", ")))
        }
        Err(NoTarget::NothingSafe(looked_at)) => {
            blocked(Gate::NoTarget, format!("nothing safe is left to go back to: {}", looked_at.join("; ")))
        }
    }
}

/// The gates that do not stand in a person's way.
fn automatic(s: &Situation<'_>) -> Result<(), Blocked> {
    let blocked = |gate, why: String| Err(Blocked { gate, why });
    match s.rules.mode {
        Mode::Off => return blocked(Gate::Off, "Lastgood is switched off here".into()),
        Mode::Observe => {
            return blocked(Gate::Observe, "observe mode: reported, not undone (set mode: act to arm it)".into());
        }
        Mode::Act => {}
    }
    if let Some(why) = s.frozen {
        return blocked(Gate::Frozen, why.to_owned());
    }
    if let Some(owner) = s.owner.filter(|o| o.reverts() && !s.rules.undo.allow_owners.contains(o)) {
        return blocked(
            Gate::ForeignOwner,
            format!(
                "{owner} owns it and would put the bad revision back: revert the commit there, or allow it in undo.allowOwners"
            ),
        );
    }
    if s.undone_before {
        return blocked(
            Gate::AlreadyUndone,
            format!("this same template ({}) was undone before and deployed again: a person must decide", s.bad),
        );
    }
    match s.response {
        Response::Undo => {}
        Response::Wait(until) => {
            let until = crate::clock::timestamp(until).strftime("%H:%M:%SZ");
            return blocked(
                Gate::HotfixWindow,
                format!("of high severity: a person may deploy a fix until {until}, then it is undone"),
            );
        }
        Response::Tell => {
            return blocked(Gate::ToldOnly, "of medium severity: reported, not undone (severity.medium.action)".into());
        }
    }
    let pulled = |brake: Brake, of: &dyn Fn(&PastUndo) -> bool| {
        let window = brake.window.as_secs_f64();
        let recent = s.past.iter().filter(|p| !p.manual && of(p) && s.now - p.t < window).count();
        recent >= brake.count as usize
    };
    let undo = &s.rules.undo;
    let said = |what: &str, brake: Brake| {
        format!("brake: {what} has had {} undos within {}", brake.count, crate::config::format_duration(brake.window))
    };
    if pulled(undo.max_per_cluster, &|_| true) {
        return blocked(Gate::BrakeCluster, said("the cluster", undo.max_per_cluster));
    }
    if pulled(undo.max_per_namespace, &|p| p.namespace == s.id.namespace) {
        return blocked(Gate::BrakeNamespace, said("the namespace", undo.max_per_namespace));
    }
    if pulled(undo.max_per_workload, &|p| p.uid == s.live_uid) {
        return blocked(Gate::BrakeWorkload, said("the workload", undo.max_per_workload));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cluster::TemplateMark, domain::Kind};
    use serde_json::json;

    /// A situation with nothing in the way, edited; everything it borrows lives as long as the test.
    fn with<'a>(edit: impl FnOnce(&mut Situation<'a>, &mut Rules)) -> Option<Gate> {
        let template = json!({});
        let mark = TemplateMark::of(&template);
        let bad = Box::leak(Box::new(Revision::from("b")));
        let target = Target { mark, number: None, object: String::new(), template, why: String::new() };
        let mut rules = Rules { mode: Mode::Act, ..Rules::default() };
        let mut s = Situation {
            now: 1000.0,
            id: Box::leak(Box::new(WorkloadId::new("shop", Kind::Deployment, "web"))),
            judged_uid: "u",
            live_uid: "u",
            bad,
            live: bad,
            leads: true,
            paused: false,
            deleting: false,
            owner: None,
            frozen: None,
            rules: Box::leak(Box::new(rules.clone())),
            response: Response::Undo,
            undone_before: false,
            past: &[],
            target: Ok(Box::leak(Box::new(target))),
            manual: false,
        };
        edit(&mut s, &mut rules);
        gate(&Situation { rules: &rules, ..s }).err().map(|b| b.gate)
    }

    #[test]
    fn nothing_in_the_way() {
        assert_eq!(with(|_, _| {}), None);
    }

    #[test]
    fn each_gate_stands_alone() {
        let newer = Revision::from("c");
        let past = |uid: &str, namespace: &str| PastUndo {
            uid: uid.into(),
            namespace: namespace.into(),
            t: 900.0,
            manual: false,
        };
        let own = [past("u", "shop")];
        let others = [past("x", "shop"), past("y", "shop"), past("z", "shop")];
        let cluster: Vec<PastUndo> = (0..5).map(|i| past(&i.to_string(), &i.to_string())).collect();
        let nothing = NoTarget::NothingSafe(vec![]);
        assert_eq!(with(|s, _| s.leads = false), Some(Gate::NotLeader));
        assert_eq!(with(|s, _| s.live_uid = "v"), Some(Gate::Superseded));
        assert_eq!(with(|s, _| s.live = &newer), Some(Gate::Superseded));
        assert_eq!(with(|s, _| s.deleting = true), Some(Gate::Deleting));
        assert_eq!(with(|s, _| s.paused = true), Some(Gate::Paused));
        assert_eq!(with(|s, _| s.frozen = Some("x")), Some(Gate::Frozen));
        assert_eq!(with(|_, r| r.mode = Mode::Observe), Some(Gate::Observe));
        assert_eq!(with(|_, r| r.mode = Mode::Off), Some(Gate::Off));
        assert_eq!(with(|s, _| s.owner = Some(Owner::ArgoCd)), Some(Gate::ForeignOwner));
        assert_eq!(with(|s, _| s.owner = Some(Owner::Helm)), None, "Helm does not revert by itself");
        assert_eq!(with(|s, _| s.undone_before = true), Some(Gate::AlreadyUndone));
        assert_eq!(with(|s, _| s.past = &own), Some(Gate::BrakeWorkload));
        assert_eq!(with(|s, _| s.past = &others), Some(Gate::BrakeNamespace));
        assert_eq!(with(|s, _| s.past = &cluster), Some(Gate::BrakeCluster));
        assert_eq!(with(|s, _| s.target = Err(&NoTarget::RestartOnly)), Some(Gate::RestartOnly));
        assert_eq!(with(|s, _| s.target = Err(&nothing)), Some(Gate::NoTarget));
    }

    #[test]
    fn brakes_let_go_after_their_window_and_people_pull_none() {
        let past = |t, manual| [PastUndo { uid: "u".into(), namespace: "shop".into(), t, manual }];
        let (old, by_hand) = (past(-2601.0, false), past(999.0, true));
        assert_eq!(with(|s, _| s.past = &old), None);
        assert_eq!(with(|s, _| s.past = &by_hand), None);
    }

    #[test]
    fn a_person_passes_the_automatic_gates_but_never_the_hard_ones() {
        let newer = Revision::from("c");
        assert_eq!(
            with(|s, r| {
                s.manual = true;
                s.undone_before = true;
                s.owner = Some(Owner::ArgoCd);
                r.mode = Mode::Observe;
            }),
            None
        );
        assert_eq!(
            with(|s, _| {
                s.manual = true;
                s.paused = true;
            }),
            Some(Gate::Paused)
        );
        assert_eq!(
            with(|s, _| {
                s.manual = true;
                s.live = &newer;
            }),
            Some(Gate::Superseded)
        );
    }

    #[test]
    fn an_allowed_owner_does_not_stand_in_the_way() {
        let allowed = with(|s, r| {
            s.owner = Some(Owner::ArgoCd);
            r.undo.allow_owners.insert(Owner::ArgoCd);
        });
        assert_eq!(allowed, None);
    }
}
