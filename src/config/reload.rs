//! Takes up a changed thresholds file while running. A broken file never replaces a good one.
//!
//! [`Reload`] decides and is pure; [`watch_thresholds`] reads the file every few seconds. The whole
//! file is read and its hash compared, so that ConfigMap mounts (which swap a symlink), editors
//! (which rename) and copies (which write in place) all work alike, and nothing depends on events
//! that can be lost. A new content counts only when two reads in a row agree: half of a YAML file
//! is often valid YAML, and it could hold the half without the limits.

use super::{Thresholds, load::read_text, thresholds::text_hash};
use crate::{
    clock::Clock,
    domain::{Seconds, ThresholdsState},
};
use std::{
    future::Future,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{sync::watch, task::JoinHandle};

/// Time between two reads of the file.
pub const RELOAD_EVERY: Duration = Duration::from_secs(2);
/// A read that takes longer has failed: the volume hangs.
const READ_DEADLINE: Duration = Duration::from_secs(5);

/// The thresholds in force, and why a newer file is not, if there is one.
#[derive(Debug, Clone, PartialEq)]
pub struct ActiveThresholds {
    /// The thresholds.
    pub thresholds: Arc<Thresholds>,
    /// Their hash and age, and why the file that lies there now was rejected.
    pub state: ThresholdsState,
}

/// What became of a text that was offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reloaded {
    /// It is what is known already.
    Unchanged,
    /// It is new, and must be read the same once more.
    Settling,
    /// It is in force now.
    Active,
    /// It is not in force, and the old one stays.
    Rejected {
        /// All its faults, or why it cannot be read.
        why: String,
    },
}

/// What was read: a text, no file, or a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Text(String),
    Gone,
    Failed(String),
}

/// Decides which thresholds are in force. Pure: texts and times go in.
#[derive(Debug, Clone)]
pub struct Reload {
    title: String,
    active: Arc<Thresholds>,
    loaded: Seconds,
    rejected: Option<String>,
    /// What the last decision was made on; texts as their hash.
    decided: Seen,
    settling: Option<Seen>,
}

impl Reload {
    /// Begins with thresholds that were read at `now` from `text`; `None`: there is no file.
    /// `title` names the file in faults.
    pub fn new(title: impl Into<String>, thresholds: Thresholds, text: Option<&str>, now: Seconds) -> Self {
        Self {
            title: title.into(),
            active: Arc::new(thresholds),
            loaded: now,
            rejected: None,
            decided: text.map_or(Seen::Gone, |t| Seen::Text(text_hash(t))),
            settling: None,
        }
    }

    /// Looks at what the file holds now, or why it cannot be read.
    pub fn offer(&mut self, read: Result<&str, &io::Error>, now: Seconds) -> Reloaded {
        let seen = match read {
            Ok(text) => Seen::Text(text_hash(text)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Seen::Gone,
            Err(e) => Seen::Failed(e.to_string()),
        };
        if seen == self.decided {
            self.settling = None;
            return Reloaded::Unchanged;
        }
        if self.settling.as_ref() != Some(&seen) {
            self.settling = Some(seen);
            return Reloaded::Settling;
        }
        self.settling = None;
        let verdict = match (&seen, read) {
            (Seen::Text(hash), _) if *hash == self.active.hash() => Ok(None),
            (_, Ok(text)) => Thresholds::parse(&self.title, text).map(Some).map_err(|faults| faults.to_string()),
            (Seen::Gone, _) => {
                Err(format!("{}: the file is gone: put it back; the thresholds in force stay", self.title))
            }
            (_, Err(e)) => Err(format!("{}: cannot read it: {e}", self.title)),
        };
        self.decided = seen;
        match verdict {
            Ok(parsed) => {
                if let Some(thresholds) = parsed {
                    self.active = Arc::new(thresholds);
                    self.loaded = now;
                }
                self.rejected = None;
                Reloaded::Active
            }
            Err(why) => {
                self.rejected = Some(why.clone());
                Reloaded::Rejected { why }
            }
        }
    }

    /// The thresholds in force.
    pub fn active(&self) -> ActiveThresholds {
        ActiveThresholds {
            thresholds: Arc::clone(&self.active),
            state: ThresholdsState { hash: self.active.hash(), loaded: self.loaded, rejected: self.rejected.clone() },
        }
    }
}

/// Watches a thresholds file: spawn the future, read the receiver. The receiver changes when new
/// thresholds are in force and when a file is rejected; each change is one line in the log. The
/// future ends when nobody holds a receiver any more.
pub fn watch_thresholds(
    path: PathBuf,
    mut reload: Reload,
    clock: Clock,
) -> (watch::Receiver<Arc<ActiveThresholds>>, impl Future<Output = ()> + Send) {
    let (tx, rx) = watch::channel(Arc::new(reload.active()));
    let watching = async move {
        let mut running = None;
        loop {
            tokio::select! {
                () = tx.closed() => return,
                () = tokio::time::sleep(RELOAD_EVERY) => {}
            }
            let read = read_soon(&mut running, &path).await;
            match reload.offer(read.as_deref(), clock.now()) {
                Reloaded::Unchanged | Reloaded::Settling => continue,
                Reloaded::Active => {
                    let active = reload.active();
                    tracing::info!(
                        hash = active.state.hash,
                        policies = active.thresholds.policies.len(),
                        "thresholds are in force"
                    );
                }
                Reloaded::Rejected { why } => {
                    tracing::error!(
                        in_force = reload.active().state.hash,
                        "the thresholds file was rejected, the old one stays:\n{why}"
                    );
                }
            }
            tx.send_replace(Arc::new(reload.active()));
        }
    };
    (rx, watching)
}

/// Reads with a deadline. A read that hangs is waited for the next time; it is not doubled.
async fn read_soon(running: &mut Option<JoinHandle<io::Result<String>>>, path: &Path) -> io::Result<String> {
    let path = path.to_owned();
    let task = running.get_or_insert_with(|| tokio::task::spawn_blocking(move || read_text(&path)));
    match tokio::time::timeout(READ_DEADLINE, &mut *task).await {
        Ok(done) => {
            *running = None;
            done.unwrap_or_else(|_| Err(io::Error::other("the reading task was stopped")))
        }
        Err(_) => {
            let message = format!("no answer within {} s", READ_DEADLINE.as_secs());
            Err(io::Error::new(io::ErrorKind::TimedOut, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Mode;

    const OBSERVE: &str = "apiVersion: lastgood.dev/v1\nkind: Thresholds\n";
    const ACT: &str = "apiVersion: lastgood.dev/v1\nkind: Thresholds\ndefaults: {mode: act}\n";

    fn reload(text: &str) -> Reload {
        Reload::new("t.yaml", Thresholds::parse("t.yaml", text).unwrap(), Some(text), 100.0)
    }

    fn mode(r: &Reload) -> Mode {
        r.active().thresholds.defaults.mode
    }

    #[test]
    fn a_new_text_is_in_force_once_it_was_read_twice_the_same() {
        let mut r = reload(OBSERVE);
        assert_eq!(r.offer(Ok(OBSERVE), 101.0), Reloaded::Unchanged);
        assert_eq!(r.offer(Ok(ACT), 102.0), Reloaded::Settling);
        assert_eq!(mode(&r), Mode::Observe);
        assert_eq!(r.offer(Ok(ACT), 104.0), Reloaded::Active);
        assert_eq!(mode(&r), Mode::Act);
        let state = r.active().state;
        assert_eq!((state.hash, state.loaded, state.rejected), (text_hash(ACT), 104.0, None));
        assert_eq!(r.offer(Ok(ACT), 106.0), Reloaded::Unchanged);
    }

    #[test]
    fn half_a_file_is_never_in_force() {
        let full = format!("{ACT}policies:\n- name: a\n  match: {{}}\n  mode: observe\n");
        let mut r = reload(&full);
        for cut in (0..full.len()).step_by(7) {
            assert_eq!(r.offer(Ok(&full[..cut]), 101.0), Reloaded::Settling, "{cut}");
        }
        assert_eq!(r.offer(Ok(&full), 102.0), Reloaded::Unchanged);
        assert_eq!(r.active().state.rejected, None);
    }

    #[test]
    fn what_is_broken_is_rejected_and_the_old_stays() {
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        let gone = io::Error::from(io::ErrorKind::NotFound);
        let garbage = "\u{0}\u{1}garbage";
        let cases: [(Result<&str, &io::Error>, &str); 6] = [
            (Ok(""), "t.yaml: the file is empty"),
            (Ok("# all gone\n"), "the file is empty"),
            (Ok(garbage), "is not YAML"),
            (
                Ok("apiVersion: lastgood.dev/v1\nkind: Thresholds\ndefaults: {mood: act}\n"),
                "t.yaml:3:12: unknown key \"mood\": did you mean \"mode\"?",
            ),
            (Err(&gone), "the file is gone"),
            (Err(&denied), "permission denied"),
        ];
        for (read, says) in cases {
            let mut r = reload(ACT);
            assert_eq!(r.offer(read, 101.0), Reloaded::Settling);
            let Reloaded::Rejected { why } = r.offer(read, 102.0) else { panic!("{read:?} was not rejected") };
            assert!(why.contains(says), "{why}");
            let state = r.active().state;
            assert_eq!((mode(&r), state.loaded, state.hash), (Mode::Act, 100.0, text_hash(ACT)));
            assert_eq!(state.rejected.as_deref(), Some(why.as_str()));
            assert_eq!(r.offer(read, 103.0), Reloaded::Unchanged, "told once");
            // The good text is back: no longer rejected, and as old as it was.
            assert_eq!(r.offer(Ok(ACT), 104.0), Reloaded::Settling);
            assert_eq!(r.offer(Ok(ACT), 105.0), Reloaded::Active);
            assert_eq!((r.active().state.rejected, r.active().state.loaded), (None, 100.0));
        }
    }

    #[test]
    fn a_file_that_appears_later_is_taken_up() {
        let mut r = Reload::new("t.yaml", Thresholds::default(), None, 0.0);
        let gone = io::Error::from(io::ErrorKind::NotFound);
        assert_eq!(r.offer(Err(&gone), 1.0), Reloaded::Unchanged);
        assert_eq!(r.offer(Ok(ACT), 2.0), Reloaded::Settling);
        assert_eq!(r.offer(Ok(ACT), 3.0), Reloaded::Active);
    }

    /// As a ConfigMap volume does it: the file is a link through `..data`, which is swapped.
    fn mount(dir: &Path, version: &str, text: &[u8]) {
        let folder = dir.join(version);
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("thresholds.yaml"), text).unwrap();
        let next = dir.join("..data_tmp");
        std::os::unix::fs::symlink(version, &next).unwrap();
        std::fs::rename(&next, dir.join("..data")).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn fault_71_the_file_is_followed_through_symlink_swaps_and_garbage() {
        let dir = tempfile::tempdir().unwrap();
        mount(dir.path(), "v1", OBSERVE.as_bytes());
        let path = dir.path().join("thresholds.yaml");
        std::os::unix::fs::symlink("..data/thresholds.yaml", &path).unwrap();
        let clock = Clock::starting_at("2026-01-01T00:00:00Z".parse().unwrap());
        let start = clock.now();
        let first = Reload::new("thresholds.yaml", Thresholds::parse("t", OBSERVE).unwrap(), Some(OBSERVE), start);
        let (mut rx, watching) = watch_thresholds(path.clone(), first, clock);
        let task = tokio::spawn(watching);
        assert_eq!(rx.borrow_and_update().thresholds.defaults.mode, Mode::Observe);

        mount(dir.path(), "v2", ACT.as_bytes());
        rx.changed().await.unwrap();
        let active = rx.borrow_and_update().clone();
        assert_eq!(active.thresholds.defaults.mode, Mode::Act);
        assert!(active.state.loaded >= start + 4.0, "two reads of two seconds");

        for (version, bytes, says) in [
            ("v3", b"".as_slice(), "the file is empty"),
            ("v4", b"\xff\xfe\x00", "not UTF-8"),
            ("v5", b"a: [", "not valid YAML"),
        ] {
            mount(dir.path(), version, bytes);
            rx.changed().await.unwrap();
            let rejected = rx.borrow_and_update().clone();
            assert!(rejected.state.rejected.as_ref().is_some_and(|why| why.contains(says)), "{:?}", rejected.state);
            assert_eq!((rejected.thresholds.defaults.mode, &rejected.state.hash), (Mode::Act, &active.state.hash));
        }
        std::fs::remove_file(dir.path().join("..data")).unwrap();
        rx.changed().await.unwrap();
        assert!(rx.borrow_and_update().state.rejected.as_ref().is_some_and(|why| why.contains("the file is gone")));

        std::fs::remove_dir_all(dir.path().join("v1")).unwrap();
        mount(dir.path(), "v1", OBSERVE.as_bytes());
        rx.changed().await.unwrap();
        let back = rx.borrow_and_update().clone();
        assert_eq!((back.thresholds.defaults.mode, back.state.rejected.as_deref()), (Mode::Observe, None));

        drop(rx);
        task.await.unwrap();
    }
}
