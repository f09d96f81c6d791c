//! Parsers of text from outside meet arbitrary bytes, and valid documents of `tests/corpus` that were mangled:
//! nothing panics, nothing hangs, and what is wrong with a file has a place.
//!
//! Parsers that only their own folder may name have their tests there, and take [`mangled`] from here.

use crate::{
    cluster::of_raw,
    config::{Settings, Thresholds, parse_duration},
    domain::{Kind, Revision, WorkloadId},
    record::{Incident, incident_name},
    report::{Context, file_name, markdown, text},
};
use kube::{api::DynamicObject, core::DeserializeGuard};
use proptest::{prelude::*, sample::Index};
use std::{fs, path::Path, time::Instant};

/// Documents are small, so a parser that takes this long hangs or is not linear.
const SOON: u64 = 5;

/// Pieces that mean something to one parser or another.
const WORDS: [&str; 28] = [
    ": ",
    "- ",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "'",
    "\n",
    "\t",
    "\0",
    "&a ",
    "*a",
    "!!str ",
    "<<: *base",
    "|\n",
    "#",
    "\\",
    ",",
    "NaN",
    "1e999",
    "-1",
    "999999999999999999999",
    "null",
    "é",
    "\u{202e}",
    "5%",
    "1h",
];

/// Every document of a folder of the corpus.
pub(crate) fn corpus(folder: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(folder);
    let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} has no documents", folder.display());
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

#[derive(Debug, Clone)]
enum Change {
    Flip(Index, u8),
    Cut(Index, Index),
    Repeat(Index, Index, u8),
    Insert(Index, &'static str),
    Swap(Index, Index, Index),
    End(Index),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(a, b)| Change::Flip(a, b)),
        (at(), at()).prop_map(|(a, b)| Change::Cut(a, b)),
        (at(), at(), 1u8..20).prop_map(|(a, b, n)| Change::Repeat(a, b, n)),
        (at(), prop::sample::select(WORDS.to_vec())).prop_map(|(a, w)| Change::Insert(a, w)),
        (at(), at(), at()).prop_map(|(a, b, c)| Change::Swap(a, b, c)),
        at().prop_map(Change::End),
    ]
}

fn apply(mut text: Vec<u8>, change: &Change) -> Vec<u8> {
    let of = |index: &Index, text: &[u8]| index.index(text.len() + 1);
    let span = |a: &Index, b: &Index, text: &[u8]| {
        let (a, b) = (of(a, text), of(b, text));
        // Short spans change a document; long ones mostly destroy it.
        let from = a.min(b);
        from..a.max(b).min(from + 40)
    };
    match change {
        Change::Flip(at, to) => {
            let at = of(at, &text);
            if let Some(byte) = text.get_mut(at) {
                *byte = *to;
            }
        }
        Change::Cut(a, b) => drop(text.drain(span(a, b, &text))),
        Change::Repeat(a, b, times) => {
            let span = span(a, b, &text);
            let piece = text[span.clone()].repeat(usize::from(*times));
            text.splice(span.end..span.end, piece);
        }
        Change::Insert(at, word) => {
            let at = of(at, &text);
            text.splice(at..at, word.bytes());
        }
        Change::Swap(a, b, to) => {
            let piece: Vec<u8> = text.drain(span(a, b, &text)).collect();
            let to = of(to, &text);
            text.splice(to..to, piece);
        }
        Change::End(at) => text.truncate(of(at, &text)),
    }
    text
}

/// A document of a folder of the corpus with one to five changes, or, one time in eight, arbitrary bytes.
pub(crate) fn mangled(folder: &str) -> impl Strategy<Value = Vec<u8>> + use<> {
    let document = (prop::sample::select(corpus(folder)), prop::collection::vec(change(), 1..6));
    prop_oneof![
        7 => document.prop_map(|(text, changes)| changes.iter().fold(text, apply)),
        1 => prop::collection::vec(any::<u8>(), 0..400),
    ]
}

/// As [`mangled`], for parsers that are given text: what is not UTF-8 becomes what a lossy reader makes of it.
pub(crate) fn mangled_text(folder: &str) -> impl Strategy<Value = String> + use<> {
    mangled(folder).prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// Runs a parser and holds it to its time.
pub(crate) fn soon<T>(parse: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let parsed = parse();
    assert!(began.elapsed().as_secs() < SOON, "took {:?}", began.elapsed());
    parsed
}

/// A fault names the file, and a place in it that exists. Only what the text as a whole lacks has no place.
#[track_caller]
fn placed(text: &str, faults: &crate::config::Faults) {
    assert!(!faults.0.is_empty());
    // A lone carriage return ends a line of YAML, too.
    let lines = text.split(['\n', '\r']).count() as u64 + 1;
    for fault in &faults.0 {
        assert_eq!(fault.file, "f.yaml");
        assert!(!fault.message.is_empty() && fault.message.chars().count() < 2000, "{fault}");
        assert!(fault.line <= lines, "{fault}: the text has {lines} lines");
        assert!((fault.line == 0) == (fault.column == 0), "{fault}");
        let whole = ["the file is empty", "the file is too long"].iter().any(|what| fault.message.starts_with(what));
        assert!(fault.line > 0 || whole, "no place: {fault}");
    }
}

#[test]
fn what_is_in_the_corpus_is_valid() {
    for text in corpus("thresholds") {
        let text = String::from_utf8(text).unwrap();
        Thresholds::parse("f.yaml", &text).unwrap_or_else(|faults| panic!("{faults}\n{text}"));
    }
    for text in corpus("settings") {
        Settings::parse("f.yaml", &String::from_utf8(text).unwrap(), []).unwrap();
    }
    for json in corpus("incident") {
        serde_json::from_slice::<Incident>(&json).unwrap();
    }
    for (json, kind) in corpus("workload").iter().zip([Kind::DaemonSet, Kind::Deployment, Kind::StatefulSet]) {
        assert!(of_raw(kind, &serde_json::from_slice(json).unwrap()).is_some(), "{kind}");
    }
    for text in corpus("duration") {
        parse_duration(&String::from_utf8(text).unwrap()).unwrap();
    }
}

#[test]
fn long_and_deep_documents_end_soon() {
    let deep = |open: &str, close: &str| format!("a: {}1{}", open.repeat(20_000), close.repeat(20_000));
    let bomb = (1..12).fold("a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned(), |text, i| {
        text + &format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 9].join(", "))
    });
    let many_keys: String = (0..20_000).map(|i| format!("k{i}: {i}\n")).collect();
    for text in [
        deep("[", "]"),
        deep("{a: ", "}"),
        format!("a: {}1{}", "{a: ".repeat(60), "}".repeat(60)),
        "[".repeat(100_000),
        "- ".repeat(100_000),
        "a: ".repeat(50_000),
        format!("a: {}", "x".repeat(1 << 20)),
        format!("a: \"{}\"", "\\x41".repeat(1 << 18)),
        many_keys,
        bomb,
    ] {
        let faults = soon(|| Thresholds::parse("f.yaml", &text)).expect_err("nonsense");
        placed(&text, &faults);
        let faults = soon(|| Settings::parse("f.yaml", &text, [])).expect_err("nonsense");
        placed(&text, &faults);
    }
    let digits = "9".repeat(1 << 20);
    for text in [digits.clone(), format!("{digits}s"), "1h".repeat(1 << 18), "h".repeat(1 << 20)] {
        let _ = soon(|| parse_duration(&text));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mangled_thresholds_have_placed_faults(text in mangled_text("thresholds")) {
        match soon(|| Thresholds::parse("f.yaml", &text)) {
            Err(faults) => placed(&text, &faults),
            Ok(read) => for rules in read.policies.iter().map(|p| &p.rules).chain([&read.defaults]) {
                prop_assert!(rules.errors.max > 0.0 && rules.errors.max <= 1.0);
                prop_assert!(rules.latency.max_increase > 0.0 && rules.latency.max_increase.is_finite());
                prop_assert!(!rules.watch.is_zero());
            },
        }
    }

    #[test]
    fn mangled_settings_have_placed_faults(text in mangled_text("settings")) {
        if let Err(faults) = soon(|| Settings::parse("f.yaml", &text, [])) {
            placed(&text, &faults);
        }
    }

    #[test]
    fn mangled_durations_are_refused_or_bounded(text in mangled_text("duration")) {
        if let Err(why) = soon(|| parse_duration(&text)) {
            prop_assert!(why.contains("is not a duration"));
        }
    }

    #[test]
    fn mangled_workloads_are_viewed_or_left_out(json in mangled("workload")) {
        if let Ok(object) = serde_json::from_slice::<DynamicObject>(&json) {
            for kind in [Kind::Deployment, Kind::StatefulSet, Kind::DaemonSet] {
                if let Some(view) = soon(|| of_raw(kind, &object)) {
                    let _ = (view.undo_id(), view.mark.as_ref().map(|m| m.planned()), view.progress.complete());
                }
            }
        }
    }

    /// What another version, or a person with an editor, has made of an Incident is told, or left out.
    #[test]
    fn mangled_incidents_are_told_or_left_out(json in mangled("incident")) {
        if let Ok(guard) = serde_json::from_slice::<DeserializeGuard<Incident>>(&json)
            && let Ok(incident) = guard.0
        {
            let context = Context::default();
            let report = soon(|| markdown::render(&incident, &context));
            prop_assert!(report.starts_with('#'));
            let file = file_name(&incident, &context);
            prop_assert!(!file.contains('/') && !file.contains("..") && file.len() < 200, "{file}");
            prop_assert!(!text::headline(&incident).contains('\n'));
        }
    }

    /// Names of incidents are names of objects, whatever the workload is called.
    #[test]
    fn incident_names_are_dns_names(name in "[a-z0-9]([-a-z0-9]{0,60}[a-z0-9])?([.][a-z0-9]([-a-z0-9]{0,60}[a-z0-9])?){0,3}", uid in any::<String>(), bad in any::<String>()) {
        let made = incident_name(&WorkloadId::new("shop", Kind::Deployment, name), &uid, &Revision(bad));
        prop_assert!(made.len() <= 63, "{made}");
        prop_assert!(made.split('.').all(|part| {
            !part.is_empty() && !part.starts_with('-') && !part.ends_with('-')
                && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        }), "{made}");
    }
}
