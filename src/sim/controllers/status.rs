//! How a controller writes a status: conditions keep the times of what did not change.

use super::super::{
    object::{condition, list, take_map, text, time},
    resource::Key,
    store::{Manager, Store},
};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// A condition as it should be.
#[derive(Debug, Clone)]
pub struct Condition {
    kind: &'static str,
    status: String,
    reason: String,
    message: String,
    /// Says that something moved although the words are the same.
    touched: bool,
}

impl Condition {
    /// A condition.
    pub fn new(kind: &'static str, status: &str, reason: &str, message: impl Into<String>) -> Self {
        Self { kind, status: status.into(), reason: reason.into(), message: message.into(), touched: false }
    }

    /// A condition as it stands already.
    pub fn kept(kind: &'static str, old: &Value) -> Self {
        Self::new(kind, text(old, "/status"), text(old, "/reason"), text(old, "/message"))
    }

    /// Renews `lastUpdateTime` even when nothing else is new: progress was made.
    pub fn touched(self) -> Self {
        Self { touched: true, ..self }
    }

    fn value(&self, old: Option<&Value>, now: Timestamp, updates: bool) -> Value {
        let same_status = old.filter(|old| text(old, "/status") == self.status);
        let same = same_status.filter(|old| text(old, "/reason") == self.reason);
        if let Some(old) = same.filter(|old| !self.touched && (!updates || text(old, "/message") == self.message)) {
            return old.clone();
        }
        let since = same_status.map_or_else(|| time(now), |old| text(old, "/lastTransitionTime").to_owned());
        let mut value = json!({
            "type": self.kind, "status": self.status, "reason": self.reason, "message": self.message,
            "lastTransitionTime": since,
        });
        if updates {
            value["lastUpdateTime"] = time(now).into();
        }
        value
    }
}

/// Writes the status of a workload. `change` sets the counts, and returns the conditions that hold.
pub fn write(
    store: &mut Store,
    key: &Key,
    by: Manager<'_>,
    now: Timestamp,
    change: impl FnOnce(&mut Map<String, Value>) -> Vec<Condition>,
) {
    // Gone in between: nothing to tell of.
    let _ = store.update_status(key, by, |object| {
        let old = object.clone();
        let mut status = take_map(&mut object["status"]);
        let conditions = change(&mut status);
        let updates = key.resource == super::super::resource::Resource::Deployments;
        let mut values: Vec<Value> =
            conditions.iter().map(|c| c.value(condition(&old, c.kind), now, updates)).collect();
        // The order of conditions is that of their first appearance.
        values.sort_by_key(|value| {
            let kind = text(value, "/type");
            list(&old, "/status/conditions").position(|c| text(c, "/type") == kind).unwrap_or(usize::MAX)
        });
        if values.is_empty() {
            status.remove("conditions");
        } else {
            status.insert("conditions".into(), values.into());
        }
        object["status"] = Value::Object(status);
    });
}
