//! PodDisruptionBudgets: how many of their pods may go now. Only evictions ask them.

use super::super::{
    object::{active, ready_since},
    resource::{Key, Resource},
    selector::Selector,
    store::{Manager, Store},
};
use jiff::Timestamp;
use serde_json::{Value, json};

/// One step.
pub fn reconcile(store: &mut Store, key: &Key) -> Option<Timestamp> {
    let budget = store.get(key)?.clone();
    let selector = Selector::of_object(&budget["spec"]["selector"]);
    let pods: Vec<&Value> = store
        .list(Resource::Pods, Some(&key.namespace))
        .map(|(_, pod)| pod)
        .filter(|pod| active(pod) && selector.selects_labels(&pod["metadata"]["labels"]))
        .collect();
    let expected = pods.len();
    let healthy = pods.iter().filter(|pod| ready_since(pod).is_some()).count();
    let desired = match (budget["spec"].get("minAvailable"), budget["spec"].get("maxUnavailable")) {
        (Some(least), _) => share(least, expected),
        (None, Some(most)) => expected.saturating_sub(share(most, expected)),
        (None, None) => expected,
    };
    let allowed = healthy.saturating_sub(desired);
    let status = json!({
        "observedGeneration": budget["metadata"]["generation"], "expectedPods": expected, "currentHealthy": healthy,
        "desiredHealthy": desired, "disruptionsAllowed": allowed,
        "conditions": [{
            "type": "DisruptionAllowed", "status": if allowed > 0 { "True" } else { "False" },
            "reason": if allowed > 0 { "SufficientPods" } else { "InsufficientPods" }, "message": "",
        }],
    });
    let _ = store.update_status(key, Manager::CONTROLLERS, |budget| budget["status"] = status);
    None
}

/// A number of pods, or a share of them, rounded up.
fn share(of: &Value, all: usize) -> usize {
    let percent = of.as_str().and_then(|text| text.strip_suffix('%')?.parse::<usize>().ok());
    let number = of.as_u64().and_then(|n| usize::try_from(n).ok());
    percent.map_or(number.unwrap_or(0), |percent| (all * percent).div_ceil(100))
}
