//! `--show`: what the users, the daemon and its journal say while a story is played.
use crate::{load::Seen, plane::Plane};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::{task::JoinHandle, time::Instant};

/// A running narrator; dropping it ends it.
pub(crate) struct Narrator(JoinHandle<()>);

impl Drop for Narrator {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What it tells of.
pub(crate) struct Subject {
    pub(crate) plane: Arc<Plane>,
    pub(crate) namespace: String,
    pub(crate) log: PathBuf,
    pub(crate) users: Vec<(String, Arc<Seen>)>,
    pub(crate) began: Instant,
}

impl Narrator {
    pub(crate) fn start(subject: Subject) -> Self {
        Self(tokio::spawn(narrate(subject)))
    }
}

async fn narrate(subject: Subject) {
    let say = |text: &str| println!("{:>6.1} s  {text}", subject.began.elapsed().as_secs_f64());
    let mut lines = 0;
    let mut journal = BTreeSet::new();
    let mut seen: Vec<[u64; 3]> = vec![[0; 3]; subject.users.len()];
    for turn in 0_u64.. {
        tokio::time::sleep(Duration::from_secs(1)).await;
        for line in new_lines(&subject.log, &mut lines) {
            say(&format!("   lastgood: {line}"));
        }
        for entry in journal_of(&subject).await {
            if journal.insert(entry.clone()) {
                say(&format!("   incident: {entry}"));
            }
        }
        if turn % 10 == 9 {
            for ((name, users), before) in subject.users.iter().zip(&mut seen) {
                let now = [&users.ok, &users.failed, &users.refused].map(|c| c.load(Ordering::Relaxed));
                let [ok, failed, refused] = [0, 1, 2].map(|n: usize| now[n] - before[n]);
                say(&format!("   users of {name}, last 10 s: {ok} ok, {failed} failed, {refused} refused"));
                *before = now;
            }
        }
    }
}

/// Lines of INFO and above, without what only machines read.
fn new_lines(log: &Path, told: &mut usize) -> Vec<String> {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let complete = text.rfind('\n').map_or("", |end| &text[..end]);
    let fresh: Vec<&str> = complete.lines().skip(*told).collect();
    *told += fresh.len();
    fresh.into_iter().filter_map(line).collect()
}

fn line(raw: &str) -> Option<String> {
    let Ok(value) = serde_json::from_str::<Value>(raw) else { return Some(raw.to_owned()) };
    if matches!(value["level"].as_str(), Some("DEBUG" | "TRACE")) {
        return None;
    }
    let message = value["message"].as_str().unwrap_or(raw);
    let explained = value["explanation"].as_str().map(|e| format!(": {e}")).unwrap_or_default();
    Some(format!("{message}{explained}"))
}

async fn journal_of(subject: &Subject) -> Vec<String> {
    let list = subject.plane.get(&["incidents.lastgood.dev", "-n", &subject.namespace]).await.unwrap_or_default();
    let incidents = list["items"].as_array().into_iter().flatten();
    let entries = incidents.flat_map(|i| i["status"]["journal"].as_array().into_iter().flatten());
    entries.map(|e| format!("{}: {}", e["step"].as_str().unwrap_or("?"), e["text"].as_str().unwrap_or("?"))).collect()
}
