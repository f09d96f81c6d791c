//! Watches: what was written, as a stream of lines.
//!
//! A watch holds no place in the store: it knows the last version that it told, and looks at the log whenever
//! something was written. Its faults are asked for at every look, so that an open watch can fall silent.

use super::{
    reads::Form,
    route::{Query, Route},
};
use crate::sim::{
    Fault, Key, Refusal, Sim,
    audit::Asked,
    selector::Selector,
    store::{Change, Entry, Store},
};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::{
    sync::watch::Receiver,
    time::{Instant, sleep_until},
};

/// Idle watches are told about once a minute where they stand.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// And shortly before they end, so that the next one can go on from there.
const BEFORE_END: Duration = Duration::from_secs(2);
/// A watch that does not say how long.
const DEFAULT_END: Duration = Duration::from_secs(45 * 60);

/// An open watch.
pub(super) struct Watch {
    sim: Sim,
    asked: Asked,
    route: Route,
    selector: Selector,
    form: Form,
    bookmarks: bool,
    written: Receiver<u64>,
    /// The last version that was looked at.
    at: u64,
    first: Option<Vec<String>>,
    ends: Instant,
    bookmark: Instant,
}

impl Watch {
    pub(super) fn open(sim: &Sim, asked: &Asked, route: &Route, query: &Query, form: Form) -> Result<Self, Refusal> {
        let mut route = route.clone();
        // A watch of one object is a watch of its name.
        let name = route.name.take().map(|name| format!("metadata.name={name}"));
        let fields = name.as_deref().or(query.get("fieldSelector"));
        let now = Instant::now();
        let end = query.number("timeoutSeconds")?.map_or(DEFAULT_END, Duration::from_secs);
        let mut watch = Self {
            sim: sim.clone(),
            asked: asked.clone(),
            route,
            selector: Selector::of_request(query.get("labelSelector"), fields)?,
            form,
            bookmarks: query.is("allowWatchBookmarks"),
            written: sim.written(),
            at: 0,
            first: None,
            ends: now + end,
            bookmark: now + BOOKMARK_EVERY.min(end.saturating_sub(BEFORE_END).max(Duration::from_secs(1))),
        };
        let initial = query.is("sendInitialEvents");
        if initial && (query.get("resourceVersionMatch") != Some("NotOlderThan") || !watch.bookmarks) {
            let message = "ListOptions.meta.k8s.io \"\" is invalid: sendInitialEvents requires resourceVersionMatch NotOlderThan and allowWatchBookmarks";
            return Err(Refusal::new(422, "Invalid", message));
        }
        let from = query.number("resourceVersion")?.unwrap_or(0);
        sim.read(&asked.who, false, |store| watch.begin(store, from, initial));
        Ok(watch)
    }

    fn begin(&mut self, store: &Store, from: u64, initial: bool) {
        if from != 0 && !initial {
            self.at = from;
            return;
        }
        self.at = store.revision().max(from);
        let found = store.list(self.route.resource, self.route.namespace.as_deref());
        let mut lines: Vec<String> =
            found.filter(|(_, o)| self.selector.selects(o)).map(|(_, o)| self.line("ADDED", o)).collect();
        if initial {
            lines.push(self.bookmark_line(json!({"k8s.io/initial-events-end": "true"})));
        }
        self.first = Some(lines).filter(|l| !l.is_empty());
    }

    /// The next lines; `None` at the end.
    pub(super) async fn next(&mut self) -> Option<String> {
        loop {
            self.written.borrow_and_update();
            let fate = self.sim.faults_quietly(|faults| faults.fate(&self.asked, true));
            match &fate {
                Some(Fault::CutWatch) => return None,
                Some(Fault::SilentWatch) => {
                    // Not even its end is told.
                    self.written.changed().await.ok()?;
                    continue;
                }
                _ => {}
            }
            if let Some(lines) = self.first.take() {
                return Some(lines.concat());
            }
            match self.news() {
                Ok(lines) if lines.is_empty() => {}
                Ok(mut lines) => {
                    match fate {
                        Some(Fault::DoubledWatch) => {
                            lines = lines.iter().flat_map(|l| [l.clone(), l.clone()]).collect();
                        }
                        Some(Fault::ReversedWatch) => lines.reverse(),
                        _ => {}
                    }
                    return Some(lines.concat());
                }
                Err(refusal) => {
                    self.ends = Instant::now();
                    self.at = u64::MAX;
                    return Some(format!("{}\n", json!({"type": "ERROR", "object": refusal.status()})));
                }
            }
            if self.at == u64::MAX {
                return None;
            }
            tokio::select! {
                biased;
                changed = self.written.changed() => changed.ok()?,
                () = sleep_until(self.bookmark), if self.bookmarks => {
                    let now = Instant::now();
                    let last = self.ends.checked_sub(BEFORE_END).filter(|last| *last > now);
                    self.bookmark = last.map_or(self.ends + BOOKMARK_EVERY, |last| last.min(now + BOOKMARK_EVERY));
                    return Some(self.bookmark_line(Value::Null));
                }
                () = sleep_until(self.ends) => return None,
            }
        }
    }

    /// What was written since the last look.
    fn news(&mut self) -> Result<Vec<String>, Refusal> {
        if self.at == u64::MAX {
            return Ok(Vec::new());
        }
        let (lines, at) = self.sim.read(&self.asked.who, false, |store| {
            if self.at >= store.revision() {
                return Ok((Vec::new(), self.at));
            }
            let entries = store.since(self.at).ok_or_else(|| {
                Refusal::expired(format!("too old resource version: {} ({})", self.at, store.floor()))
            })?;
            let lines = entries.iter().filter(|e| self.is_ours(&e.key)).filter_map(|e| self.event(e)).collect();
            Ok((lines, store.revision()))
        })?;
        self.at = at;
        Ok(lines)
    }

    fn is_ours(&self, key: &Key) -> bool {
        key.resource == self.route.resource && self.route.namespace.as_deref().is_none_or(|n| n == key.namespace)
    }

    /// An object that comes to be selected is added for this watch, one that ceases to be is deleted.
    fn event(&self, entry: &Entry) -> Option<String> {
        let was = entry.before.as_deref().is_some_and(|o| self.selector.selects(o));
        let is = entry.change != Change::Deleted && self.selector.selects(&entry.object);
        match (was, is) {
            (false, false) => None,
            (false, true) => Some(self.line("ADDED", &entry.object)),
            (true, true) => Some(self.line("MODIFIED", &entry.object)),
            (true, false) => {
                let mut last = Value::clone(entry.before.as_deref()?);
                last["metadata"]["resourceVersion"] = entry.revision.to_string().into();
                Some(self.line("DELETED", &last))
            }
        }
    }

    fn bookmark_line(&self, annotations: Value) -> String {
        let mut object = json!({
            "kind": self.route.resource.kind(), "apiVersion": self.route.resource.api_version(),
            "metadata": {"resourceVersion": self.at.to_string()},
        });
        if !annotations.is_null() {
            object["metadata"]["annotations"] = annotations;
        }
        self.line("BOOKMARK", &object)
    }

    fn line(&self, kind: &str, object: &Value) -> String {
        format!("{}\n", json!({"type": kind, "object": self.form.show(object)}))
    }
}
