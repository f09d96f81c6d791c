//! The stories, read as data: which of the numbered fault cases are shown on the real control plane.
//!
//! A story says so by `faults: [7, 41]`. The numbers are those of the catalogue of fault cases that the
//! invariants (top of `src/lib.rs`) are held against.

use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

/// The last number of the catalogue.
const LAST: u64 = 72;

/// Cases that only a real API server, real controllers and real processes can show. Taking one away is a
/// decision, and needs its reason here.
const NEEDED: [u64; 38] = [
    // Crashes, signals and frozen processes.
    1, 2, 3, 4, 5, 6, 7, 8, // Answers and staleness of the API server.
    13, 14, 18, 19, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 33, 34, // Two leaders.
    36, 37, 41, // Semantics of the three kinds.
    58, 59, 60, 61, 63, 64, 65, 67, // Brakes, notices, configuration.
    52, 69, 71,
];

fn stories() -> BTreeMap<String, Value> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/stories");
    let files = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let stories: BTreeMap<String, Value> = files
        .map(|file| file.expect("a file").path())
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            let story = serde_saphyr::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            (path.file_stem().expect("a name").to_string_lossy().into_owned(), story)
        })
        .collect();
    assert!(stories.len() > 40, "only {} stories were found", stories.len());
    stories
}

fn faults(story: &Value) -> Vec<u64> {
    story["faults"].as_array().into_iter().flatten().filter_map(Value::as_u64).collect()
}

#[test]
fn every_fault_case_that_needs_a_real_control_plane_has_a_story() {
    let shown: BTreeSet<u64> = stories().values().flat_map(faults).collect();
    let missing: Vec<u64> = NEEDED.into_iter().filter(|case| !shown.contains(case)).collect();
    assert!(missing.is_empty(), "no story shows the fault cases {missing:?}");
}

#[test]
fn fault_cases_are_numbers_of_the_catalogue() {
    for (name, story) in stories() {
        let wrong: Vec<u64> = faults(&story).into_iter().filter(|case| !(1..=LAST).contains(case)).collect();
        assert!(wrong.is_empty(), "{name}: there are no fault cases {wrong:?}");
        let said = story.get("faults").map_or(0, |f| f.as_array().map_or(0, Vec::len));
        assert_eq!(said, faults(&story).len(), "{name}: `faults` is a list of numbers");
    }
}

#[test]
fn no_two_stories_have_one_number() {
    let mut seen = BTreeMap::new();
    for name in stories().into_keys() {
        let number = name.split('-').next().unwrap_or_default().to_owned();
        assert!(number.len() >= 2 && number.bytes().all(|b| b.is_ascii_digit()), "{name} begins with no number");
        if let Some(other) = seen.insert(number, name.clone()) {
            panic!("{other} and {name} have the same number");
        }
    }
}
