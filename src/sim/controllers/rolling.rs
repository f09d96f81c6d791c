//! How many pods each ReplicaSet of a Deployment may have now.

use super::{
    super::{
        object::{annotation, number},
        store::Store,
    },
    deployment::{DESIRED, MAX, View, sum},
};
use serde_json::Value;

/// Whether `spec.replicas` of the Deployment changed since its ReplicaSets were last scaled.
pub fn was_scaled(view: &View) -> bool {
    let wanted = view.wanted().to_string();
    view.all().filter(|set| replicas(set) > 0).any(|set| {
        let told = annotation(set, DESIRED);
        !told.is_empty() && told != wanted
    })
}

/// How many pods the new ReplicaSet, which has `now`, may have (`NewRSNewReplicas`).
pub fn room_for_new(view: &View, now: i64) -> i64 {
    let others: i64 = view.old.iter().map(replicas).sum();
    let room = view.wanted() + view.fences().surge - others - now;
    if room <= 0 { now } else { now + room.min(view.wanted() - now) }
}

/// One step of a rolling update: up, or else down.
pub fn step(store: &mut Store, view: &View) {
    let Some(new) = &view.new else { return };
    let now = replicas(new);
    let next = if now > view.wanted() { view.wanted() } else { room_for_new(view, now) };
    if view.scale(store, new, next) && next != now {
        return;
    }
    let fences = view.fences();
    let all = sum(view.all(), "/spec/replicas");
    let least = view.wanted() - fences.unavailable;
    let new_unavailable = now - available(new);
    let most = all - least - new_unavailable;
    if most <= 0 {
        return;
    }
    // Pods that serve nobody go first; then as many as may be missing.
    let mut left: Vec<(&Value, i64)> = view.old.iter().map(|set| (set, replicas(set))).collect();
    let mut budget = most;
    for (set, count) in &mut left {
        let dead = (*count - available(set)).clamp(0, budget.max(0));
        *count -= dead;
        budget -= dead;
    }
    let gone: i64 = view.old.iter().map(replicas).sum::<i64>() - left.iter().map(|(_, count)| count).sum::<i64>();
    let mut spare = if all - gone > 0 { sum(view.all(), "/status/availableReplicas") - least } else { 0 };
    for (_, count) in &mut left {
        let down = (*count).min(spare.max(0));
        *count -= down;
        spare -= down;
    }
    for (set, count) in left {
        if count != replicas(set) {
            view.scale(store, set, count);
        }
    }
}

/// After a change of `spec.replicas`, or while paused: the size is spread over the ReplicaSets as they stand.
pub fn spread(store: &mut Store, view: &View) {
    let mut running: Vec<&Value> = view.all().filter(|set| replicas(set) > 0).collect();
    if running.len() <= 1 {
        let only = running.first().copied().or(view.new.as_ref());
        if let Some(set) = only {
            view.scale(store, set, view.wanted());
        }
        return;
    }
    if let Some(new) = view.new.as_ref().filter(|new| saturated(view, new)) {
        view.scale(store, new, view.wanted());
        for set in view.old.iter().filter(|set| replicas(set) > 0) {
            view.scale(store, set, 0);
        }
        return;
    }
    // Proportionally; the largest takes what rounding leaves.
    let allowed = if view.wanted() > 0 { view.wanted() + view.fences().surge } else { 0 };
    let total: i64 = running.iter().map(|set| replicas(set)).sum();
    let (mut to_add, up) = (allowed - total, allowed > total);
    running.sort_by_key(|set| std::cmp::Reverse(replicas(set)));
    let mut sizes: Vec<i64> = Vec::new();
    for set in &running {
        let before: i64 = annotation(set, MAX).parse().unwrap_or_else(|_| view.wanted().max(1));
        let share = (replicas(set) as f64 * allowed as f64 / before.max(1) as f64).round() as i64 - replicas(set);
        let share = if up { share.clamp(0, to_add.max(0)) } else { share.clamp(to_add.min(0), 0) };
        to_add -= share;
        sizes.push(replicas(set) + share);
    }
    if let Some(first) = sizes.first_mut() {
        *first = (*first + to_add).max(0);
    }
    for (set, size) in running.into_iter().zip(sizes) {
        view.scale(store, set, size);
    }
}

fn saturated(view: &View, new: &Value) -> bool {
    let wanted = view.wanted();
    replicas(new) == wanted && available(new) == wanted && annotation(new, DESIRED).parse() == Ok(wanted)
}

fn replicas(set: &Value) -> i64 {
    number(set, "/spec/replicas").unwrap_or(0)
}

fn available(set: &Value) -> i64 {
    number(set, "/status/availableReplicas").unwrap_or(0)
}
