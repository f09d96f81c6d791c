//! `lastgood demo --fast`: the whole daemon on the simulated cluster, from the first deploy to the last report.

use std::{path::Path, process::Command};

/// Plays the demo; its output and the names of the reports.
fn play(reports: &Path) -> (String, Vec<String>) {
    let done = Command::new(env!("CARGO_BIN_EXE_lastgood"))
        .args(["demo", "--fast", "--reports"])
        .arg(reports)
        .env("LC_ALL", "C")
        .output()
        .expect("it starts");
    let said = String::from_utf8(done.stdout).expect("text");
    assert!(done.status.success(), "{}:\n{said}{}", done.status, String::from_utf8_lossy(&done.stderr));
    let files = std::fs::read_dir(reports).expect("reports").map(|file| file.expect("a file").file_name());
    (said, files.map(|name| name.to_string_lossy().into_owned()).collect())
}

/// Without what differs between two days: dates, and where the reports lie.
fn timeless(said: &str, reports: &Path) -> String {
    let is_date = |word: &str| word.starts_with("20") && word.contains('-') || word.ends_with('Z');
    let kept = said.lines().filter(|line| !line.contains(&*reports.to_string_lossy()));
    kept.flat_map(str::split_whitespace).filter(|word| !is_date(word)).collect::<Vec<_>>().join(" ")
}

#[test]
fn all_four_stories_end_as_they_should_and_twice_the_same_way() {
    let (one, two) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let ((said, reports), again) = std::thread::scope(|scope| {
        let again = scope.spawn(|| play(two.path()).0);
        (play(one.path()), again.join().expect("it plays"))
    });
    assert_eq!(said.lines().filter(|line| line.starts_with("+ ")).count(), 4, "{said}");
    // Long lines are broken between words.
    let words = said.split_whitespace().collect::<Vec<_>>().join(" ");
    for sentence in [
        "web: PASSED: ",
        "web: shop/web:2 is pinned as known good: it passed its trial",
        "checkout: BAD: 12 % of ",
        "checkout: UNDONE: ",
        "mail: BAD: 1 of 1 new pod crashes again and again",
        "mail: UNDONE: ",
        "web: HELD, not undone: ",
        "but old pods failed as well while they served",
    ] {
        assert!(words.contains(sentence), "{sentence} is missing in\n{said}");
    }
    assert!(!said.contains('\x1b'), "no colour without a terminal");
    assert_eq!(reports.len(), 2, "{reports:?}");
    assert_eq!(timeless(&said, one.path()), timeless(&again, two.path()));
}
