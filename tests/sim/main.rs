//! Whole stories in the simulated cluster, in paused time: real daemons, crashes at every write, generated sequences of
//! what people do, stale and lost messages; and the invariants I1 to I18 held against what happened.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "all of it is test code, and tells its counts")]

mod crashes;
mod faults;
mod generated;
mod invariants;
mod life;
mod play;
mod replayed;
mod story;
mod team;

use play::{Plan, Played, play, unexpected};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Mutex,
};
use story::Story;

/// Does something with each item on all cores; gathers what went wrong, in order.
fn each<T: Sync>(items: &[T], check: impl Fn(&T) -> Vec<String> + Sync) -> Vec<String> {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let wrong = Mutex::new(Vec::new());
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while let Some((at, item)) = {
                    let at = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    items.get(at).map(|item| (at, item))
                } {
                    let checked = catch_unwind(AssertUnwindSafe(|| check(item))).unwrap_or_else(|panic| {
                        let said = panic.downcast_ref::<String>().cloned();
                        vec![said.or(panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default()]
                    });
                    wrong.lock().unwrap().push((at, checked));
                }
            });
        }
    });
    let mut wrong = wrong.into_inner().unwrap();
    wrong.sort();
    wrong.into_iter().flat_map(|(_, texts)| texts).collect()
}

/// What is wrong with how a story ended.
fn wrong(played: &Played, story: &Story) -> Vec<String> {
    let broken = invariants::broken(&played.evidence).into_iter().map(|b| format!("{} is broken: {}", b.0, b.1));
    let named = |what: String| format!("{}: {what}", story.name);
    broken.chain(unexpected(played, story)).map(named).collect()
}

#[test]
fn stories_end_as_they_should() {
    let only = std::env::var("SIM_STORY").ok();
    let stories: Vec<Story> = story::all().into_iter().filter(|s| only.as_ref().is_none_or(|o| s.name == *o)).collect();
    let wrong = each(&stories, |story| {
        let began = std::time::Instant::now();
        let played = play(story, &Plan { record: true, ..Plan::default() });
        let mut wrong = wrong(&played, story);
        wrong.extend(replayed::otherwise(&played, story).into_iter().map(|what| format!("{}: {what}", story.name)));
        let (took, writes) = (began.elapsed().as_millis(), played.writes.len());
        println!("{took:>6} ms {writes:>4} writes  {} {:?}: {}", story.name, story.faults, story.description);
        wrong
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
